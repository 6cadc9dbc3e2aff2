"""What the clients make of servers that die, freeze, refuse and stutter: nothing is lost, nothing is doubled."""

import signal
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from eventlog import Event, EventLog, EventLogConfig, create_event_log
from eventlog.errors import BackendUnavailable, LogClosed
from eventlog.slots import SlotState
from tests.cli.program import Program
from tests.cli.serving import Server, free_port, serving
from tests.client.way import Way
from tests.client.worlds import COLOURS, Behind
from tests.contract.colours import Reading
from tests.contract.slots.queues import SLOT_COLOURS, InLine
from tests.support.redis_process import RedisProcess, eventually

Open = Callable[..., Any]


@pytest.fixture(params=list(COLOURS))
def colour(request: pytest.FixtureRequest) -> str:
    """Blocking, or on asyncio."""
    return str(request.param)


@pytest.fixture
def client(colour: str, workspace: str) -> Iterator[Open]:
    """Opens clients of a URL."""
    opened: list[Any] = []

    def open_client(url: str, **options: Any) -> Any:
        opened.append(COLOURS[colour](url, workspace, **options))
        return opened[-1]

    yield open_client
    for one in opened:
        one.close()


@pytest.fixture
def direct(shared: Behind, workspace: str) -> Iterator[EventLog]:
    """The log behind the shared server, straight on Redis."""
    with shared.direct(workspace) as log:
        yield log


@pytest.fixture
def way(shared: Behind) -> Iterator[Way]:
    """A way to the shared server."""
    with Way(shared.url) as opened:
        yield opened


@pytest.fixture
def process(redis_server: RedisProcess, workspace: str) -> Iterator[tuple[Server, EventLog]]:
    """A server in a process of its own, which may be killed, and its log straight on Redis."""
    variables = {
        "EVENTLOG_REDIS_URL": redis_server.url,
        "EVENTLOG_KEY_PREFIX": f"t{uuid.uuid4().hex[:12]}",
        "EVENTLOG_WORKSPACE": workspace,
    }
    with (
        create_event_log("redis", config=EventLogConfig.load(environ=variables)) as log,
        serving(Program(variables)) as server,
    ):
        yield server, log


def _kill_and_restart(server: Server) -> None:
    running, server.running = server.running, None
    assert running is not None
    with running:
        running.signal(signal.SIGKILL)
        running.end()
    server.start()


@pytest.mark.chaos
def test_no_append_is_lost_or_doubled_while_the_server_is_killed(
    process: tuple[Server, EventLog], client: Open
) -> None:
    server, log = process
    client = client(server.url, deadline_seconds=30.0)
    done = threading.Event()

    def work(worker: int) -> list[Event]:
        appended: list[Event] = []
        while not done.is_set():
            n = len(appended)
            if n % 5:
                appended.append(client.append("a", {"w": worker, "n": n}))
            else:
                appended += client.append_many([{"kind": "a", "payload": {"w": worker, "n": n + i}} for i in range(3)])
        return appended

    with ThreadPoolExecutor(4) as pool:
        working = [pool.submit(work, worker) for worker in range(4)]
        for _ in range(3):
            before = log.info().last_offset
            eventually(lambda before=before: log.info().last_offset > before + 20, "it goes on")
            _kill_and_restart(server)
        done.set()
        appended = [event for one in working for event in one.result(60)]
    stored = log.query()
    assert sorted(appended, key=lambda event: event.offset) == stored
    assert not any(event.duplicate for event in appended)
    named = [(event.payload["w"], event.payload["n"]) for event in stored]
    assert len(set(named)) == len(named)


@pytest.mark.chaos
def test_a_follower_sees_each_event_once_while_the_server_is_killed(
    process: tuple[Server, EventLog], client: Open
) -> None:
    server, log = process
    gaps: list[Any] = []
    with Reading(client(server.url).follow(0, on_gap=gaps.append)) as reading:
        for n in range(3):
            log.append_many([{"kind": "a"}] * 500)
            eventually(lambda n=n: len(reading.events) > 500 * n, "some are seen")
            _kill_and_restart(server)
        log.append("last")
        eventually(lambda: len(reading.events) >= 1501, "all are seen")
    assert reading.events == log.query()
    assert gaps == []


@pytest.mark.chaos
def test_a_stream_that_is_cut_fifty_times_hands_out_each_event_once(way: Way, client: Open, direct: EventLog) -> None:
    way.cut_after_bytes = 2500
    gaps: list[Any] = []
    appended = direct.append_many([{"kind": kind, "payload": {"n": n}} for n in range(1000) for kind in ("a", "b")])
    client = client(way.url)
    given: list[Event] = []
    following = client.follow(0, kind="a", on_gap=gaps.append)
    for event in following:
        given.append(event)
        if len(given) == 1000:
            break
    following.close()
    assert given == appended[::2]
    assert gaps == []
    assert way.cuts >= 50


def test_lost_answers_cost_no_second_event(way: Way, client: Open, direct: EventLog) -> None:
    way.answers_to_lose = 4
    client = client(way.url)
    first = client.append("once", run_id="r")
    rest = client.append_many([{"kind": "a"}, {"kind": "b"}])
    tracked = client.track_event("c", {"n": 1}, "r")
    assert way.answers_to_lose == 0
    assert [first, *rest, tracked] == direct.query()
    assert not any(event.duplicate for event in [first, *rest, tracked])


def test_lost_answers_cost_no_second_sample(way: Way, client: Open, direct: EventLog) -> None:
    direct.append("run.started", run_id="r")
    client = client(way.url)
    way.answers_to_lose = 3
    pushed = client.push_telemetry("r", [{"host": {"rss_bytes": n}, "stage_name": f"s{n % 2}"} for n in range(4)])
    assert way.answers_to_lose == 0
    assert [sample.seq for sample in pushed] == [1, 2, 3, 4]
    page = client.telemetry("r")
    assert page == direct.telemetry("r")
    assert page.samples == pushed
    assert client.telemetry("r", from_seq=1, stage_name="s1", limit=1) == direct.telemetry(
        "r", from_seq=1, stage_name="s1", limit=1
    )
    way.answers_to_lose = 1
    (kept,) = client.push_telemetry("r", [{"guest": {}}], idempotency_key="k")
    (again,) = client.push_telemetry("r", [{"host": {}}], idempotency_key="k")
    assert (again, again.duplicate) == (kept, True)


def test_what_may_not_be_repeated_is_sent_once(way: Way, client: Open, direct: EventLog) -> None:
    direct.append("a")
    client = client(way.url)
    way.answers_503 = 1
    with pytest.raises(BackendUnavailable) as refused:
        client.clear()
    assert refused.value.outcome_unknown, "whoever answered in between knows nothing of it"
    way.answers_to_lose = 1
    with pytest.raises(BackendUnavailable) as told:
        client.clear()
    assert told.value.outcome_unknown
    eventually(lambda: direct.query() == [], "it was carried out")
    direct.append("b")
    assert [event.kind for event in client.query()] == ["b"]


def test_503s_are_waited_out_within_the_deadline(way: Way, client: Open, direct: EventLog) -> None:
    way.answers_503 = 3
    client = client(way.url)
    assert [client.append("a")] == direct.query()
    way.answers_503 = 10**9
    hasty = COLOURS["sync"](way.url, direct.workspace, deadline_seconds=0.4)
    try:
        with pytest.raises(BackendUnavailable):
            hasty.append("b")
    finally:
        hasty.close()


def test_a_server_that_froze_is_told_within_the_deadline_and_found_again(
    way: Way, client: Open, direct: EventLog
) -> None:
    client = client(way.url, deadline_seconds=0.5)
    client.append("a")
    way.freeze()
    began = time.monotonic()
    with pytest.raises(BackendUnavailable) as told:
        client.append("b")
    assert told.value.outcome_unknown
    with pytest.raises(BackendUnavailable):
        next(iter(client.follow(0, patience_s=0.2)))
    assert time.monotonic() - began < 8
    way.thaw()
    client.append("c")
    kinds = [event.kind for event in direct.query()]
    assert kinds in (["a", "c"], ["a", "b", "c"], ["a", "c", "b"])


def test_a_follower_that_is_left_closes_its_connection(way: Way, client: Open, direct: EventLog) -> None:
    direct.append_many([{"kind": "a"}] * 3)
    client = client(way.url)
    following = client.follow(0)
    for event in following:
        if event.offset == 2:
            assert way.open == 1
            break
    following.close()
    eventually(lambda: way.open == 0, "no stream is open")


def test_closing_the_client_ends_those_who_follow_and_those_who_wait(
    shared: Behind, client: Open, colour: str, direct: EventLog
) -> None:
    client = client(shared.url)
    slots: Any = SLOT_COLOURS[colour](client)
    held = direct.slots().acquire("build", "e1", max_concurrent=1)
    waiting = InLine(slots, "build", "e2", max_concurrent=1)
    reading = Reading(client.follow(0))
    with reading:
        waiting._thread.start()
        line = direct.slots()
        eventually(lambda: line.state("build", "e2").state == "queued", "it waits")
        eventually(lambda: bool(reading.events), "it follows")
        began = time.monotonic()
        client.shut()
        with pytest.raises(LogClosed):
            waiting.join()
        assert time.monotonic() - began < 5
        eventually(lambda: reading.ended, "the iteration is over")
        assert line.state("build", "e2").state == "none", "who waits no longer has left the line"
        for call in (
            lambda: client.append("a"),
            client.query,
            client.info,
            lambda: slots.acquire("build", "e3"),
            slots.queues,
        ):
            with pytest.raises(LogClosed):
                call()
    held.release()


@pytest.mark.chaos
def test_a_holder_outlives_a_server_that_is_killed(process: tuple[Server, EventLog], client: Open, colour: str) -> None:
    server, log = process
    client = client(server.url)
    slots: Any = SLOT_COLOURS[colour](client)
    direct = log.slots()
    slot = slots.acquire("build", "e1", max_concurrent=1, lease_s=6)
    with InLine(slots, "build", "e2", max_concurrent=1) as waiter:
        _kill_and_restart(server)
        before: SlotState = direct.state("build", "e1")
        eventually(
            lambda: direct.state("build", "e1").lease_expires_at > before.lease_expires_at, "it goes on renewing"
        )
        assert slot.valid
        assert slot.release() is True
        second = waiter.join()
    assert second.fencing_token > slot.fencing_token


def test_who_never_reached_the_server_takes_nothing_from_the_execution_it_asked_for(
    client: Open, colour: str, workspace: str
) -> None:
    client = client(f"http://127.0.0.1:{free_port()}", deadline_seconds=0.3)
    slots: Any = SLOT_COLOURS[colour](client)
    for ask in (slots.acquire, slots.try_acquire):
        with pytest.raises(BackendUnavailable) as told:
            ask("build", "e1")
        assert not told.value.outcome_unknown
    assert slots.queue.keeper._schedule.is_empty, (
        "nothing is owed: the execution may hold a slot that somebody else asked for"
    )


@pytest.mark.parametrize("colour", ["async"])
def test_an_iteration_that_begins_now_waits_for_a_server_that_comes(
    process: tuple[Server, EventLog], client: Open
) -> None:
    server, log = process
    server.stop()
    with Reading(client(server.url, deadline_seconds=0.3).follow()) as reading:
        server.start()

        def given() -> bool:
            log.append("a")
            return bool(reading.events)

        eventually(given, "it is given what comes")


def test_a_release_whose_answer_is_lost_is_a_release(way: Way, client: Open, colour: str, direct: EventLog) -> None:
    slots: Any = SLOT_COLOURS[colour](client(way.url))
    slot = slots.acquire("build", "e1", max_concurrent=1)
    way.answers_to_lose = 1
    assert slot.release() is True
    assert way.answers_to_lose == 0
    assert direct.slots().stats("build").active_count == 0

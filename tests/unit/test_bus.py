"""A bus of its own, without a log: what is emitted reaches everybody who wants it, in order, each once."""

import asyncio
import gc
import logging
import os
import threading
import time
from collections.abc import Callable
from itertools import islice
from typing import Any

import pytest

from eventlog import Event, Gap, create_event_log
from eventlog.bus import shared
from eventlog.bus.bus import EventBus
from eventlog.bus.mailbox import Mailbox
from eventlog.bus.port import ThreadPort
from eventlog.client import AsyncEventLogClient, EventLogClient
from eventlog.errors import FellBehind, InvalidInput, LogClosed
from eventlog.model import Body
from eventlog.model.guard import ContentGuard


def kinds(events: list[Event]) -> list[str]:
    return [event.kind for event in events]


def test_an_event_is_queued_for_everybody_when_emit_returns() -> None:
    bus = EventBus()
    one, other = bus.subscribe(), bus.subscribe()
    event = bus.emit({"kind": "a", "payload": {"n": 1}, "run_id": "r"}).event
    assert event is not None
    assert (event.offset, event.seq, event.lane_id) == (1, 1, "main")
    bus.close()
    assert list(one) == list(other) == [event]


def test_seqs_are_dense_in_each_lane_of_each_run_and_ids_grow() -> None:
    times = iter([5.0, 5.0, 4.0, 6.0, 6.0])
    bus = EventBus(clock=lambda: next(times))
    given = [("r", "main"), ("r", "other"), ("r", "main"), ("s", "main"), (None, None)]
    events = [bus.emit_sync({"kind": "a", "run_id": run, "lane_id": lane}) for run, lane in given]
    assert [event and event.seq for event in events] == [1, 1, 2, 1, None]
    assert [event and event.id for event in events] == ["5000-1", "5000-2", "5000-3", "6000-4", "6000-5"]


def test_an_event_that_a_producer_made_is_kept_as_it_is_and_seqs_go_on_behind_it() -> None:
    bus = EventBus()
    made = Event(77, 500, Body.of("a", {"n": 1}, run_id="r"), seq=bus.next_seq())
    assert bus.emit(made).event == made
    assert bus.replay() == [made]
    after = bus.emit_sync(Body.of("a", run_id="r"))
    assert after is not None
    assert after.seq == 2


def test_next_seq_counts_each_lane_for_itself_among_threads_too() -> None:
    bus = EventBus()
    assert [bus.next_seq(), bus.next_seq(), bus.next_seq("other"), bus.next_seq()] == [1, 2, 1, 3]
    taken: list[int] = []
    threads = [threading.Thread(target=lambda: taken.extend(bus.next_seq("t") for _ in range(500))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(taken) == list(range(1, 2001))
    with pytest.raises(InvalidInput, match="lane_id"):
        bus.next_seq("not a lane")


def test_emit_can_be_awaited_and_is_done_before() -> None:
    async def main() -> None:
        async with EventBus() as bus:
            subscription = bus.subscribe()
            emission = bus.emit({"kind": "a"})
            assert emission.done
            assert await emission == emission.event
            assert await anext(subscription) == emission.event

    asyncio.run(main())


def test_what_one_reader_does_to_a_payload_shows_nowhere_else() -> None:
    bus = EventBus()
    one, other = bus.subscribe(), bus.subscribe()
    emitted = bus.emit_sync({"kind": "a", "payload": {"n": 1}})
    assert emitted is not None
    emitted.payload["n"] = 2
    next(one).payload["n"] = 3
    assert next(other).payload == {"n": 1}
    assert bus.replay()[0].payload == {"n": 1}


@pytest.mark.parametrize(
    "wrong", [{"payload": {}}, {"kind": "a b"}, {"kind": "a", "id": "1-1"}, 3, {"kind": "a", "payload": [1]}]
)
def test_bad_input_is_refused_and_not_published(wrong: object) -> None:
    bus = EventBus()
    with pytest.raises(InvalidInput):
        bus.emit(wrong)  # type: ignore[arg-type]
    assert bus.history_size == 0


def test_hidden_reasoning_is_not_published_and_the_producer_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    bus = EventBus(guard=ContentGuard(refused_fields=["chain_of_thought"]))
    subscription = bus.subscribe()
    hidden = {"steps": [{"chainOfThought": "first I"}]}
    with caplog.at_level(logging.WARNING, "eventlog"):
        assert bus.emit({"kind": "a", "payload": hidden}).event is None
        assert bus.emit_sync(Event(1, 1, Body.of("a", hidden))) is None
        assert asyncio.run(_awaited(bus, {"kind": "a", "payload": hidden})) is None
    assert "payload.steps[0].chainOfThought" in caplog.text
    assert "first I" not in caplog.text
    event = bus.emit_sync({"kind": "b"})
    bus.close()
    assert list(subscription) == [event]
    assert (bus.stats().emitted, bus.stats().refused) == (1, 3)


async def _awaited(bus: EventBus, event: dict[str, object]) -> Event | None:
    return await bus.emit(event)


def test_a_guard_that_redacts_does_so_for_events_too() -> None:
    bus = EventBus(guard=ContentGuard(redact=True))
    given = Event(3, 9, Body.of("a", {"password": "hunter2-hunter2"}, run_id="r"), seq=4)
    emitted = bus.emit_sync(given)
    assert emitted is not None
    assert (emitted.id, emitted.seq, emitted.payload) == ("3-9", 4, {"password": "[redacted]"})
    assert bus.replay()[0].payload == {"password": "[redacted]"}


@pytest.mark.parametrize(
    ("filters", "wanted"),
    [
        ({}, "abcdef"),
        ({"visibility": "public"}, "acdef"),
        ({"visibility": "internal"}, "abcdef"),
        ({"lane_id": "two"}, "c"),
        ({"kinds": ["a", "d"]}, "ad"),
        ({"kinds": "d*"}, "d"),
        ({"run_id": "r"}, "abc"),
        ({"run_id": "s", "kinds": ["x"]}, ""),
    ],
)
def test_a_subscription_is_given_what_passes_its_filters(filters: dict[str, object], wanted: str) -> None:
    bus = EventBus()
    live = bus.subscribe(**filters)  # type: ignore[arg-type]
    bus.emit({"kind": "a", "run_id": "r"})
    bus.emit({"kind": "b", "run_id": "r", "visibility": "internal"})
    bus.emit({"kind": "c", "run_id": "r", "lane_id": "two"})
    bus.emit({"kind": "d", "run_id": "s"})
    bus.emit({"kind": "e"})
    late = bus.subscribe(**filters)  # type: ignore[arg-type]
    bus.emit({"kind": "f"})
    bus.close()
    assert kinds(list(live)) == kinds(list(late)) == list(wanted)


@pytest.mark.parametrize("wrong", [{"visibility": "secret"}, {"run_id": "a b"}, {"lane_id": ""}, {"kinds": ["a b"]}])
def test_wrong_filters_are_named(wrong: dict[str, object]) -> None:
    with pytest.raises(InvalidInput):
        EventBus().subscribe(**wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("log", ["x", 5, object()])
def test_a_bus_needs_a_log(log: Any) -> None:
    with pytest.raises(InvalidInput, match=f"^log: a {type(log).__name__} is neither an EventLog nor an AsyncEventLog"):
        EventBus(log=log)


@pytest.mark.parametrize("client", [EventLogClient, AsyncEventLogClient])
def test_a_bus_needs_a_log_of_this_process(client: Any) -> None:
    with pytest.raises(InvalidInput, match=r"^log: is behind a server"):
        EventBus(log=client("http://localhost:1"))


@pytest.mark.parametrize(
    "wrong", [{"max_queue_size": 0}, {"max_history": -1}, {"max_queue_size": True}, {"patience_s": -1.0}]
)
def test_wrong_bounds_are_named(wrong: dict[str, float]) -> None:
    with pytest.raises(InvalidInput, match=next(iter(wrong))):
        EventBus(**wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("end", ["run.finished", "run.failed", "run.error", "run.cancelled"])
def test_a_subscription_ends_after_the_end_of_its_run_and_not_of_another(end: str) -> None:
    bus = EventBus()
    subscription = bus.subscribe(run_id="r", kinds=["a"], lane_id="two")
    bus.emit({"kind": "run.finished", "run_id": "s"})
    bus.emit({"kind": "run.finished"})
    bus.emit({"kind": "a", "run_id": "r", "lane_id": "two"})
    bus.emit({"kind": "run.finished", "run_id": "rr"})
    bus.emit({"kind": end, "run_id": "r"})
    bus.emit({"kind": "a", "run_id": "r", "lane_id": "two"})
    assert kinds(list(subscription)) == ["a", end]
    assert bus.subscriber_count == 0


def test_an_end_that_a_reader_may_not_see_ends_its_subscription_all_the_same() -> None:
    bus = EventBus()
    subscription = bus.subscribe("public", run_id="r")
    bus.emit({"kind": "a", "run_id": "r"})
    bus.emit({"kind": "run.failed", "run_id": "r", "visibility": "private"})
    assert kinds(list(subscription)) == ["a"]
    assert kinds(list(bus.subscribe("public", run_id="r"))) == ["a"]


def test_who_subscribes_after_the_end_of_a_run_is_given_the_replay_and_the_end() -> None:
    bus = EventBus(max_history=2)
    for kind in ("a", "b", "run.finished"):
        bus.emit({"kind": kind, "run_id": "r"})
    assert kinds(list(bus.subscribe(run_id="r"))) == ["b", "run.finished"]
    bus.emit({"kind": "x"})
    bus.emit({"kind": "y"})
    assert kinds(list(bus.subscribe(run_id="r"))) == ["run.finished"], "gone from the history, but it is known"
    assert list(bus.subscribe(run_id="r", replay=False)) == []


def test_a_bus_for_one_run_without_a_name_ends_with_that() -> None:
    bus = EventBus()
    everything, some = bus.subscribe(), bus.subscribe(kinds=["a"])
    bus.emit({"kind": "run.finished", "run_id": "r"})
    bus.emit({"kind": "a"})
    bus.emit({"kind": "run.finished"})
    assert kinds(list(everything)) == ["run.finished", "a", "run.finished"]
    assert kinds(list(some)) == ["a", "run.finished"]
    assert kinds(list(bus.subscribe(kinds=["a"]))) == ["a", "run.finished"]


def test_late_subscribers_replay_and_go_on_without_a_hole_or_a_double() -> None:
    """Subscribers come while two threads emit; each is given an unbroken stretch from its first event to the last."""
    bus = EventBus(max_queue_size=50_000, max_history=100_000)
    given: list[list[int]] = []

    def emit() -> None:
        for _ in range(3000):
            bus.emit({"kind": "a"})

    def read() -> None:
        given.append([event.offset for event in bus.subscribe()])

    producers = [threading.Thread(target=emit) for _ in range(2)]
    readers = []
    for thread in producers:
        thread.start()
    while any(thread.is_alive() for thread in producers) and len(readers) < 20:
        readers.append(threading.Thread(target=read))
        readers[-1].start()
        time.sleep(0.005)
    for thread in producers:
        thread.join()
    bus.close()
    for thread in readers:
        thread.join(20)
    assert given
    assert all(offsets == list(range(1, 6001)) for offsets in given)


def test_without_replay_it_begins_with_what_comes() -> None:
    bus = EventBus()
    bus.emit({"kind": "old"})
    subscription = bus.subscribe(replay=False)
    bus.emit({"kind": "new"})
    bus.close()
    assert kinds(list(subscription)) == ["new"]


def test_replay_gives_history_by_run_lane_and_seq() -> None:
    bus = EventBus(max_history=5)
    for n in range(3):
        bus.emit({"kind": "a", "payload": {"n": n}, "run_id": "r"})
        bus.emit({"kind": "b", "run_id": "s", "lane_id": "two"})
    assert bus.history_size == 5
    assert kinds(bus.replay()) == ["b", "a", "b", "a", "b"]
    assert [event.seq for event in bus.replay("r")] == [2, 3]
    assert [event.seq for event in bus.replay("r", since_seq=2)] == [3]
    assert bus.replay("r", "two") == []
    assert asyncio.run(bus.areplay(lane_id="two", since_seq=1)) == bus.replay("s", since_seq=1)


@pytest.mark.parametrize(("queue", "history"), [(100, 1000), (1000, 10_000), (1000, 100), (10, 0), (1, 1)])
def test_who_reads_nothing_for_ten_thousand_events_is_given_the_rest_and_told_how_many_are_gone(
    queue: int, history: int
) -> None:
    bus = EventBus(max_queue_size=queue, max_history=history)
    gaps: list[Gap] = []
    subscription = bus.subscribe(run_id="r", on_gap=gaps.append)
    for _ in range(10_000):
        bus.emit({"kind": "a", "run_id": "r"})
    end = bus.emit_sync({"kind": "run.finished", "run_id": "r"})
    for _ in range(history):
        bus.emit({"kind": "other"})
    resident = [event for event in bus.replay() if event.run_id == "r"]
    given = list(subscription)
    assert given[-1] == end
    assert [event.offset for event in given] == sorted({event.offset for event in given})
    assert {event.offset for event in resident} <= {event.offset for event in given}
    assert len(given) + subscription.missed == 10_001
    told = {n for gap in gaps for n in range(gap.from_offset, gap.to_offset + 1)}
    assert told | {event.offset for event in given} >= set(range(1, 10_002))


def test_what_is_gone_is_told_in_its_place_and_warned_of_by_default(caplog: pytest.LogCaptureFixture) -> None:
    bus = EventBus(max_queue_size=2, max_history=2)
    story: list[object] = []
    told = bus.subscribe(on_gap=story.append)
    warned = bus.subscribe()
    for _ in range(10):
        bus.emit({"kind": "a"})
    bus.close()
    for event in told:
        story.append(event.offset)  # noqa: PERF401  (gaps are told in between)
    assert story == [1, 2, Gap(6, 3, 8, "trimmed"), 9, 10]
    assert kinds(list(warned)) == ["a"] * 4
    assert "events missed: 6 (3 to 8, trimmed)" in caplog.text
    assert (bus.stats().delivered, bus.stats().missed, bus.stats().overflows) == (8, 12, 2)


def test_the_ends_of_many_runs_reach_a_subscriber_that_is_behind() -> None:
    bus = EventBus(max_queue_size=50, max_history=10)
    subscription = bus.subscribe()
    ends = []
    for n in range(50):
        for _ in range(20):
            bus.emit({"kind": "a", "run_id": f"r{n}"})
        ends.append(bus.emit_sync({"kind": "run.finished", "run_id": f"r{n}"}))
    bus.close()
    given = list(subscription)
    assert [event for event in given if event.is_terminal] == ends
    assert len(given) + subscription.missed == 50 * 21


def test_a_subscriber_for_whom_too_many_ends_would_have_to_be_kept_is_told_that_it_fell_behind() -> None:
    bus = EventBus(max_queue_size=5, max_history=0)
    subscription = bus.subscribe()
    for n in range(20):
        bus.emit({"kind": "run.finished", "run_id": f"r{n}"})
    assert len([next(subscription) for _ in range(5)]) == 5
    with pytest.raises(FellBehind, match="more than 5 runs"):
        next(subscription)


def test_who_reads_on_after_having_been_behind_is_live_again() -> None:
    bus = EventBus(max_queue_size=10, max_history=100)
    subscription = bus.subscribe()
    for _ in range(50):
        bus.emit({"kind": "a"})
    assert subscription.behind
    assert [next(subscription).offset for _ in range(50)] == list(range(1, 51))
    assert not subscription.behind
    bus.emit({"kind": "b"})
    assert next(subscription).offset == 51
    assert subscription.missed == 0


def test_leaving_a_loop_keeps_a_subscription_and_dropping_it_leaves_nothing_behind() -> None:
    bus = EventBus()
    subscription = bus.subscribe()
    bus.emit({"kind": "a"})
    bus.emit({"kind": "b"})
    for _ in subscription:
        break
    assert next(subscription).kind == "b"
    assert bus.subscriber_count == 1
    del subscription
    assert bus.subscriber_count == 0
    for _ in bus.subscribe():
        break
    assert bus.subscriber_count == 0


def test_closing_a_subscription_ends_whoever_waits_in_it() -> None:
    bus = EventBus()
    subscription = bus.subscribe()
    ended = threading.Event()

    def read() -> None:
        assert list(subscription) == []
        ended.set()

    threading.Thread(target=read, daemon=True).start()
    while not subscription.waiters:
        time.sleep(0.001)
    subscription.close()
    assert ended.wait(10)
    assert bus.subscriber_count == 0


def test_the_end_of_a_with_block_unsubscribes() -> None:
    async def main(bus: EventBus) -> None:
        async with bus.subscribe() as subscription:
            bus.emit({"kind": "a"})
            assert (await anext(subscription)).kind == "a"
            assert bus.subscriber_count == 1
        assert bus.subscriber_count == 0

    bus = EventBus()
    asyncio.run(main(bus))
    with bus.subscribe():
        assert bus.subscriber_count == 1
    assert bus.subscriber_count == 0


def test_a_closed_bus_takes_nothing_and_gives_what_it_has() -> None:
    with EventBus() as bus:
        subscription = bus.subscribe()
        bus.emit({"kind": "a"})
    bus.close()
    with pytest.raises(LogClosed):
        bus.emit({"kind": "b"})
    assert kinds(list(subscription)) == ["a"]
    assert kinds(list(bus.subscribe())) == ["a"]
    assert list(bus.subscribe(replay=False)) == []


def test_an_emission_that_is_interrupted_half_way_reaches_everybody_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bus = EventBus()
    subscriptions = [bus.subscribe() for _ in range(3)]
    bus.emit({"kind": "a"})

    push, second = Mailbox.push, subscriptions[1].mailbox

    def interrupted(self: Mailbox, *event: Any) -> bool:
        if self is second:
            raise KeyboardInterrupt
        return push(self, *event)

    with monkeypatch.context() as patch:
        patch.setattr(Mailbox, "push", interrupted)
        with pytest.raises(KeyboardInterrupt):
            bus.emit({"kind": "b"})
    assert [next(s).kind for s in subscriptions for _ in "ab"] == ["a", "b"] * 3
    bus.emit({"kind": "c"})
    bus.close()
    assert [kinds(list(s)) for s in subscriptions] == [["c"]] * 3


def test_over_a_disabled_log_emitting_works_and_nobody_is_given_anything() -> None:
    with create_event_log("disabled") as log, EventBus(log=log) as bus:
        subscription = bus.subscribe()
        assert bus.emit_sync({"kind": "a"}) is not None
        started = time.monotonic()
        bus.close()
        assert list(subscription) == []
        assert time.monotonic() - started < 4
        assert bus.replay() == []


def test_a_bus_that_is_closed_before_it_could_read_its_log_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared, "READY_S", 0.0)
    monkeypatch.setattr(shared, "_CLOSE_S", 0.0)
    with create_event_log("memory") as log:
        bus = EventBus(log=log)
        monkeypatch.setattr(ThreadPort, "spawn", lambda *_: None)
        subscription = bus.subscribe()
        bus.emit({"kind": "a"})
        bus.close()
        with pytest.raises(LogClosed, match="before the log could be read"):
            next(subscription)


def _reading(bus: EventBus, stop_after: int) -> Callable[[], list[int]]:
    async def main() -> list[int]:
        given: list[int] = []
        async for event in bus.subscribe():
            given.append(event.offset)
            if len(given) == stop_after:
                break
        return given

    return lambda: asyncio.run(main())


def test_many_event_loops_and_threads_at_once_are_given_the_same() -> None:
    bus = EventBus(max_queue_size=10_000)
    results: list[list[int]] = []
    threads = [threading.Thread(target=lambda: results.append(_reading(bus, 2000)())) for _ in range(4)]
    threads += [
        threading.Thread(target=lambda: results.append([event.offset for event in islice(bus.subscribe(), 2000)]))
        for _ in range(2)
    ]
    emitters = [threading.Thread(target=lambda: [bus.emit({"kind": "a"}) for _ in range(500)]) for _ in range(4)]
    for thread in threads + emitters:
        thread.start()
    for thread in threads + emitters:
        thread.join(60)
    assert results == [list(range(1, 2001))] * 6
    assert bus.subscriber_count == 0


def test_ten_thousand_subscribers_come_and_go_while_others_emit_and_nothing_stays_or_goes_astray() -> None:
    bus = EventBus(max_queue_size=20, max_history=50)
    stop = threading.Event()
    wrong: list[object] = []

    def emit(number: int) -> None:
        while not stop.is_set():
            bus.emit({"kind": "a", "run_id": f"r{number}"})

    def churn(number: int) -> None:
        run_id = f"r{number}"
        for n in range(2500):
            subscription = bus.subscribe(run_id=run_id, replay=bool(n % 2))
            if n % 5 == 0:
                wrong.extend(event for event in islice(subscription, 2) if event.run_id != run_id)
            elif n % 5 == 1:
                subscription.close()

    async def achurn(number: int) -> None:
        run_id = f"r{number}"
        for n in range(2500):
            subscription = bus.subscribe(run_id=run_id, replay=bool(n % 2))
            if n % 5 == 0:
                async for event in subscription:
                    wrong.extend([event] if event.run_id != run_id else [])
                    break
            elif n % 5 == 1:
                task = asyncio.ensure_future(anext(subscription))
                await asyncio.sleep(0)
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
                del task

    emitters = [threading.Thread(target=emit, args=(n,)) for n in range(2)]
    churners = [threading.Thread(target=churn, args=(n,)) for n in range(2)]
    churners += [threading.Thread(target=lambda n=n: asyncio.run(achurn(n))) for n in range(2)]
    for thread in emitters + churners:
        thread.start()
    for thread in churners:
        thread.join(100)
        assert not thread.is_alive()
    stop.set()
    for thread in emitters:
        thread.join()
    assert wrong == []
    gc.collect()
    assert bus.subscriber_count == 0
    assert len(bus._source._live) == 0


def test_a_cancelled_reader_loses_nothing() -> None:
    async def main() -> None:
        bus = EventBus()
        subscription = bus.subscribe()
        given = []

        async def read() -> None:
            async for event in subscription:
                given.append(event.offset)  # noqa: PERF401  (what came before the cancellation counts)

        for n in range(200):
            task = asyncio.create_task(read())
            await asyncio.sleep(0)
            if n % 2:
                bus.emit({"kind": "a"})
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            if n % 3:
                bus.emit({"kind": "b"})
        bus.close()
        await read()
        assert given == list(range(1, len(given) + 1))
        assert len(given) == bus.stats().emitted

    asyncio.run(main())


def test_a_reader_with_a_long_queue_lets_other_tasks_run() -> None:
    async def main() -> None:
        bus = EventBus(max_queue_size=10_000)
        subscription = bus.subscribe()
        for _ in range(10_000):
            bus.emit({"kind": "a"})
        bus.close()
        turns = 0

        async def other() -> None:
            nonlocal turns
            while True:
                await asyncio.sleep(0)
                turns += 1

        task = asyncio.create_task(other())
        assert len([event async for event in subscription]) == 10_000
        task.cancel()
        assert turns > 50

    asyncio.run(main())


def test_a_loop_that_was_closed_under_its_reader_is_forgotten() -> None:
    bus = EventBus()
    loop = asyncio.new_event_loop()

    async def read() -> None:
        async for _ in bus.subscribe():
            raise AssertionError("nobody can wake a closed loop")

    task = loop.create_task(read())
    loop.run_until_complete(asyncio.sleep(0))
    loop.run_until_complete(asyncio.sleep(0))
    assert bus.subscriber_count == 1
    task.get_coro().close()  # type: ignore[union-attr]
    task._log_destroy_pending = False  # type: ignore[attr-defined]
    loop.close()
    bus.emit({"kind": "a"})
    del task, loop
    gc.collect()
    assert bus.subscriber_count == 0
    bus.emit({"kind": "a"})


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_a_forked_child_goes_on_with_the_bus_and_ends_what_it_inherits() -> None:
    bus = EventBus()
    bus.emit({"kind": "before"})
    subscription = bus.subscribe()
    stop = threading.Event()

    def emit() -> None:
        while not stop.is_set():
            bus.emit({"kind": "parent"})

    thread = threading.Thread(target=emit)
    thread.start()
    for _ in range(5):
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                assert list(subscription) == []
                assert bus.subscriber_count == 0
                mine = bus.subscribe(replay=False)
                event = bus.emit_sync({"kind": "child"})
                assert next(mine) == event
                status = 0
            finally:
                os._exit(status)
        assert os.waitpid(pid, 0)[1] == 0
    stop.set()
    thread.join()
    assert next(subscription).kind == "before"

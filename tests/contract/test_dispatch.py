"""What both dispatchers promise around any sink. The asyncio one is handed its events by other threads."""

import asyncio
import logging
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from unittest.mock import AsyncMock, Mock

import pytest

from eventlog import create_async_event_log, create_event_log
from eventlog.dispatch.dispatchers import AsyncEventDispatcher, EventDispatcher
from eventlog.errors import InvalidInput
from tests.support.dispatchers import Coroutines, Dispatching, Gate, Tasks, Threads, until
from tests.support.redis_process import eventually

Make = Callable[..., Dispatching]


@pytest.fixture(params=[Threads, Tasks, Coroutines], ids=["threads", "tasks", "coroutines"])
def make(request: pytest.FixtureRequest) -> Iterator[Make]:
    """Makes a dispatcher around a gate, or another sink; ended with the test."""
    made: list[Any] = []
    gates: list[Gate] = []

    def dispatcher(sink: Any, **options: Any) -> Dispatching:
        if isinstance(sink, Gate):
            gates.append(sink)
            sink = sink.track if request.param is Threads else sink.atrack
        made.append(request.param(sink, **options))
        return made[-1]  # type: ignore[no-any-return]

    yield dispatcher
    for gate in gates:
        gate.open()
    for one in made:
        one.end()


@pytest.fixture
def warnings(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    caplog.set_level(logging.WARNING, "eventlog")
    return lambda: [record.getMessage() for record in caplog.records if record.name == "eventlog"]


def our_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "eventlog-dispatch"]


def fill(dispatching: Dispatching, gate: Gate, names: str, running: int) -> None:
    """Hand over one event a letter, and wait until as many as can be are being delivered."""
    for name in names:
        dispatching.dispatch(name)
    eventually(lambda: len(gate.began) == running, f"{running} are being delivered")


def test_an_event_arrives_with_its_name_data_and_operation(make: Make) -> None:
    gate = Gate(is_open=True)
    dispatching = make(gate)
    dispatching.dispatch("tool.invoked", {"tool": "grep"}, "run-1")
    dispatching.dispatch("bare")
    assert dispatching.shutdown()
    assert sorted(gate.ended, key=lambda each: str(each["event_name"])) == [
        {"event_name": "bare", "data": None, "operation_id": None},
        {"event_name": "tool.invoked", "data": {"tool": "grep"}, "operation_id": "run-1"},
    ]
    assert dispatching.stats().delivered == 2


def test_one_worker_delivers_in_the_order_of_dispatch(make: Make) -> None:
    gate = Gate()
    dispatching = make(gate, max_workers=1, inflight_oversubscription=1000)
    for n in range(500):
        dispatching.dispatch("run.finished" if n % 7 == 0 else "a", {"n": n})
    gate.open()
    assert dispatching.shutdown()
    assert [each["data"]["n"] for each in gate.ended] == list(range(500))


def test_as_many_as_there_are_workers_are_delivered_at_once(make: Make) -> None:
    gate = Gate()
    dispatching = make(gate, max_workers=3)
    fill(dispatching, gate, "abcdefgh", running=3)
    stats = dispatching.stats()
    assert (stats.in_flight, stats.waiting) == (8, 5)
    gate.open()
    assert dispatching.shutdown()
    assert sorted(gate.names) == list("abcdefgh")


def test_over_its_bound_events_are_dropped_counted_and_warned_about_once(
    make: Make, warnings: Callable[[], list[str]]
) -> None:
    gate = Gate()
    dispatching = make(gate, max_workers=2, inflight_oversubscription=3)
    for n in range(10_000):
        dispatching.dispatch("a", {"n": n})
    stats = dispatching.stats()
    assert (stats.dispatched, stats.in_flight, stats.dropped["full"], stats.high_water) == (10_000, 6, 9_994, 6)
    assert warnings() == ["event dispatch: 1 dropped, too many in flight"]
    gate.open()
    assert dispatching.shutdown()
    assert sorted(each["data"]["n"] for each in gate.ended) == list(range(6))
    assert warnings()[1:] == ["event dispatch: 9993 dropped, too many in flight"]


def test_what_was_delivered_makes_room(make: Make) -> None:
    gate = Gate(is_open=True)
    dispatching = make(gate, max_workers=1, inflight_oversubscription=2)
    for n in range(50):
        dispatching.dispatch("a", {"n": n})
        until(dispatching, lambda stats: stats.in_flight < 2, "there is room")
    assert dispatching.shutdown()
    assert len(gate.ended) == 50


def test_terminal_events_displace_the_oldest_ordinary_ones_that_wait(make: Make) -> None:
    gate = Gate()
    dispatching = make(gate, max_workers=1, inflight_oversubscription=4)
    fill(dispatching, gate, "abcd", running=1)
    for kind in ("run.finished", "run.failed"):
        dispatching.dispatch(kind)
    dispatching.dispatch("e")
    gate.open()
    assert dispatching.shutdown()
    assert gate.names == ["a", "d", "run.finished", "run.failed"]
    assert dispatching.stats().dropped == {"full": 1, "displaced": 2, "shutdown": 0}


def test_a_terminal_event_is_not_lost_where_nothing_ordinary_waits(make: Make) -> None:
    gate = Gate()
    dispatching = make(gate, max_workers=2, inflight_oversubscription=1)
    fill(dispatching, gate, "ab", running=2)
    for _ in range(3):
        dispatching.dispatch("run.cancelled")
    stats = dispatching.stats()
    assert (stats.in_flight, stats.dropped["full"]) == (4, 1), "the reserve is as large as the bound"
    gate.open()
    assert dispatching.shutdown()
    assert sorted(gate.names) == ["a", "b", "run.cancelled", "run.cancelled"]


def test_what_is_terminal_can_be_said_otherwise(make: Make) -> None:
    gate = Gate()
    dispatching = make(gate, max_workers=1, inflight_oversubscription=2, is_terminal=lambda name: name == "bye")
    fill(dispatching, gate, "ab", running=1)
    dispatching.dispatch("run.finished")
    dispatching.dispatch("bye")
    gate.open()
    assert dispatching.shutdown()
    assert gate.names == ["a", "bye"]


def test_an_event_is_taken_as_it_is_when_it_is_handed_over(make: Make) -> None:
    gate = Gate()
    dispatching = make(gate, max_workers=1)
    data = {"n": 1}
    dispatching.dispatch("a", data)
    data["n"] = 2
    gate.open()
    assert dispatching.shutdown()
    assert gate.ended[0]["data"] == {"n": 1}


def test_a_sink_that_fails_costs_only_its_event(make: Make, warnings: Callable[[], list[str]]) -> None:
    gate = Gate(is_open=True)
    gate.failing = {"bad"}
    dispatching = make(gate, max_workers=2, inflight_oversubscription=100)
    for n in range(40):
        dispatching.dispatch("bad" if n % 4 == 0 else "good")
    assert dispatching.shutdown()
    stats = dispatching.stats()
    assert (stats.delivered, stats.failed) == (30, 10)
    told = warnings()
    assert told[0] == "event dispatch: 1 failed (last: ConnectionError: the sink is away)"
    assert len(told) <= 2


def test_a_sink_that_asks_for_the_end_ends_only_its_call() -> None:
    def leaves(**given: Any) -> None:
        if given["event_name"] == "bad":
            raise SystemExit(3)

    dispatching = Threads(leaves, max_workers=1)
    for name in ("good", "bad", "good"):
        dispatching.dispatch(name)
    assert dispatching.shutdown()
    stats = dispatching.stats()
    assert (stats.delivered, stats.failed) == (2, 1)


def test_a_call_that_takes_too_long_is_given_up_and_others_go_on(make: Make, warnings: Callable[[], list[str]]) -> None:
    gate = Gate(only=frozenset({"hang"}))
    dispatching = make(gate, max_workers=1, inflight_oversubscription=10, call_timeout_s=0.1)
    for name in ("hang", "a", "b"):
        dispatching.dispatch(name)
    until(dispatching, lambda stats: stats.delivered == 2, "those behind it are delivered")
    stats = dispatching.stats()
    assert (stats.timed_out, stats.in_flight) == (1, 0)
    assert gate.names == ["a", "b"]
    eventually(lambda: warnings() == ["event dispatch: 1 timed out (last: no end within 0.1 s)"], "it is told")
    gate.open()
    if type(dispatching) is Threads:  # a task was cancelled, a thread cannot be
        until(dispatching, lambda stats: stats.late == 1, "it came to its end after all")
    assert dispatching.shutdown()
    assert dispatching.stats().dispatched == 3


def test_shutdown_waits_for_what_is_in_flight_and_may_be_called_again(make: Make) -> None:
    gate = Gate()
    dispatching = make(gate, max_workers=2)
    fill(dispatching, gate, "abcdef", running=2)
    with ThreadPoolExecutor(1) as pool:
        ending = pool.submit(dispatching.shutdown)
        eventually(lambda: dispatching.stats().dropped["shutdown"] or dispatching.dispatch("late"), "it takes no more")
        assert not ending.done()
        gate.open()
        assert ending.result(20)
    assert sorted(name for name in gate.names if name != "late") == list("abcdef")
    assert len(gate.names) == dispatching.stats().delivered
    assert dispatching.shutdown()
    assert dispatching.shutdown(wait=False)


def test_shutdown_gives_up_what_is_in_flight_when_its_time_is_up(make: Make, warnings: Callable[[], list[str]]) -> None:
    gate = Gate()
    dispatching = make(gate, max_workers=2)
    fill(dispatching, gate, "abcdef", running=2)
    assert not dispatching.shutdown(timeout_s=0.05)
    stats = dispatching.stats()
    assert (stats.in_flight, stats.timed_out, stats.dropped["shutdown"]) == (0, 2, 4)
    assert warnings() == ["event dispatch: 6 given up at shutdown"]
    assert not dispatching.shutdown(), "that something was given up remains so"


@pytest.mark.parametrize("kind", [Threads, Tasks])
def test_shutdown_that_does_not_wait_lets_what_was_taken_be_delivered(kind: Make) -> None:
    gate = Gate()
    dispatching = kind(gate.track if kind is Threads else gate.atrack, max_workers=1)
    fill(dispatching, gate, "abc", running=1)
    assert not dispatching.shutdown(wait=False)
    dispatching.dispatch("late")
    gate.open()
    until(dispatching, lambda stats: stats.delivered == 3, "what was taken is delivered")
    assert gate.names == ["a", "b", "c"]
    dispatching.end()


def test_coroutines_are_cancelled_by_a_shutdown_that_does_not_wait_and_may_clean_up() -> None:
    began, cleaned_up = threading.Event(), threading.Event()

    async def sink(**given: Any) -> None:
        began.set()
        try:
            await asyncio.sleep(60)
        finally:
            cleaned_up.set()

    dispatching = Coroutines(sink, max_workers=1)
    for name in "abc":
        dispatching.dispatch(name)
    assert began.wait(20)
    assert not dispatching.shutdown(wait=False)
    stats = dispatching.stats()
    assert (stats.timed_out, stats.dropped["shutdown"], stats.in_flight) == (1, 2, 0)
    assert not dispatching.shutdown()
    assert cleaned_up.wait(20)
    eventually(lambda: not our_threads(), "its thread has ended")


def test_coroutines_run_on_a_loop_of_the_dispatcher_not_on_that_of_the_caller() -> None:
    loops: list[object] = []

    async def sink(**given: Any) -> None:
        loops.append(asyncio.get_running_loop())

    async def scenario() -> None:
        with EventDispatcher(sink) as dispatcher:
            for _ in range(3):
                dispatcher.dispatch(event_name="a")
        assert len(loops) == 3
        assert len(set(loops)) == 1
        assert loops[0] is not asyncio.get_running_loop()

    asyncio.run(scenario())


def test_an_event_after_shutdown_is_counted_and_not_told(make: Make, warnings: Callable[[], list[str]]) -> None:
    dispatching = make(Gate(is_open=True))
    assert dispatching.shutdown()
    for _ in range(3):
        dispatching.dispatch("run.finished")
    assert dispatching.stats().dropped["shutdown"] == 3
    assert warnings() == []


def test_the_sink_may_end_the_dispatcher_itself() -> None:
    answers: list[bool] = []
    dispatching: Threads | Tasks

    def ends(**given: Any) -> None:
        answers.append(dispatching.inner.shutdown(timeout_s=20))  # type: ignore[arg-type]

    dispatching = Threads(ends, max_workers=1)
    dispatching.dispatch("a")
    until(dispatching, lambda stats: stats.delivered == 1, "it did not wait for itself")

    async def aends(**given: Any) -> None:
        answers.append(await dispatching.inner.shutdown(timeout_s=20))  # type: ignore[misc]

    dispatching = Tasks(aends, max_workers=1)
    dispatching.dispatch("a")
    until(dispatching, lambda stats: stats.delivered == 1, "it did not wait for itself")
    dispatching.end()

    async def ends_from_its_loop(**given: Any) -> None:
        ends(**given)

    dispatching = Coroutines(ends_from_its_loop, max_workers=1)
    dispatching.dispatch("a")
    until(dispatching, lambda stats: stats.delivered == 1, "it did not wait for itself")
    assert answers == [False, False, False]


def test_threads_that_hand_over_at_once_lose_nothing_and_counts_agree(make: Make) -> None:
    gate = Gate(is_open=True)
    dispatching = make(gate, max_workers=4, inflight_oversubscription=10_000)

    def work(thread: int) -> None:
        for n in range(500):
            dispatching.dispatch("a", {"n": 1000 * thread + n})

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    assert dispatching.shutdown(timeout_s=20)
    assert sorted(each["data"]["n"] for each in gate.ended) == [1000 * t + n for t in range(8) for n in range(500)]
    stats = dispatching.stats()
    assert (stats.dispatched, stats.delivered, stats.in_flight) == (4000, 4000, 0)


def test_all_are_accounted_for_under_all_that_may_happen(make: Make) -> None:
    gate = Gate(is_open=True)
    gate.failing = {"bad"}
    dispatching = make(gate, max_workers=2, inflight_oversubscription=2, call_timeout_s=0.05)
    handed = [0] * 4
    done = threading.Event()

    def work(thread: int) -> None:
        while not done.is_set():
            dispatching.dispatch(("good", "bad", "run.finished")[handed[thread] % 3])
            handed[thread] += 1

    threads = [threading.Thread(target=work, args=(thread,)) for thread in range(4)]
    for thread in threads:
        thread.start()
    until(dispatching, lambda stats: stats.failed and stats.dropped["displaced"] and stats.delivered, "much happened")
    for _ in range(1_000):
        stats = dispatching.stats()
        assert stats.in_flight <= stats.high_water <= 8
    dispatching.shutdown(timeout_s=20)
    done.set()
    for thread in threads:
        thread.join(20)
    stats = dispatching.stats()
    assert (stats.dispatched, stats.in_flight) == (sum(handed), 0)
    assert len(gate.ended) == stats.delivered + stats.late


@pytest.mark.parametrize("dispatcher", [EventDispatcher, AsyncEventDispatcher])
@pytest.mark.parametrize("sink", [None, 5, "track", object()])
def test_what_is_no_sink_is_refused(dispatcher: Any, sink: object) -> None:
    with pytest.raises(InvalidInput, match="track_event"):
        dispatcher(sink)


def test_a_sink_of_the_other_colour_is_refused() -> None:
    async def scenario() -> None:
        async with create_async_event_log() as log:
            with pytest.raises(InvalidInput, match="AsyncEventDispatcher"):
                EventDispatcher(log)
            with create_event_log() as blocking, pytest.raises(InvalidInput, match="EventDispatcher"):
                AsyncEventDispatcher(blocking)

    asyncio.run(scenario())


def test_a_coroutine_that_nobody_would_await_is_a_failure() -> None:
    dispatching = Threads(lambda **given: Gate(is_open=True).atrack(**given))
    dispatching.dispatch("a")
    assert dispatching.shutdown()
    assert dispatching.stats().failed == 1


class Client:
    """What others call a client: an object with a `track_event` method."""

    def __init__(self) -> None:
        self.tracked: list[tuple[str, Any, Any]] = []

    def track_event(self, event_name: str, data: Any = None, operation_id: Any = None) -> None:
        self.tracked.append((event_name, data, operation_id))


def test_a_client_with_a_track_event_method_is_a_sink() -> None:
    client = Client()
    dispatching = Threads(client)
    dispatching.dispatch("a", {"n": 1}, "op")
    assert dispatching.shutdown()
    assert client.tracked == [("a", {"n": 1}, "op")]


def test_test_doubles_are_sinks_as_what_they_stand_for() -> None:
    double = Mock()
    dispatching: Threads | Tasks = Threads(double)
    dispatching.dispatch("a", {"n": 1})
    assert dispatching.shutdown()
    double.assert_called_once_with(event_name="a", data={"n": 1}, operation_id=None)
    adouble = AsyncMock()
    dispatching = Tasks(adouble)
    dispatching.dispatch("a", {"n": 1})
    assert dispatching.shutdown()
    dispatching.end()
    adouble.assert_awaited_once_with(event_name="a", data={"n": 1}, operation_id=None)

"""Threads that hang, idle or are interrupted: the bounds hold, nothing is lost, and the caller waits for none of it."""

import gc
import logging
import signal
import threading
import time
import tracemalloc
import weakref
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

import pytest

from eventlog.dispatch import backlog, dispatchers, threads
from eventlog.dispatch.dispatchers import EventDispatcher
from eventlog.plan import forks
from tests.support.dispatchers import Gate, Threads, until
from tests.support.interrupts import at_each_step
from tests.support.redis_process import eventually

WATCHED = {module.__file__ for module in (backlog, dispatchers, threads)}


def crew_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("eventlog-dispatch")]


@pytest.fixture(autouse=True)
def no_thread_is_left(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    yield
    eventually(lambda: not crew_threads(), "its threads have ended", patience_s=25)


@pytest.fixture
def gate() -> Iterator[Gate]:
    here = Gate()
    yield here
    here.open()


def dispatching(gate: Gate, **options: Any) -> Threads:
    return Threads(gate.track, **options)


def test_no_thread_runs_before_the_first_event() -> None:
    dispatching = Threads(lambda **given: None)
    assert crew_threads() == []
    dispatching.dispatch("a")
    until(dispatching, lambda stats: stats.delivered == 1, "it is delivered")
    assert len(crew_threads()) == 2, "one delivers, one watches the clock"
    assert all(thread.daemon for thread in crew_threads())
    dispatching.shutdown()


def test_calls_that_hang_are_replaced_up_to_a_hard_bound_and_come_back_to_work(gate: Gate) -> None:
    here = dispatching(gate, max_workers=3, inflight_oversubscription=4, call_timeout_s=0.05)
    for n in range(1_000):
        here.dispatch("a", {"n": n})
    until(here, lambda stats: stats.hanging == 6, "twice as many as there are workers hang")
    until(here, lambda stats: stats.waiting == 6, "the others wait for one to come back")
    for n in range(1_000):
        here.dispatch("a", {"n": n})
    stats = here.stats()
    assert len(crew_threads()) <= 7, "six that hang, and one that watches the clock"
    assert (stats.timed_out, stats.in_flight, stats.hanging) == (6, 12, 6)
    assert stats.dropped["full"] == 2_000 - 18
    gate.open()
    until(here, lambda stats: stats.delivered == 12 and stats.hanging == 0, "all that waited are delivered")
    assert here.stats().late == 6
    here.dispatch("again")
    assert here.shutdown()
    assert gate.names[-1] == "again"
    assert here.stats().dispatched == 2_001


def test_a_dispatcher_that_nobody_has_any_more_delivers_what_it_took_and_goes(gate: Gate) -> None:
    here = EventDispatcher(gate.track, max_workers=1)
    workers = weakref.ref(here._workers)
    for name in "abc":
        here.dispatch(event_name=name)
    del here
    gc.collect()
    gate.open()
    eventually(lambda: gate.names == ["a", "b", "c"], "they are delivered")
    eventually(lambda: not crew_threads(), "its threads have ended")
    gc.collect()
    assert workers() is None


def test_many_dispatchers_leave_nothing_behind() -> None:
    gc.collect()
    before = len(forks._methods)
    for _ in range(300):
        with EventDispatcher(lambda **given: None, max_workers=1) as here:
            here.dispatch(event_name="a")
        EventDispatcher(lambda **given: None)
    del here
    gc.collect()
    eventually(lambda: not crew_threads(), "their threads have ended")
    gc.collect()
    assert len(forks._methods) <= before


def test_a_burst_for_a_dead_sink_takes_bounded_memory(gate: Gate) -> None:
    here = dispatching(gate, max_workers=2, inflight_oversubscription=5)
    here.dispatch("warm")
    tracemalloc.start()
    try:
        for n in range(10_000):
            here.dispatch("a", {"text": f"{n}" * 1000})
        taken, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert here.stats().high_water == 10
    assert peak < 2_000_000, "ten payloads of some kilobytes, not ten thousand"
    assert taken < 1_000_000


def test_a_log_handler_that_hands_over_events_itself_does_no_harm(gate: Gate) -> None:
    here = dispatching(gate, max_workers=1, inflight_oversubscription=1)

    class Forwards(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            here.dispatch("log", {"text": record.getMessage()})

    handler = Forwards()
    logger = logging.getLogger("eventlog")
    logger.addHandler(handler)
    try:
        for _ in range(100):
            here.dispatch("a")
        assert here.stats().dispatched == 100, "what it says of its own is not handed over again"
        gate.open()
        here.shutdown()
    finally:
        logger.removeHandler(handler)
    assert here.stats().dispatched == 100


def test_destructors_that_hand_over_wherever_they_run_lose_nothing() -> None:
    gate = Gate(is_open=True)
    here = Threads(gate.track, max_workers=2, inflight_oversubscription=1_000_000)

    class Last:
        def __init__(self) -> None:
            self.me = self  # so that the collector has to come, at a moment of its own

        def __del__(self) -> None:
            here.dispatch("destroyed")
            here.stats()

    threshold = gc.get_threshold()
    gc.set_threshold(7)
    try:
        for n in range(3_000):
            Last()
            here.dispatch("a", {"n": [n]})
    finally:
        gc.set_threshold(*threshold)
    # A collection that is under way in another thread makes this one do nothing.
    eventually(lambda: gc.collect() >= 0 and here.stats().dispatched == 6_000, "all are destroyed")
    assert here.shutdown(timeout_s=30)
    stats = here.stats()
    assert (stats.dispatched, stats.delivered) == (6_000, 6_000)


def test_signal_handlers_that_hand_over_wherever_they_interrupt_lose_nothing() -> None:
    gate = Gate(is_open=True)
    here = Threads(gate.track, max_workers=2, inflight_oversubscription=1_000_000)
    handled = [0]

    def handler(signum: int, frame: object) -> None:
        handled[0] += 1
        here.dispatch("signal")
        here.stats()

    before = signal.signal(signal.SIGALRM, handler)
    sent = 0
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
        ends = time.monotonic() + 1.0
        while time.monotonic() < ends or handled[0] < 20:
            here.dispatch("a")
            sent += 1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert here.shutdown(timeout_s=60)
    stats = here.stats()
    assert (stats.dispatched, stats.delivered) == (sent + handled[0], sent + handled[0])


def is_watched(frame: FrameType) -> bool:
    return frame.f_code.co_filename in WATCHED


@pytest.mark.parametrize("is_first", [True, False])
def test_a_producer_that_is_interrupted_at_any_line_leaves_the_dispatcher_sound(is_first: bool) -> None:
    def prepared() -> tuple[Gate, Threads]:
        gate = Gate()
        here = dispatching(gate, max_workers=1, inflight_oversubscription=4)
        if not is_first:
            here.dispatch("first")
            eventually(lambda: gate.began, "a thread is at work")
        return gate, here

    def ended(gate: Gate, here: Threads) -> None:
        here.dispatch("run.finished")
        gate.open()
        assert here.shutdown(timeout_s=20), here.stats()
        assert "run.finished" in gate.names
        assert ("first" in gate.names) == (not is_first)
        assert gate.names.count("interrupted") <= 1

    for interrupt in at_each_step(is_watched, at_least=5):
        gate, here = prepared()
        interrupt.during(lambda here=here: here.dispatch("interrupted"))  # type: ignore[misc]
        ended(gate, here)


def test_a_shutdown_that_is_interrupted_at_any_line_may_be_repeated() -> None:
    def prepared() -> tuple[Gate, Threads]:
        gate = Gate()
        here = dispatching(gate, max_workers=1, inflight_oversubscription=4)
        for name in ("a", "b"):
            here.dispatch(name)
        eventually(lambda: gate.began, "a thread is at work")
        return gate, here

    def ended(gate: Gate, here: Threads) -> None:
        gate.open()
        here.shutdown(timeout_s=20)
        stats = here.stats()
        assert (stats.dispatched, stats.in_flight) == (2, 0)

    for interrupt in at_each_step(is_watched, at_least=5):
        gate, here = prepared()
        interrupt.during(lambda here=here: here.shutdown(timeout_s=0.01))  # type: ignore[misc]
        ended(gate, here)


@pytest.mark.parametrize("kind", ["a", "run.finished"])
@pytest.mark.parametrize("outer", [lambda here: here.dispatch("outer"), lambda here: here.shutdown(timeout_s=0)])
def test_a_handler_may_hand_over_at_any_line_of_a_dispatch_and_of_a_shutdown(
    kind: str, outer: Callable[[Threads], object]
) -> None:
    heres: list[Threads] = []
    for interrupt in at_each_step(is_watched, at_least=5, handler=lambda: heres[-1].dispatch(kind)):
        gate = Gate()
        heres.append(here := dispatching(gate, max_workers=1, inflight_oversubscription=2))
        for name in ("running", "waiting"):
            here.dispatch(name)
        eventually(lambda gate=gate: gate.began, "one is being delivered")  # type: ignore[misc]
        interrupt.during(lambda here=here: outer(here))  # type: ignore[misc]
        assert here.stats().in_flight <= 3, "at most one over the bound, for one that came in between"
        gate.open()
        here.shutdown(timeout_s=20)
        stats = here.stats()
        handed = 2 + ("dispatch" in outer.__code__.co_names) + (interrupt.left == 0)
        assert (stats.dispatched, stats.in_flight, stats.waiting) == (handed, 0, 0)


def test_a_handler_may_shut_down_at_any_line_of_a_dispatch_and_waits_for_what_is_in_flight() -> None:
    heres: list[Threads] = []
    answers: list[bool] = []
    for interrupt in at_each_step(
        is_watched, at_least=5, handler=lambda: answers.append(heres[-1].shutdown(timeout_s=20))
    ):
        gate = Gate(is_open=True)
        heres.append(here := dispatching(gate, max_workers=1, inflight_oversubscription=4))
        here.dispatch("first")
        interrupt.during(lambda here=here: here.dispatch("outer"))  # type: ignore[misc]
        here.shutdown(timeout_s=20)
        stats = here.stats()
        assert "first" in gate.names
        assert (stats.dispatched, stats.in_flight) == (2, 0)
    assert all(answers)


def test_a_coroutine_that_blocks_is_timed_out_all_the_same() -> None:
    go_on = threading.Event()

    async def blocks(**given: Any) -> None:
        go_on.wait(20)

    here = EventDispatcher(blocks, max_workers=1, inflight_oversubscription=2, call_timeout_s=0.05)
    try:
        for name in "ab":
            here.dispatch(event_name=name)
        eventually(lambda: here.stats().timed_out == 1, "its place is free")
        here.dispatch(event_name="c")
        stats = here.stats()
        assert (stats.in_flight, stats.dropped_total, stats.hanging) == (2, 0, 1)
    finally:
        go_on.set()
    eventually(lambda: here.stats().delivered == 2, "the others are delivered")
    assert here.shutdown()
    assert here.stats().late == 1

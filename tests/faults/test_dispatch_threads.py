"""Threads that hang, idle or are interrupted: the bounds hold, nothing is lost, and the caller waits for none of it."""

import gc
import logging
import signal
import threading
import time
import tracemalloc
import weakref
from collections.abc import Iterator
from types import FrameType
from typing import Any

import pytest

from eventlog.dispatch import crew, inflight, monitor, notices, threaded
from eventlog.dispatch.threaded import EventDispatcher
from tests.support.dispatchers import Gate, Threads, balanced, until
from tests.support.interrupts import InterruptAt
from tests.support.redis_process import eventually

WATCHED = {module.__file__ for module in (crew, inflight, monitor, notices, threaded)}


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
    assert len(crew_threads()) == 2, "the foreman and one worker"
    assert all(thread.daemon for thread in crew_threads())
    dispatching.shutdown()


def test_threads_that_idle_end_and_come_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crew, "_IDLE_S", 0.05)
    gate = Gate(is_open=True)
    dispatching = Threads(gate.track, max_workers=3)
    for n in range(1, 6):
        dispatching.dispatch("a")
        until(dispatching, lambda stats, n=n: stats.delivered == n, "it is delivered")  # type: ignore[misc]
        eventually(lambda: not crew_threads(), "its threads have ended")
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
    assert len(crew_threads()) <= 7, "six workers and the foreman"
    assert (stats.timed_out, stats.in_flight, stats.hanging) == (6, 12, 6)
    assert stats.dropped["full"] == 2_000 - 18
    gate.open()
    until(here, lambda stats: stats.delivered == 12 and stats.hanging == 0, "all that waited are delivered")
    assert here.stats().late == 6
    here.dispatch("again")
    assert here.shutdown()
    assert gate.names[-1] == "again"
    assert balanced(here.stats())


def test_a_dispatcher_that_nobody_has_any_more_delivers_what_it_took_and_goes(gate: Gate) -> None:
    here = EventDispatcher(gate.track, max_workers=1)
    engine = weakref.ref(here._crew)
    for name in "abc":
        here.dispatch(event_name=name)
    del here
    gc.collect()
    gate.open()
    eventually(lambda: gate.names == ["a", "b", "c"], "they are delivered")
    eventually(lambda: not crew_threads(), "its threads have ended")
    gc.collect()
    assert engine() is None


def test_many_dispatchers_leave_nothing_behind() -> None:
    for _ in range(300):
        with EventDispatcher(lambda **given: None, max_workers=1) as here:
            here.dispatch(event_name="a")
        EventDispatcher(lambda **given: None)
    del here
    gc.collect()
    eventually(lambda: not crew_threads(), "their threads have ended")
    gc.collect()
    assert len(crew._crews) == 0


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
        assert here.stats().dispatched == 101, "one warning, which was forwarded"
        gate.open()
        here.shutdown()
    finally:
        logger.removeHandler(handler)
    assert balanced(here.stats())


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


@pytest.mark.parametrize("line", range(1, 90))
def test_who_is_interrupted_as_it_hands_over_leaves_the_dispatcher_sound(line: int, gate: Gate) -> None:
    here = dispatching(gate, max_workers=1, inflight_oversubscription=4)
    if line % 2:  # with a crew at work already, and without
        here.dispatch("first")
    InterruptAt(line, is_watched).during(lambda: here.dispatch("interrupted"))
    assert balanced(here.stats())
    here.dispatch("run.finished")
    gate.open()
    assert here.shutdown(timeout_s=20), here.stats()
    assert "run.finished" in gate.names
    assert ("first" in gate.names) == bool(line % 2)
    assert gate.names.count("interrupted") <= 1
    assert balanced(here.stats())


@pytest.mark.parametrize("line", range(1, 60))
def test_who_is_interrupted_as_it_shuts_down_may_do_so_again(line: int, gate: Gate) -> None:
    here = dispatching(gate, max_workers=1, inflight_oversubscription=4)
    for name in ("a", "b"):
        here.dispatch(name)
    InterruptAt(line, is_watched).during(lambda: here.shutdown(timeout_s=0.01))
    gate.open()
    here.shutdown(timeout_s=20)
    stats = here.stats()
    assert balanced(stats)
    assert (stats.dispatched, stats.in_flight) == (2, 0)

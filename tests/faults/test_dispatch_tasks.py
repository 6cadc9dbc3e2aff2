"""The asyncio dispatcher where things go wrong: sinks that will not be cancelled, loops that end, signals, threads."""

import asyncio
import contextlib
import gc
import logging
import signal
import threading
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from eventlog.dispatch.dispatchers import AsyncEventDispatcher

PATIENCE_S = 20.0


async def until(holds: Callable[[], object], what: str) -> None:
    try:
        async with asyncio.timeout(PATIENCE_S):
            while not holds():  # noqa: ASYNC110  (whatever it is, nobody tells)
                await asyncio.sleep(0.005)
    except TimeoutError:
        raise AssertionError(f"not within {PATIENCE_S} s: {what}") from None


def our_tasks() -> list[asyncio.Task[Any]]:
    return [task for task in asyncio.all_tasks() if task.get_name().startswith("eventlog-dispatch")]


def test_a_sink_that_will_not_be_cancelled_is_left_to_itself_up_to_a_bound() -> None:
    async def scenario() -> None:
        opened = asyncio.Event()
        began: Counter[str] = Counter()

        async def stubborn(*, event_name: str, **given: Any) -> None:
            began[event_name] += 1
            while not opened.is_set():
                with contextlib.suppress(asyncio.CancelledError):
                    await opened.wait()

        dispatcher = AsyncEventDispatcher(stubborn, 2, 5, call_timeout_s=0.05)
        try:
            for _ in range(1_000):
                dispatcher.dispatch(event_name="a")
            await until(lambda: dispatcher.stats().hanging == 4, "twice as many as there are workers hang")
            stats = dispatcher.stats()
            assert (began["a"], stats.timed_out, stats.in_flight) == (4, 4, 6)
        finally:
            opened.set()
        await until(lambda: dispatcher.stats().delivered == 6, "the others are delivered")
        assert dispatcher.stats().late == 4
        assert await dispatcher.shutdown()

    asyncio.run(scenario())


def test_a_call_is_cancelled_when_its_time_is_up_and_the_sink_may_clean_up() -> None:
    async def scenario() -> list[str]:
        said: list[str] = []

        async def sink(*, event_name: str, **given: Any) -> None:
            try:
                await asyncio.sleep(60 if event_name == "slow" else 0)
            finally:
                said.append(event_name)

        async with AsyncEventDispatcher(sink, 1, call_timeout_s=0.05) as dispatcher:
            for name in ("slow", "a"):
                dispatcher.dispatch(event_name=name)
        stats = dispatcher.stats()
        assert (stats.timed_out, stats.delivered, stats.late, stats.hanging) == (1, 1, 0, 0)
        return said

    assert sorted(asyncio.run(scenario())) == ["a", "slow"]


def test_shutdown_leaves_no_task_behind() -> None:
    async def scenario() -> None:
        for timeout_s in (0.0, 0.05):
            dispatcher = AsyncEventDispatcher(lambda **given: asyncio.sleep(60))
            for _ in range(100):
                dispatcher.dispatch(event_name="a")
            await asyncio.sleep(0.01)
            assert our_tasks()
            assert not await dispatcher.shutdown(timeout_s=timeout_s)
            assert our_tasks() == []
            assert dispatcher.stats().in_flight == 0

    asyncio.run(scenario())


def test_a_loop_that_ends_without_a_shutdown_leaves_exact_counts_and_no_noise(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def scenario() -> AsyncEventDispatcher:
        dispatcher = AsyncEventDispatcher(lambda **given: asyncio.sleep(60), 2)
        for _ in range(10):
            dispatcher.dispatch(event_name="a")
        await until(lambda: dispatcher.stats().waiting == 6, "two are under way")
        return dispatcher

    with caplog.at_level(logging.WARNING):
        dispatcher = asyncio.run(scenario())
        dispatcher.dispatch(event_name="late")
        gc.collect()
    stats = dispatcher.stats()
    assert (stats.dispatched, stats.timed_out, stats.in_flight) == (11, 2, 0)
    assert stats.dropped == {"full": 2, "displaced": 0, "shutdown": 7}
    assert [record.name for record in caplog.records if "event dispatch" not in record.getMessage()] == []
    assert not asyncio.run(dispatcher.shutdown())


def test_events_for_a_loop_that_ended_before_it_looked_are_accounted_for() -> None:
    async def scenario() -> AsyncEventDispatcher:
        dispatcher = AsyncEventDispatcher(lambda **given: asyncio.sleep(60))
        dispatcher.dispatch(event_name="a")
        return dispatcher

    dispatcher = asyncio.run(scenario())
    stats = dispatcher.stats()
    assert (stats.dispatched, stats.in_flight) == (1, 0)
    asyncio.run(dispatcher.shutdown())


def test_events_wait_for_the_loop_that_it_is_first_used_on() -> None:
    got: list[str] = []

    async def sink(*, event_name: str, **given: Any) -> None:
        got.append(event_name)

    dispatcher = AsyncEventDispatcher(sink, 1)
    dispatcher.dispatch(event_name="before")

    async def scenario() -> None:
        async with dispatcher:
            dispatcher.dispatch(event_name="inside")

    asyncio.run(scenario())
    assert got == ["before", "inside"]


def test_it_may_be_shut_down_from_another_loop() -> None:
    async def scenario() -> None:
        got: list[str] = []

        async def sink(*, event_name: str, **given: Any) -> None:
            await asyncio.sleep(0.05)
            got.append(event_name)

        dispatcher = AsyncEventDispatcher(sink)
        dispatcher.dispatch(event_name="a")
        assert await asyncio.to_thread(lambda: asyncio.run(dispatcher.shutdown()))
        assert got == ["a"]

    asyncio.run(scenario())


def test_a_shutdown_that_is_cancelled_may_be_asked_for_again() -> None:
    async def scenario() -> None:
        opened = asyncio.Event()

        async def sink(**given: Any) -> None:
            await opened.wait()

        dispatcher = AsyncEventDispatcher(sink)
        dispatcher.dispatch(event_name="a")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(dispatcher.shutdown(timeout_s=60), 0.05)
        opened.set()
        assert await dispatcher.shutdown()
        assert dispatcher.stats().delivered == 1

    asyncio.run(scenario())


def test_signal_handlers_that_hand_over_wherever_they_interrupt_lose_nothing() -> None:
    handled = [0]

    async def scenario() -> tuple[int, AsyncEventDispatcher]:
        async def sink(**given: Any) -> None:
            await asyncio.sleep(0)

        dispatcher = AsyncEventDispatcher(sink, 2, 1_000_000)

        def handler(signum: int, frame: object) -> None:
            handled[0] += 1
            dispatcher.dispatch(event_name="signal")

        before = signal.signal(signal.SIGALRM, handler)
        sent = 0
        try:
            signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
            async with asyncio.timeout(PATIENCE_S):
                while handled[0] < 300:
                    for _ in range(20):
                        dispatcher.dispatch(event_name="a")
                        sent += 1
                    await asyncio.sleep(0)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
        assert await dispatcher.shutdown(timeout_s=PATIENCE_S)
        return sent, dispatcher

    sent, dispatcher = asyncio.run(scenario())
    stats = dispatcher.stats()
    assert (stats.dispatched, stats.delivered) == (sent + handled[0], sent + handled[0])


def test_a_signal_handler_wakes_a_loop_that_sleeps() -> None:
    async def scenario() -> None:
        delivered = asyncio.Event()

        async def sink(**given: Any) -> None:
            delivered.set()

        dispatcher = AsyncEventDispatcher(sink)
        before = signal.signal(signal.SIGALRM, lambda *_: dispatcher.dispatch(event_name="signal"))
        try:
            signal.setitimer(signal.ITIMER_REAL, 0.05)
            async with asyncio.timeout(PATIENCE_S):
                await delivered.wait()
        finally:
            signal.signal(signal.SIGALRM, before)
        assert await dispatcher.shutdown()

    asyncio.run(scenario())


@pytest.mark.parametrize("attempt", range(10))
def test_threads_hand_over_while_the_loop_ends_and_all_is_accounted_for(attempt: int) -> None:
    ended = threading.Event()
    sent = [0]

    def work(dispatcher: AsyncEventDispatcher) -> None:
        while not ended.is_set() or sent[0] < 100 * attempt:
            dispatcher.dispatch(event_name="a")
            sent[0] += 1

    async def live() -> tuple[AsyncEventDispatcher, threading.Thread]:
        dispatcher = AsyncEventDispatcher(lambda **given: asyncio.sleep(0), 2, 10)
        thread = threading.Thread(target=work, args=(dispatcher,))
        thread.start()
        await until(lambda: dispatcher.stats().delivered > 20, "some are delivered")
        return dispatcher, thread

    dispatcher, thread = asyncio.run(live())
    ended.set()
    thread.join(PATIENCE_S)
    stats = dispatcher.stats()
    assert (stats.dispatched, stats.in_flight) == (sent[0], 0)

"""Redis hangs while many append: what waits is bounded, who finds no room is told, and nothing told is untrue."""

import asyncio
import threading
import tracemalloc

from eventlog.config import EventLogConfig
from eventlog.errors import BackendUnavailable, Overloaded
from eventlog.factory import redis_backend
from eventlog.log.awaited import AsyncDirectLog, AsyncEventLog
from eventlog.log.blocking import DirectLog, EventLog
from eventlog.log.commit import Bounds
from eventlog.log.limits import LogLimits
from eventlog.store.links import AsyncLink, SyncLink
from tests.support.redis_process import RedisProcess

BOUNDS = Bounds(call_events=10, pending_events=20)
TASKS = 50


def limits(deadline_s: float) -> LogLimits:
    return LogLimits(deadline_s=deadline_s, commit=BOUNDS)


def config(url: str, deadline_s: float) -> EventLogConfig:
    return EventLogConfig(redis_url=url, workspace="w1", deadline_seconds=deadline_s, max_entries=1_000_000)


def async_log(url: str, deadline_s: float) -> AsyncEventLog:
    backend = redis_backend(config(url, deadline_s))
    return AsyncDirectLog(backend, workspace="w1", limits=limits(deadline_s), connect=lambda size: AsyncLink(url, size))


def thread_log(url: str, deadline_s: float) -> EventLog:
    backend = redis_backend(config(url, deadline_s))
    return DirectLog(backend, workspace="w1", limits=limits(deadline_s), connect=lambda size: SyncLink(url, size))


def test_tasks_are_delayed_not_dropped_while_redis_hangs_for_less_than_the_deadline(own_server: RedisProcess) -> None:
    async def scenario() -> None:
        async with async_log(own_server.url, 10.0) as log:
            await log.append("before")
            own_server.pause()
            tracemalloc.start()
            tasks = [asyncio.create_task(log.append("x", {"task": i})) for i in range(TASKS)]
            for _ in range(20):
                await asyncio.sleep(0.05)
                assert log.stats().pending_events <= BOUNDS.pending_events
            taken = tracemalloc.get_traced_memory()[0]
            tracemalloc.stop()
            assert taken < 5_000_000
            own_server.resume()
            events = await asyncio.gather(*tasks)
            assert sorted(event.offset for event in events) == list(range(2, TASKS + 2))
            assert log.stats().refused == 0
            assert (await log.verify()).clean

    asyncio.run(scenario())


def test_tasks_for_which_there_is_no_room_are_refused_within_the_deadline_and_leave_no_event(
    own_server: RedisProcess,
) -> None:
    async def scenario() -> None:
        async with async_log(own_server.url, 0.8) as log:
            await log.append("before")
            own_server.pause()
            results = await asyncio.gather(
                *(log.append("x", {"task": i}) for i in range(TASKS)), return_exceptions=True
            )
            own_server.resume()
            assert all(isinstance(result, BackendUnavailable) for result in results)
            assert sum(isinstance(result, Overloaded) for result in results) == log.stats().refused > 0
            assert (await log.append("after")).kind == "after"
            there = {event.payload.get("task") for event in await log.query()}
            for i, result in enumerate(results):
                if isinstance(result, BackendUnavailable) and not result.outcome_unknown:
                    assert i not in there, "who was told that nothing was appended was told the truth"
            assert (await log.verify()).clean

    asyncio.run(scenario())


def test_threads_wait_their_turn_while_redis_hangs(own_server: RedisProcess) -> None:
    with thread_log(own_server.url, 10.0) as log:
        log.append("before")
        own_server.pause()
        offsets: list[int] = []
        threads = [
            threading.Thread(target=lambda i=i: offsets.append(log.append("x", {"thread": i}).offset))
            for i in range(TASKS)
        ]
        for thread in threads:
            thread.start()
        assert log.stats().pending_events <= BOUNDS.pending_events
        own_server.resume()
        for thread in threads:
            thread.join()
        assert sorted(offsets) == list(range(2, TASKS + 2))
        assert log.verify().clean


def test_threads_for_which_there_is_no_room_are_refused_and_leave_no_event(own_server: RedisProcess) -> None:
    results: dict[int, BackendUnavailable] = {}
    with thread_log(own_server.url, 0.8) as log:
        log.append("before")

        def append(i: int) -> None:
            try:
                log.append("x", {"thread": i})
            except BackendUnavailable as error:
                results[i] = error

        own_server.pause()
        threads = [threading.Thread(target=append, args=(i,)) for i in range(TASKS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        own_server.resume()
        assert len(results) == TASKS
        assert any(isinstance(error, Overloaded) for error in results.values())
        log.append("after")
        there = {event.payload.get("thread") for event in log.query()}
        assert not there & {i for i, error in results.items() if not error.outcome_unknown}
        assert log.verify().clean

"""What goes wrong for one caller of a shared script call stays with that caller."""

import asyncio
from typing import Any

import pytest

from eventlog.errors import BackendUnavailable
from eventlog.log.awaited import AsyncEventLog
from eventlog.log.commit import Bounds
from eventlog.log.commit_tasks import TaskCommitter
from eventlog.log.redis import RedisBackend
from eventlog.model.events import Body
from eventlog.model.log_values import Append
from eventlog.plan.drive import run
from eventlog.plan.effects import Command
from eventlog.store.links import LinkLost, SyncLink
from tests.faults.opening import open_async_log, open_log
from tests.support.redis_process import RedisProcess


def test_a_duplicate_whose_first_event_cannot_be_looked_up_spoils_no_other_append(own_server: RedisProcess) -> None:
    with open_log(own_server.url, deadline_s=0.5) as log:
        log.append("first", idempotency_key="k")
        backend = log.core.backend
        assert isinstance(backend, RedisBackend)
        link = SyncLink(own_server.url)

        def without_lookups(command: Command) -> Any:
            if command.args[0] == "XRANGE":
                raise LinkLost("Redis went away between the two", sent=True)
            return link.execute(command)

        plain = Append([Body.of("plain")])
        repeated = Append([Body.of("first", idempotency_key="k")])
        backend.become_new_writer()
        appended, unknown, also = run(backend.append([plain, repeated, plain], 1), without_lookups)
        assert isinstance(appended, list)
        assert appended[0].offset == 2
        assert isinstance(also, list)
        assert also[0].offset == 3
        assert isinstance(unknown, BackendUnavailable)
        assert unknown.outcome_unknown, "repeating it with the same key is right"
        link.close()


async def never_answers(appends: Any, call_number: int) -> Any:
    await asyncio.Event().wait()


def test_when_the_sending_task_is_cancelled_no_caller_is_left_waiting() -> None:
    async def scenario() -> None:
        committer = TaskCommitter(never_answers, Bounds(call_events=2), deadline_s=5)
        callers = [asyncio.create_task(committer.submit(Append([Body.of("a")]))) for _ in range(5)]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        flusher = committer._flusher
        assert flusher is not None
        flusher.cancel()
        async with asyncio.timeout(2):
            errors = await asyncio.gather(*callers, return_exceptions=True)
        assert all(isinstance(error, BackendUnavailable) for error in errors)
        unknown = [error.outcome_unknown for error in errors if isinstance(error, BackendUnavailable)]
        assert unknown[0], "the first was sent: nobody knows"
        assert not unknown[-1], "the last was never sent"

    asyncio.run(scenario())


def test_cancelled_callers_neither_stop_others_nor_lose_offsets(own_server: RedisProcess) -> None:
    async def scenario(log: AsyncEventLog) -> None:
        tasks = [asyncio.create_task(log.append("x", {"i": i})) for i in range(400)]
        for _ in range(3):
            await asyncio.sleep(0)
        for task in tasks[::3]:
            task.cancel()
        done = await asyncio.gather(*tasks, return_exceptions=True)
        offsets = [event.offset for event in done if not isinstance(event, BaseException)]
        assert len(offsets) == len(set(offsets)) == 400 - len(tasks[::3])
        kept = {event.offset for event in await log.query()}
        assert set(offsets) <= kept
        assert sorted(kept) == list(range(1, len(kept) + 1))
        assert (await log.verify()).clean

    async def main() -> None:
        async with open_async_log(own_server.url) as log:
            await scenario(log)

    asyncio.run(main())


def test_a_closed_asyncio_log_answers_everyone_who_waits(own_server: RedisProcess) -> None:
    async def scenario() -> None:
        log = open_async_log(own_server.url, deadline_s=0.5)
        await log.append("a")
        own_server.pause()
        callers = [asyncio.create_task(log.append("b")) for _ in range(3000)]
        await asyncio.sleep(0.05)
        async with asyncio.timeout(5):
            await log.close()
            results = await asyncio.gather(*callers, return_exceptions=True)
        assert all(isinstance(result, Exception) for result in results)
        own_server.resume()

    asyncio.run(scenario())


@pytest.mark.parametrize("size", [1, 2000])
def test_one_large_append_does_not_starve_small_ones(own_server: RedisProcess, size: int) -> None:
    async def scenario() -> None:
        async with open_async_log(own_server.url) as log:
            events = [{"kind": "large"}] * size
            results = await asyncio.gather(
                *(log.append_many(events) for _ in range(5)), *(log.append("small") for _ in range(50))
            )
            assert len(results) == 55
            assert (await log.info()).last_offset == 5 * size + 50

    asyncio.run(scenario())

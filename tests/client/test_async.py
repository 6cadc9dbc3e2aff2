"""What is asyncio's own: cancelling, leaving, closing, and whose event loop a client is."""

import asyncio
import gc
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from eventlog import EventLog
from eventlog.client import AsyncEventLogClient, AsyncRemoteSlots
from eventlog.errors import LogClosed
from tests.client.way import Way
from tests.client.worlds import Behind

PATIENCE_S = 20.0


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


async def _until(holds: Callable[[], Awaitable[bool] | bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while True:
        held = holds()
        if held if isinstance(held, bool) else await held:
            return
        assert time.monotonic() < deadline, f"not within {PATIENCE_S} s: {what}"
        await asyncio.sleep(0.01)


@asynccontextmanager
async def _cancelled(work: Awaitable[Any], ready: Callable[[], Awaitable[bool] | bool]) -> AsyncIterator[None]:
    """Cancel `work` once it has come so far."""
    task = asyncio.ensure_future(work)
    await _until(ready, "it has come so far")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    yield


async def _queued(slots: AsyncRemoteSlots, execution: str) -> bool:
    return (await slots.state("build", execution)).state == "queued"


def test_who_is_cancelled_while_it_waits_has_left_the_line(shared: Behind, direct: EventLog) -> None:
    async def main() -> None:
        async with AsyncEventLogClient(shared.url, workspace=direct.workspace) as client:
            slots = client.slots()
            async with slots.acquire("build", "e1", max_concurrent=1):
                waiting = slots.acquire("build", "e2", max_concurrent=1)
                async with _cancelled(asyncio.ensure_future(_awaited(waiting)), lambda: _queued(slots, "e2")):
                    assert (await slots.state("build", "e2")).state == "none"
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(0.3):
                        await slots.acquire("build", "e3", max_concurrent=1)
                assert (await slots.stats("build")).queue_length == 0

    asyncio.run(main())


async def _awaited(acquiring: Awaitable[Any]) -> Any:
    return await acquiring


def test_a_slot_whose_release_is_cancelled_is_given_back_all_the_same(way: Way, direct: EventLog) -> None:
    async def main() -> None:
        async with AsyncRemoteSlots(way.url, workspace=direct.workspace) as slots:
            slot = await slots.acquire("build", "e1", max_concurrent=1)
            way.freeze()
            releasing = asyncio.ensure_future(slot.release())
            await asyncio.sleep(0)
            await asyncio.sleep(0.05)
            releasing.cancel()
            with pytest.raises(asyncio.CancelledError):
                await releasing
            way.thaw()
            line = direct.slots()
            await _until(lambda: line.stats("build").active_count == 0, "it is given back")

    asyncio.run(main())


def test_a_cancelled_reader_closes_its_stream_and_may_go_on_elsewhere(way: Way, direct: EventLog) -> None:
    events = direct.append_many([{"kind": "a"}] * 3)

    async def main() -> None:
        async with AsyncEventLogClient(way.url, workspace=direct.workspace) as client:
            seen: list[Any] = []
            following = client.follow(0)

            async def read() -> None:
                while True:
                    seen.append(await anext(following))

            async with _cancelled(read(), lambda: len(seen) == 3):
                await _until(lambda: way.open == 0, "no stream is open")
            assert seen == events
            assert following.cursor == events[-1].id
            direct.append("b")
            async with client.follow(following.cursor, epoch=following.epoch) as again:
                assert (await anext(again)).kind == "b"
            await _until(lambda: way.open == 0, "no stream is open")

    asyncio.run(main())


def test_a_reader_that_is_left_in_the_middle_closes_its_stream(way: Way, direct: EventLog) -> None:
    direct.append_many([{"kind": "a"}] * 3)

    async def first(client: AsyncEventLogClient) -> Any:
        async for event in client.follow(0):
            return event
        return None

    async def main() -> None:
        async with AsyncEventLogClient(way.url, workspace=direct.workspace) as client:
            gc.disable()
            try:
                assert (await first(client)).offset == 1
                await _until(lambda: way.open == 0, "no stream is open")
            finally:
                gc.enable()

    asyncio.run(main())


def test_closing_waits_for_what_is_under_way_and_no_longer_than_it_says(way: Way, direct: EventLog) -> None:
    async def main() -> None:
        client = AsyncEventLogClient(way.url, workspace=direct.workspace, deadline_s=30.0)
        await client.append("first")
        way.freeze()
        under_way = asyncio.ensure_future(client.append("second"))
        await asyncio.sleep(0.05)
        closing = asyncio.ensure_future(client.close())
        await asyncio.sleep(0.05)
        way.thaw()
        assert (await under_way).kind == "second"
        await closing
        await client.close()
        with pytest.raises(LogClosed):
            await client.append("third")

        stuck = AsyncEventLogClient(way.url, workspace=direct.workspace, deadline_s=30.0)
        await stuck.info()
        way.freeze()
        hanging = asyncio.ensure_future(stuck.append("fourth"))
        await asyncio.sleep(0.05)
        began = time.monotonic()
        await stuck.close()
        with pytest.raises(Exception, match="no answer from") as told:
            await hanging
        assert told.value.outcome_unknown  # type: ignore[attr-defined]
        assert time.monotonic() - began < 5
        way.thaw()

    asyncio.run(main())
    assert [event.kind for event in direct.query()][:2] == ["first", "second"]


def test_a_client_says_that_it_is_another_loops(shared: Behind, workspace: str) -> None:
    client = AsyncEventLogClient(shared.url, workspace=workspace)

    async def use() -> None:
        await client.info()

    with asyncio.Runner() as one, asyncio.Runner() as other:
        one.run(use())
        with pytest.raises(RuntimeError, match="belongs to the event loop that used it first"):
            other.run(use())
        one.run(client.close())


def test_more_tasks_than_connections_append_all_the_same(shared: Behind, direct: EventLog) -> None:
    async def main() -> None:
        async with AsyncEventLogClient(shared.url, workspace=direct.workspace, deadline_s=30.0) as client:
            slots = client.slots()
            assert client.slots() is slots
            await asyncio.gather(*(client.append("a", {"n": n}) for n in range(250)))

    asyncio.run(main())
    assert sorted(event.payload["n"] for event in direct.query()) == list(range(250))

"""An asyncio log on one event loop after another, and on two at once."""

import asyncio
import os
import threading
import uuid
from collections.abc import Callable, Iterator

import pytest

from eventlog import AsyncEventLog, create_async_event_log
from tests.support.redis_process import RedisProcess

Open = Callable[[], AsyncEventLog]


@pytest.fixture(params=["memory", "redis"])
def open_log(request: pytest.FixtureRequest, redis_server: RedisProcess) -> Open:
    options = {"url": redis_server.url} if request.param == "redis" else {}
    workspace = f"w{uuid.uuid4().hex[:8]}"
    return lambda: create_async_event_log(request.param, workspace=workspace, **options)


@pytest.fixture
def another_loop() -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    yield loop
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


async def append(log: AsyncEventLog, n: int) -> int:
    return (await log.append("a", {"n": n})).offset


async def append_some(log: AsyncEventLog, n: int) -> int:
    return max(await asyncio.gather(*(append(log, n) for _ in range(5))))


async def read(log: AsyncEventLog) -> list[int]:
    return [event.payload["n"] for event in await log.query()]


def test_a_log_goes_on_when_the_loop_that_it_was_used_on_is_closed(open_log: Open) -> None:
    before = len(os.listdir("/proc/self/fd")) if os.path.exists("/proc/self/fd") else 0
    log = open_log()
    for n in range(3):
        assert asyncio.run(append(log, n)) == 6 * n + 1
        assert asyncio.run(append_some(log, n)) == 6 * n + 6
    assert asyncio.run(read(log)) == [n for n in range(3) for _ in range(6)]
    asyncio.run(log.close())
    if before:
        assert len(os.listdir("/proc/self/fd")) <= before


def test_what_waited_on_a_loop_that_was_closed_holds_up_nobody(open_log: Open) -> None:
    async def leave_one_under_way() -> None:
        task = asyncio.create_task(append(log, 0))
        await asyncio.sleep(0)
        task.cancel()

    log = open_log()
    asyncio.run(leave_one_under_way())
    assert asyncio.run(append(log, 1)) in (1, 2)
    asyncio.run(log.close())


def test_two_loops_at_once_are_refused_before_anything_is_sent(
    redis_server: RedisProcess, another_loop: asyncio.AbstractEventLoop
) -> None:
    log = create_async_event_log(url=redis_server.url, workspace=f"w{uuid.uuid4().hex[:8]}")
    asyncio.run_coroutine_threadsafe(append(log, 0), another_loop).result(20)
    with pytest.raises(RuntimeError, match="give each loop its own"):
        asyncio.run(append(log, 1))
    with pytest.raises(RuntimeError, match="give each loop its own"):
        asyncio.run(read(log))
    assert asyncio.run_coroutine_threadsafe(read(log), another_loop).result(20) == [0]
    asyncio.run_coroutine_threadsafe(log.close(), another_loop).result(20)


def test_slots_belong_to_the_loop_that_used_them_first(open_log: Open) -> None:
    async def hold() -> None:
        async with log.slots().acquire("x", max_concurrent=1):
            pass

    log = open_log()
    asyncio.run(hold())
    with pytest.raises(RuntimeError, match="give each loop its own"):
        asyncio.run(hold())
    asyncio.run(log.close())

"""A log that was opened before `fork` works in parent and children, each a writer of its own."""

import asyncio
import os
from collections.abc import Callable

from tests.faults.opening import open_async_log, open_log
from tests.support.redis_process import RedisProcess


def in_forks(count: int, work: Callable[[int], None]) -> None:
    """Run `work(i)` in forked children; fail if one of them does."""
    children = []
    for i in range(count):
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                work(i)
                status = 0
            finally:
                os._exit(status)
        children.append(pid)
    assert [os.waitpid(pid, 0)[1] for pid in children] == [0] * count


def test_a_blocking_log_that_was_used_goes_on_in_parent_and_children(own_server: RedisProcess) -> None:
    with open_log(own_server.url) as log:
        log.append("parent")

        def work(i: int) -> None:
            for _ in range(50):
                log.append(f"child.{i}")

        in_forks(4, work)
        log.append("parent")
        kinds = [event.kind for event in log.query()]
        assert len(kinds) == 202
        assert all(kinds.count(f"child.{i}") == 50 for i in range(4))


def test_an_asyncio_log_that_was_opened_before_forking_loses_nothing(own_server: RedisProcess) -> None:
    log = open_async_log(own_server.url)

    def work(i: int) -> None:
        async def append() -> None:
            for _ in range(50):
                await log.append(f"child.{i}")
            await log.close()

        asyncio.run(append())

    in_forks(4, work)
    with open_log(own_server.url) as reader:
        kinds = [event.kind for event in reader.query()]
    assert [kinds.count(f"child.{i}") for i in range(4)] == [50] * 4

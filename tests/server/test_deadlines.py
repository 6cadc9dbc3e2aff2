"""Time limits that share one timer: they end what they should, and nothing else."""

import asyncio
import time

import pytest
from eventlog_server.deadlines import Deadlines


def test_what_takes_too_long_is_ended_and_the_task_goes_on() -> None:
    async def scene() -> float:
        deadlines = Deadlines()
        began = time.monotonic()
        with pytest.raises(TimeoutError), deadlines.within(0.1):
            await asyncio.Event().wait()
        taken = time.monotonic() - began
        await asyncio.sleep(0)  # a cancellation left over would strike here
        assert asyncio.current_task().cancelling() == 0  # type: ignore[union-attr]
        return taken

    assert 0.1 <= asyncio.run(scene()) < 5


def test_what_is_done_in_time_gives_its_result_and_leaves_nothing_behind() -> None:
    async def scene() -> None:
        deadlines = Deadlines()
        with deadlines.within(0.05):
            await asyncio.sleep(0)
        await asyncio.sleep(0.2)  # past the limit, which must not strike any more

    asyncio.run(scene())


def test_each_task_has_its_own_limit() -> None:
    async def scene() -> list[object]:
        deadlines = Deadlines()

        async def wait(limit_s: float, work_s: float) -> str:
            with deadlines.within(limit_s):
                await asyncio.sleep(work_s)
            return "done"

        return await asyncio.gather(wait(0.05, 20), wait(20, 0.3), wait(0.05, 20), return_exceptions=True)

    first, second, third = asyncio.run(scene())
    assert (type(first), second, type(third)) == (TimeoutError, "done", TimeoutError)


def test_a_cancellation_from_outside_stays_one() -> None:
    async def scene() -> None:
        deadlines = Deadlines()

        async def wait() -> None:
            with deadlines.within(20):
                await asyncio.Event().wait()

        task = asyncio.create_task(wait())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(scene())


def test_an_error_within_passes_as_it_is() -> None:
    async def scene() -> None:
        with Deadlines().within(20):
            raise ValueError("as it is")

    with pytest.raises(ValueError, match="as it is"):
        asyncio.run(scene())

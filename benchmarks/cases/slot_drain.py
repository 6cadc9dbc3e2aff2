"""A thousand executions of one process queue for ten places; then the ten are given back. Ours alone."""

import asyncio
import time
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager
from itertools import combinations

from eventlog import AsyncSlotQueue, create_async_slot_queue

from ..arena import OUR_WORKSPACE, Arena
from ..contest import Contest, Lap, Metric, Sides

_QUEUE = "drain"
_FULL = 1000
_LIMIT = 10
_QUEUED_WITHIN_S = 30.0
_LOOK_EVERY_S = 0.002


async def _timed(slots: AsyncSlotQueue, times: int) -> Lap:
    fences = [0] * times

    async def execution(number: int) -> None:
        async with slots.acquire(_QUEUE, execution_id=f"e{number}", max_concurrent=_LIMIT) as slot:
            fences[number] = slot.fencing_token

    async with asyncio.TaskGroup() as executions, AsyncExitStack() as holders:
        for i in range(_LIMIT):
            await holders.enter_async_context(slots.acquire(_QUEUE, execution_id=f"h{i}", max_concurrent=_LIMIT))
        for number in range(times):
            executions.create_task(execution(number))
        await _until_queued(slots, times)
        started = time.perf_counter()
        await holders.aclose()
    return {"seconds": time.perf_counter() - started, "inversions": _inversions(fences)}


async def _until_queued(slots: AsyncSlotQueue, times: int) -> None:
    async with asyncio.timeout(_QUEUED_WITHIN_S):
        while (await slots.stats(_QUEUE)).queue_length < times:  # noqa: ASYNC110, the queue is on the server
            await asyncio.sleep(_LOOK_EVERY_S)


def _inversions(fences: Sequence[int]) -> int:
    """How many pairs were granted against the order in which they asked: fencing tokens only grow."""
    return sum(earlier > later for earlier, later in combinations(fences, 2))


@contextmanager
def _open(arena: Arena) -> Iterator[Sides]:
    times = arena.times(_FULL, least=_LIMIT)
    with asyncio.Runner() as runner:
        slots = create_async_slot_queue("redis", url=arena.url, workspace=OUR_WORKSPACE)
        try:
            yield (lambda: runner.run(_timed(slots, times)),)
        finally:
            runner.run(slots.close())


CONTESTS = (
    Contest(
        "slot-drain",
        "1,000 queued at limit 10, drained",
        (
            Metric("seconds", " s", more_is_better=False, bound=1.0, decimals=3),
            Metric("inversions", "", more_is_better=False, bound=0),
        ),
        _open,
        rivals=(),
        part="slots",
    ),
)

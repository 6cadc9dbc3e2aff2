"""Fifty asyncio tasks of one process that compete for three places.

redis-py's `Lock` is no rival here, and not just because it has one place only: a task that comes again at once finds
it free, while all others sleep for 0.1 s. What would be measured is how often each task comes, not the lock.
"""

import asyncio
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager

from ..arena import Arena
from ..contest import Contest, Lap, Metric, Rival, Side, Sides
from ..gates import OURS_ASYNC, STEINDAMM_ASYNC, AsyncGate, AsyncWay, Terms

_TASKS = 50
_FULL_EACH = 40
_LIMIT = 3
_RIVALS = (STEINDAMM_ASYNC,)


class _Room:
    """Sees to it that nobody wins by letting in more than the limit."""

    def __init__(self) -> None:
        self._inside = 0

    def enter(self) -> None:
        self._inside += 1
        if self._inside > _LIMIT:
            raise RuntimeError(f"{self._inside} inside, at a limit of {_LIMIT}")

    def leave(self) -> None:
        self._inside -= 1


async def _timed(gate: AsyncGate, times: int) -> Lap:
    room = _Room()

    async def caller(name: str, times: int) -> None:
        for i in range(times):
            async with gate.turn(f"{name}.{i}"):
                room.enter()
                await asyncio.sleep(0)
                room.leave()

    # Connections are made before the clock runs.
    await asyncio.gather(*(caller(f"warm{i}", 1) for i in range(_TASKS)))
    started = time.perf_counter()
    await asyncio.gather(*(caller(f"task{i}", times) for i in range(_TASKS)))
    return {"executions": _TASKS * times / (time.perf_counter() - started)}


async def _enter(stack: AsyncExitStack, arena: Arena, way: AsyncWay) -> AsyncGate:
    return await stack.enter_async_context(way.open(arena.url, Terms("tasks", _LIMIT)))


@contextmanager
def _fifty_tasks(arena: Arena) -> Iterator[Sides]:
    times = arena.times(_FULL_EACH)
    with asyncio.Runner() as runner:
        stack = AsyncExitStack()

        def side(way: AsyncWay) -> Side:
            gate = runner.run(_enter(stack, arena, way))
            return lambda: runner.run(_timed(gate, times))

        try:
            yield [side(way) if way.installed else None for way in (OURS_ASYNC, *_RIVALS)]
        finally:
            runner.run(stack.aclose())


CONTESTS = (
    Contest(
        "slot-tasks",
        "50 asyncio tasks at limit 3",
        (Metric("executions", "/s", 3.0),),
        _fifty_tasks,
        tuple(Rival(way.name) for way in _RIVALS),
        part="slots",
    ),
)

"""One blocking caller: `EventLog.append` against `Redis.xadd`, one after another."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from ..arena import KIND, MAX_ENTRIES, PAYLOAD, THEIR_STREAM, Arena, their_fields
from ..contest import Contest, Lap, Metric, Sides

_FULL = 3000
_RUN_ID = "run-1"


def _timed(operation: Callable[[], Any], times: int) -> Lap:
    started = time.perf_counter()
    for _ in range(times):
        operation()
    return {"appends": times / (time.perf_counter() - started)}


@contextmanager
def _plain(arena: Arena) -> Iterator[Sides]:
    times = arena.times(_FULL)
    with arena.our_log() as log, arena.their_client() as client:

        def ours() -> None:
            log.append(KIND, PAYLOAD)

        def theirs() -> None:
            client.xadd(THEIR_STREAM, their_fields(), maxlen=MAX_ENTRIES, approximate=True)

        ours()
        theirs()
        yield (lambda: _timed(ours, times)), (lambda: _timed(theirs, times))


@contextmanager
def _in_a_run(arena: Arena) -> Iterator[Sides]:
    """Ours counts the event in its run and lane and keeps the run's index; theirs stores the names and no more."""
    times = arena.times(_FULL)
    with arena.our_log() as log, arena.their_client() as client:

        def ours() -> None:
            log.append(KIND, PAYLOAD, run_id=_RUN_ID)

        def theirs() -> None:
            fields: dict[Any, Any] = {**their_fields(), "run_id": _RUN_ID, "lane_id": "main"}
            client.xadd(THEIR_STREAM, fields, maxlen=MAX_ENTRIES, approximate=True)

        ours()
        theirs()
        yield (lambda: _timed(ours, times)), (lambda: _timed(theirs, times))


CONTESTS = (
    Contest("one-caller", "one caller, append / xadd", (Metric("appends", "/s", 1.2),), _plain),
    Contest("one-caller-run", "one caller, event of a run / xadd", (Metric("appends", "/s"),), _in_a_run),
)

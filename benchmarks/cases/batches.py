"""Batches of 500, atomic and contiguous on both sides: `append_many` against a `MULTI` pipeline of `xadd`."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from ..arena import KIND, MAX_ENTRIES, PAYLOAD, THEIR_STREAM, Arena, their_fields
from ..contest import Contest, Lap, Metric, Sides

_BATCH = 500
_FULL = 20


def _timed(batch: Callable[[], Any], times: int) -> Lap:
    started = time.perf_counter()
    for _ in range(times):
        batch()
    return {"appends": _BATCH * times / (time.perf_counter() - started)}


@contextmanager
def _five_hundred(arena: Arena) -> Iterator[Sides]:
    times = arena.times(_FULL)
    with arena.our_log() as log, arena.their_client() as client:

        def ours() -> None:
            log.append_many([{"kind": KIND, "payload": PAYLOAD} for _ in range(_BATCH)])

        def theirs() -> None:
            pipeline = client.pipeline(transaction=True)
            for _ in range(_BATCH):
                pipeline.xadd(THEIR_STREAM, their_fields(), maxlen=MAX_ENTRIES, approximate=True)
            pipeline.execute()

        ours()
        theirs()
        yield (lambda: _timed(ours, times)), (lambda: _timed(theirs, times))


CONTESTS = (
    Contest("batches", "append_many of 500 / pipeline of 500 xadd", (Metric("appends", "/s", 3.0),), _five_hundred),
)

"""Fifty threads that share one log, against fifty that share one `Redis` client."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from ..arena import KIND, MAX_ENTRIES, PAYLOAD, THEIR_STREAM, Arena, their_fields
from ..contest import Contest, Lap, Metric, Sides

_THREADS = 50
_FULL_EACH = 100


def _timed(operation: Callable[[], Any], times: int) -> Lap:
    started = 0.0

    def start_the_clock() -> None:
        nonlocal started
        started = time.perf_counter()

    line = threading.Barrier(_THREADS + 1, action=start_the_clock)
    failures: list[BaseException] = []

    def caller() -> None:
        try:
            operation()  # connects before the clock runs
            line.wait(30)
            for _ in range(times):
                operation()
        except BaseException as error:
            failures.append(error)
            line.abort()

    threads = [threading.Thread(target=caller) for _ in range(_THREADS)]
    for thread in threads:
        thread.start()
    line.wait(30)
    for thread in threads:
        thread.join()
    took = time.perf_counter() - started
    if failures:
        raise failures[0]
    return {"appends": _THREADS * times / took}


@contextmanager
def _fifty_threads(arena: Arena) -> Iterator[Sides]:
    times = arena.times(_FULL_EACH)
    with arena.our_log() as log, arena.their_client() as client:

        def ours() -> None:
            log.append(KIND, PAYLOAD)

        def theirs() -> None:
            client.xadd(THEIR_STREAM, their_fields(), maxlen=MAX_ENTRIES, approximate=True)

        yield (lambda: _timed(ours, times)), (lambda: _timed(theirs, times))


CONTESTS = (Contest("threads", "50 threads, append / xadd", (Metric("appends", "/s", 4.0),), _fifty_threads),)

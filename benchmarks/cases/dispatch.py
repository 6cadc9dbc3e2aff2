"""Handing events over: what it costs the caller while the sink hangs, and how fast they get to Redis behind its back.

Theirs is what one writes oneself: a pool of ten threads, each `submit` an `xadd`.
"""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from typing import Any

from eventlog.dispatch.dispatchers import EventDispatcher

from ..arena import KIND, MAX_ENTRIES, PAYLOAD, THEIR_STREAM, Arena, their_fields
from ..contest import Contest, Lap, Metric, Sides

_FULL_CALLS = 20_000
_FULL_EVENTS = 10_000
_WORKERS = 10
_PATIENCE_S = 120.0


@contextmanager
def _hanging(arena: Arena) -> Iterator[Sides]:
    times = arena.times(_FULL_CALLS, least=200)

    def ours() -> Lap:
        opened = threading.Event()

        def hang(**event: Any) -> None:
            opened.wait()

        taken: list[float] = []
        dispatcher = EventDispatcher(hang, _WORKERS)
        for _ in range(times):
            started = time.perf_counter()
            dispatcher.dispatch(event_name=KIND, data=PAYLOAD)
            taken.append(time.perf_counter() - started)
        opened.set()
        dispatcher.shutdown()
        taken.sort()
        return {"p50": 1e6 * taken[len(taken) // 2], "p99": 1e6 * taken[len(taken) * 99 // 100]}

    yield (ours,)


@contextmanager
def _delivered(arena: Arena) -> Iterator[Sides]:
    times = arena.times(_FULL_EVENTS, least=100)
    with arena.our_log() as log, arena.their_client() as client:

        def ours() -> Lap:
            dispatcher = EventDispatcher(log, _WORKERS, times)
            started = time.perf_counter()
            for _ in range(times):
                dispatcher.dispatch(event_name=KIND, data=PAYLOAD)
            handed_over = time.perf_counter()
            if not dispatcher.shutdown(timeout_s=_PATIENCE_S):
                raise RuntimeError(f"not all were delivered: {dispatcher.stats()}")
            return {
                "delivered": times / (time.perf_counter() - started),
                "per event": 1e6 * (handed_over - started) / times,
            }

        def add() -> None:
            client.xadd(THEIR_STREAM, their_fields(), maxlen=MAX_ENTRIES, approximate=True)

        def theirs() -> Lap:
            with ThreadPoolExecutor(_WORKERS) as pool:
                started = time.perf_counter()
                adding = [pool.submit(add) for _ in range(times)]
                handed_over = time.perf_counter()
                wait(adding, _PATIENCE_S)
                ended = time.perf_counter()
            return {"delivered": times / (ended - started), "per event": 1e6 * (handed_over - started) / times}

        log.append(KIND, PAYLOAD)
        add()
        yield ours, theirs


CONTESTS = (
    Contest(
        "dispatch-hanging",
        "dispatch while the sink hangs",
        (
            Metric("p50", " µs", more_is_better=False, bound=1000, decimals=1),
            Metric("p99", " µs", more_is_better=False, bound=1000, decimals=1),
        ),
        _hanging,
        (),
    ),
    Contest(
        "dispatch-delivered",
        "dispatched and delivered / ten threads of xadd",
        (
            Metric("delivered", "/s", 2.0),
            Metric("per event", " µs", more_is_better=False, decimals=1),
        ),
        _delivered,
    ),
)

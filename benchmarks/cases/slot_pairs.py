"""One blocking caller that nobody contends with: take a place, give it back, again and again."""

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

from ..arena import Arena
from ..contest import Contest, Lap, Metric, Rival, Side, Sides
from ..gates import BARE_SCRIPTS, LIBRARIES, OURS, Gate, Terms, Way, sides

_FULL = 1500
_RIVALS = (BARE_SCRIPTS, *LIBRARIES)


def _timed(gate: Gate, times: int) -> Lap:
    started = time.perf_counter()
    for i in range(times):
        with gate.turn(f"e{i}"):
            pass
    return {"pairs": times / (time.perf_counter() - started)}


@contextmanager
def _side(arena: Arena, way: Way) -> Iterator[Side]:
    times = arena.times(_FULL)
    with way.open(arena.url, Terms("pairs")) as gate:
        _timed(gate, 1)
        yield lambda: _timed(gate, times)


def _open(arena: Arena) -> AbstractContextManager[Sides]:
    return sides((OURS, *_RIVALS), lambda way: _side(arena, way))


CONTESTS = (
    Contest(
        "slot-pairs",
        "one caller, acquire and release",
        (Metric("pairs", "/s"),),
        _open,
        tuple(Rival(way.name, {"pairs": 0.85} if way is BARE_SCRIPTS else {}) for way in _RIVALS),
        part="slots",
    ),
)

"""From the call that gives a place back until the one waiter, in another process, has it.

Waiters that ask again and again are released at any point between two of their questions, as in life.
"""

import random
import statistics
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

from ..arena import Arena
from ..contest import Contest, Lap, Metric, Rival, Side, Sides
from ..gates import BARE_WAKE, LIBRARIES, OURS, Gate, Terms, Way, sides
from ..line import Line, stand_in_line
from ..processes import Helper, helper

_FULL = 100
_PAUSE_S = 0.001
_RIVALS = (BARE_WAKE, *LIBRARIES)


def _timed(gate: Gate, way: Way, waiter: Helper, times: int) -> Lap:
    chance = random.Random(times)
    took_us = sorted(_one(gate, waiter, f"h{i}", _PAUSE_S + chance.uniform(0, way.polls_every_s)) for i in range(times))
    return {"p50": statistics.median(took_us), "p99": took_us[int(len(took_us) * 0.99)]}


def _one(gate: Gate, waiter: Helper, execution_id: str, pause_s: float) -> float:
    with gate.turn(execution_id):
        waiter.tell(Line(1))
        waiter.answer()
        time.sleep(pause_s)
        released_ns = time.monotonic_ns()
    (granted,) = waiter.answer()
    return (granted.at_ns - released_ns) / 1000


@contextmanager
def _side(arena: Arena, way: Way) -> Iterator[Side]:
    times = arena.times(_FULL, least=2)
    terms = Terms("handoff")
    with (
        way.open(arena.url, terms) as gate,
        helper(stand_in_line, way, arena.url, terms) as waiter,
    ):
        _timed(gate, way, waiter, 2)
        yield lambda: _timed(gate, way, waiter, times)


def _open(arena: Arena) -> AbstractContextManager[Sides]:
    return sides((OURS, *_RIVALS), lambda way: _side(arena, way))


CONTESTS = (
    Contest(
        "slot-handoff",
        "release until another process has it",
        (Metric("p50", " µs", 1.0, more_is_better=False), Metric("p99", " µs", more_is_better=False)),
        _open,
        tuple(Rival(way.name, {"p50": 2.0} if way is BARE_WAKE else {}) for way in _RIVALS),
        part="slots",
    ),
)

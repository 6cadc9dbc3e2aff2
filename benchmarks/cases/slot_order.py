"""First come, first served? Fifty wait for one place in a known order; who is served while an earlier one waits?

Once with waiters that leave when they were served, and once with waiters that come again at once, as workers in a loop
do: they may not pass those that still wait. The first is let go at any point between two questions of those who poll.
"""

import random
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

from ..arena import Arena
from ..contest import Contest, Metric, Rival, Side, Sides
from ..gates import LIBRARIES, OURS, Gate, Terms, Way, sides
from ..line import Line, overtakers, stand_in_line
from ..processes import Helper, helper

_FULL = 50


def _passed(gate: Gate, line: Helper, how: Line, pause_s: float) -> float:
    """How many of a hundred were served out of order."""
    with gate.turn("first"):
        line.tell(how)
        line.answer()
        time.sleep(pause_s)
    granted = line.answer()
    return 100 * overtakers(granted) / len(granted)


@contextmanager
def _side(arena: Arena, way: Way) -> Iterator[Side]:
    length = arena.times(_FULL, least=5)
    terms = Terms("order")
    chance = random.Random(length)
    with (
        way.open(arena.url, terms) as gate,
        helper(stand_in_line, way, arena.url, terms) as line,
    ):
        yield lambda: {
            "served once": _passed(gate, line, Line(length), chance.uniform(0, way.polls_every_s)),
            "coming again": _passed(gate, line, Line(length, again=True), chance.uniform(0, way.polls_every_s)),
        }


def _open(arena: Arena) -> AbstractContextManager[Sides]:
    return sides((OURS, *LIBRARIES), lambda way: _side(arena, way))


CONTESTS = (
    Contest(
        "slot-overtakes",
        "50 in line, overtakes",
        (
            Metric("served once", " %", more_is_better=False, bound=0),
            Metric("coming again", " %", more_is_better=False, bound=0),
        ),
        _open,
        tuple(Rival(way.name) for way in LIBRARIES),
        part="slots",
        most_rounds=3,
    ),
)

"""A holder is killed (SIGKILL) just after it got its place: how long until the next in line has it.

The waiter is in line already, and nobody else comes: a library that makes its queue anew for the next newcomer would
recover then.
"""

import math
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from itertools import count
from multiprocessing.connection import Connection

from ..arena import Arena
from ..contest import Contest, Lap, Metric, Rival, Side, Sides
from ..gates import LIBRARIES, OURS, Terms, Way, sides
from ..line import Line, stand_in_line
from ..processes import helper

_LEASE_S = 5
_LEASES_WAITED = 3


def _hold(connection: Connection, way: Way, url: str, terms: Terms) -> None:
    with way.open(url, terms) as gate, gate.turn("victim"):
        connection.send("holding")
        connection.recv()


def _recovery(arena: Arena, way: Way, terms: Terms) -> Lap:
    with (
        helper(stand_in_line, way, arena.url, terms) as waiter,
        helper(_hold, way, arena.url, terms) as holder,
    ):
        waiter.tell(Line(1))
        waiter.answer()
        killed_ns = holder.kill()
        try:
            (granted,) = waiter.answer(within_s=_LEASES_WAITED * terms.lease_s)
        except TimeoutError:
            return {"next": math.inf}
    return {"next": (granted.at_ns - killed_ns) / 1e9}


@contextmanager
def _side(arena: Arena, way: Way) -> Iterator[Side]:
    # Each round has a queue of its own: what a dead holder left behind is not to spoil the next.
    queues = (Terms(f"killed-{i}", lease_s=_LEASE_S) for i in count())
    yield lambda: _recovery(arena, way, next(queues))


def _open(arena: Arena) -> AbstractContextManager[Sides]:
    return sides((OURS, *LIBRARIES), lambda way: _side(arena, way))


CONTESTS = (
    Contest(
        "slot-killed",
        f"holder killed, lease {_LEASE_S} s",
        (
            Metric(
                "next",
                " s",
                more_is_better=False,
                bound=_LEASE_S + 0.2,
                stopped_after=_LEASES_WAITED * _LEASE_S,
                decimals=2,
            ),
        ),
        _open,
        tuple(Rival(way.name) for way in LIBRARIES),
        part="slots",
        most_rounds=3,
    ),
)

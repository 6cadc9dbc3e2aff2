"""Those who wait at a gate, as threads of a process of their own, in an order that is known.

Each asks once the one before is seen to wait. They leave as soon as their turn has come, so that the gate is passed on.
"""

import threading
import time
from dataclasses import dataclass
from multiprocessing.connection import Connection

from .gates import Gate, Terms, Way

_WAITS_WITHIN_S = 20.0
_LOOK_EVERY_S = 0.0005


@dataclass(frozen=True, slots=True)
class Line:
    """How many are to queue, and whether each comes again as soon as it was served."""

    length: int
    again: bool = False


@dataclass(frozen=True, slots=True)
class Granted:
    """Who had its turn, at which monotonic nanosecond. `number` is its place in the line, from 0.

    Who came again has the line's length for a number: all of the line asked before.
    """

    number: int
    at_ns: int


def stand_in_line(connection: Connection, way: Way, url: str, terms: Terms) -> None:
    """Serve each `Line`: "waiting" once all do, then all that was `Granted`, in order."""
    with way.open(url, terms) as gate:
        connection.send("ready")
        while True:
            try:
                line = connection.recv()
            except EOFError:
                return
            granted: list[Granted] = []
            threads = _queue_up(gate, line, granted)
            connection.send("waiting")
            for thread in threads:
                thread.join()
            connection.send(granted)


def _queue_up(gate: Gate, line: Line, granted: list[Granted]) -> list[threading.Thread]:
    threads = []
    for number in range(line.length):
        thread = threading.Thread(target=_take_turns, args=(gate, line, number, granted), daemon=True)
        thread.start()
        threads.append(thread)
        _wait_until_waiting(gate, number + 1)
    return threads


def _take_turns(gate: Gate, line: Line, number: int, granted: list[Granted]) -> None:
    with gate.turn(f"w{number}"):
        granted.append(Granted(number, time.monotonic_ns()))
    if line.again:
        with gate.turn(f"a{number}"):
            granted.append(Granted(line.length, time.monotonic_ns()))


def _wait_until_waiting(gate: Gate, number: int) -> None:
    deadline = time.monotonic() + _WAITS_WITHIN_S
    while gate.waiting() < number:
        if time.monotonic() > deadline:
            raise TimeoutError(f"fewer than {number} wait after {_WAITS_WITHIN_S:g} s")
        time.sleep(_LOOK_EVERY_S)


def overtakers(granted: list[Granted]) -> int:
    """How many had their turn while somebody who had asked before still waited."""
    count = 0
    least_after = len(granted)
    for each in reversed(granted):
        count += each.number > least_after
        least_after = min(least_after, each.number)
    return count

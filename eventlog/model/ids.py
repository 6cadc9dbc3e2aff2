"""Event ids and cursors: parsing and order. Pure.

An id is `<ms>-<offset>`: milliseconds of the Redis clock, and the dense position in the log. Both halves
stay at or below 2**53 - 1, which every JSON reader and Redis' Lua hold exactly.
"""

import re
from typing import NamedTuple

from ..errors import InvalidInput
from .texts import plain

MAX_COUNTER = 2**53 - 1

_ID = re.compile(r"(\d{1,40})-(\d{1,40})", re.ASCII)
_OFFSET = re.compile(r"\d{1,40}", re.ASCII)


class EventId(NamedTuple):
    """A position in a log. Tuples compare as Redis compares stream ids: by `ms`, then by `offset`."""

    ms: int
    offset: int

    def __str__(self) -> str:
        return f"{self.ms}-{self.offset}"

    @classmethod
    def parse(cls, text: str, field: str = "id") -> "EventId":
        """Read `<ms>-<offset>`; raises `InvalidInput` naming `field`."""
        match = _ID.fullmatch(text) if isinstance(text, str) else None
        if match is None:
            raise InvalidInput(field, f"{_shown(text)} is not an event id such as 1763720000123-41")
        return cls(_counter(match[1], field), _counter(match[2], field))


ZERO = EventId(0, 0)


class Cursor(NamedTuple):
    """Where a reader stands: after `offset`. `ms` is None if only the offset is known."""

    ms: int | None
    offset: int

    def __str__(self) -> str:
        return str(self.offset) if self.ms is None else f"{self.ms}-{self.offset}"

    @property
    def nothing_seen(self) -> bool:
        """True for `0` and `0-0`: the reader has not seen any event yet."""
        return self.offset == 0 and not self.ms


def parse_cursor(value: object, field: str = "since") -> Cursor | None:
    """Turn what callers pass as a position into a `Cursor`.

    Takes None, an integer offset, a decimal string, an id `<ms>-<offset>`, an `EventId`, a `Cursor`, or
    anything with an `id` of these forms (an `Event`). Raises `InvalidInput` naming `field`.
    """
    if value is None or isinstance(value, Cursor):
        return value
    if isinstance(value, EventId):
        return Cursor(value.ms, value.offset)
    if isinstance(value, bool):
        raise InvalidInput(field, "a boolean is not a cursor")
    if isinstance(value, int):
        if not 0 <= value <= MAX_COUNTER:
            raise InvalidInput(field, f"offset {value} is outside 0 to {MAX_COUNTER}")
        return Cursor(None, int(value))
    if isinstance(value, str):
        if _OFFSET.fullmatch(value):
            return Cursor(None, _counter(value, field))
        if _ID.fullmatch(value):
            return Cursor(*EventId.parse(value, field))
        raise InvalidInput(
            field, f"{_shown(value)} is not a cursor: give an event id (1763720000123-41), an offset, or 0"
        )
    event_id = getattr(value, "id", None)
    if isinstance(event_id, str):
        return parse_cursor(event_id, field)
    raise InvalidInput(field, f"a {type(value).__name__} is not a cursor")


def _counter(digits: str, field: str) -> int:
    number = int(digits)
    if number > MAX_COUNTER:
        raise InvalidInput(field, f"{digits} is above {MAX_COUNTER}")
    return number


def _shown(text: object) -> str:
    return repr(text if not isinstance(text, str) or len(text) <= 40 else text[:40] + "…")


WORKSPACE_PATTERN = r"[A-Za-z0-9_.-]{1,64}"


_WORKSPACE = re.compile(WORKSPACE_PATTERN, re.ASCII)


def checked_workspace(name: object) -> str:
    """A workspace name, by value; raises `InvalidInput` if it is not one."""
    if not isinstance(name, str) or _WORKSPACE.fullmatch(name) is None:
        shown = name[:80] if isinstance(name, str) else name
        raise InvalidInput("workspace", f"{shown!r} does not match {WORKSPACE_PATTERN}")
    return plain(name)

"""What the texts of events must be: as a pattern, in words for errors, and as JSON Schema. Pure."""

import re
from collections.abc import Mapping
from typing import Any

from ..errors import InvalidInput

_MOST_SHOWN = 60
_MOST_KNOWN = 4096


class Text:
    """One form of text. `problem` says what is wrong with a text that does not match the pattern.

    `schema` documents it; by default that is the pattern. `known` has texts that were found right, for those that come
    again and again: looking one up costs a fifth of matching it.
    """

    __slots__ = ("_fullmatch", "_problem", "_recurs", "known", "schema")

    def __init__(
        self, pattern: str, problem: str | None = None, schema: Mapping[str, Any] | None = None, *, recurs: bool = True
    ) -> None:
        self._fullmatch = re.compile(pattern).fullmatch
        self._problem = problem or f"does not match {pattern}"
        self._recurs = recurs
        self.known: set[str] = set()
        self.schema: Mapping[str, Any] = {"type": "string", **(schema or {"pattern": f"^({pattern})$"})}

    def check(self, field: str, value: object) -> str:
        """The text, by value; raises `InvalidInput` naming the field if it is not of this form."""
        if not isinstance(value, str):
            raise InvalidInput(field, f"must be a string, not {json_type(value)}")
        if type(value) is not str:
            value = plain(value)
        if value in self.known:
            return value
        if self._fullmatch(value) is None:
            shown = value if len(value) <= _MOST_SHOWN else value[:_MOST_SHOWN] + "…"
            raise InvalidInput(field, f"{shown!r} {self._problem}")
        if self._recurs:
            if len(self.known) >= _MOST_KNOWN:
                self.known.clear()
            self.known.add(value)
        return value


def plain(value: object) -> str:
    """A value as text. Of a member of `class Kind(str, Enum)` that is its value, where `str` gives its name."""
    return str.__str__(value) if isinstance(value, str) else str(value)


def shown_url(url: str) -> str:
    """A URL as people may see it: without user name and passwords, however wrong it is otherwise."""
    return re.sub(r"(?s)^((?:\w+:)?//)?+(?!/).*@", r"\1…@", re.sub(r"(password=)[^&#]*", r"\1…", url))


def json_type(value: object) -> str:
    """What JSON calls the type of a value."""
    names = {dict: "object", list: "array", str: "string", bool: "boolean", type(None): "null"}
    return names.get(type(value), "number" if isinstance(value, int | float) else type(value).__name__)

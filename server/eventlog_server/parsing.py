"""Reading what clients send: query parameters and bodies. Strict, bounded, and naming what is wrong."""

import re
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, NamedTuple
from urllib.parse import parse_qsl

from eventlog.errors import InvalidInput, PayloadTooLarge
from eventlog.model.filters import FILTER_NAMES, FILTERS, EventFilter
from eventlog.model.ids import MAX_COUNTER, Cursor, parse_cursor
from eventlog.model.pages import PageRequest

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

PAGE_PARAMETERS = ("since", "until", "limit", *FILTER_NAMES, "order", "since_time", "epoch")
ACTIVITY_PARAMETERS = ("until", "limit", *FILTER_NAMES, "since_time")
STREAM_PARAMETERS = ("since", *FILTER_NAMES, "until_terminal", "epoch")
ACTIVITY_LIMIT = 50

_MOST_PARAMETERS = 200
_INTEGER = re.compile(r"\d{1,16}", re.ASCII)
_SECONDS = re.compile(r"\d{1,13}(\.\d{1,9})?", re.ASCII)
_EPOCH = re.compile(r"[A-Za-z0-9_.-]{1,64}", re.ASCII)


class Disconnected(Exception):
    """The client went away before it had sent all of its request."""


class StreamRequest(NamedTuple):
    """What a client wants to follow; `since=None` is from now on."""

    since: Cursor | None
    wanted: EventFilter
    epoch: str | None
    until_terminal: bool


def header(scope: Scope, name: bytes) -> str | None:
    """A request header that may be given once; raises `InvalidInput` naming it otherwise."""
    values = [value for key, value in scope["headers"] if key == name]
    if len(values) > 1:
        raise InvalidInput(name.decode(), "was given more than once")
    return values[0].decode("latin-1").strip() if values else None


class Query:
    """The query string: each parameter at most once, except `kind`; unknown ones are refused by name."""

    def __init__(self, raw: bytes, allowed: tuple[str, ...]) -> None:
        self._values: dict[str, list[str]] = {}
        for name, value in _pairs(raw):
            if name not in allowed:
                known = f"known are {', '.join(allowed)}" if allowed else "there are none here"
                raise InvalidInput(name[:64] or "query", f"unknown query parameter; {known}")
            self._values.setdefault(name, []).append(value)
        for name, values in self._values.items():
            if len(values) > 1 and name != "kind":
                raise InvalidInput(name, "was given more than once")

    def text(self, name: str) -> str | None:
        """The parameter as it is."""
        values = self._values.get(name)
        return values[0] if values else None

    def all(self, name: str) -> list[str]:
        """Every value of a parameter that may be repeated."""
        return self._values.get(name, [])

    def integer(self, name: str) -> int | None:
        """Decimal ASCII digits only: no sign, no exponent, no blanks."""
        text = self.text(name)
        if text is None:
            return None
        if _INTEGER.fullmatch(text) is None or int(text) > MAX_COUNTER:
            raise InvalidInput(name, f"{text[:40]!r} is not a whole number in decimal digits")
        return int(text)

    def seconds(self, name: str) -> float | None:
        """Seconds with an optional decimal fraction."""
        text = self.text(name)
        if text is None:
            return None
        if _SECONDS.fullmatch(text) is None:
            raise InvalidInput(name, f"{text[:40]!r} is not a number of seconds")
        return float(text)

    def flag(self, name: str) -> bool:
        """`true` or `false`; absent is false."""
        text = self.text(name)
        if text not in (None, "true", "false"):
            raise InvalidInput(name, f"{text[:40]!r} is neither true nor false")
        return text == "true"

    def filter(self) -> EventFilter:
        """The filters that every reading route takes."""
        read: dict[str, Callable[[str], Any]] = {"text": self.text, "texts": self.all, "integer": self.integer}
        return EventFilter.of(**{field.name: read[field.form](field.name) for field in FILTERS})

    def epoch(self) -> str | None:
        """The incarnation of the log that the reader has seen."""
        text = self.text("epoch")
        if text is not None and _EPOCH.fullmatch(text) is None:
            raise InvalidInput("epoch", f"{text[:40]!r} is not an epoch as a page has it")
        return text


def page_request(raw: bytes) -> PageRequest:
    """The query of `GET /events`."""
    query = Query(raw, PAGE_PARAMETERS)
    return PageRequest.of(
        query.text("since"),
        query.text("until"),
        query.integer("limit"),
        query.filter(),
        order=query.text("order") or _default_order(query),
        since_time=query.seconds("since_time"),
        epoch=query.epoch(),
    )


def activity_request(raw: bytes) -> PageRequest:
    """The query of `GET /activity`: newest first."""
    query = Query(raw, ACTIVITY_PARAMETERS)
    limit = query.integer("limit")
    return PageRequest.of(
        None,
        query.text("until"),
        ACTIVITY_LIMIT if limit is None else limit,
        query.filter(),
        order="desc",
        since_time=query.seconds("since_time"),
    )


def stream_request(scope: Scope) -> StreamRequest:
    """The query of `GET /events/stream`; the header `Last-Event-ID` wins over `since`."""
    query = Query(scope["query_string"], STREAM_PARAMETERS)
    since = parse_cursor(query.text("since"))
    # A browser that has seen no id yet sends none; some clients send an empty one.
    resumed = header(scope, b"last-event-id") or None
    if resumed is not None:
        since = parse_cursor(resumed, "Last-Event-ID")
    until_terminal = query.flag("until_terminal")
    if until_terminal and query.text("run_id") is None:
        raise InvalidInput("until_terminal", "needs a run_id: it ends after that run's terminal event")
    return StreamRequest(since, query.filter(), query.epoch(), until_terminal)


def no_query(raw: bytes) -> None:
    """For routes that take no parameters."""
    Query(raw, ())


def _default_order(query: Query) -> str:
    # An empty `order=` is not the absent one.
    return "asc" if query.text("order") is None else ""


def _pairs(raw: bytes) -> list[tuple[str, str]]:
    if not raw:
        return []
    try:
        return parse_qsl(raw.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=_MOST_PARAMETERS)
    except UnicodeDecodeError:
        raise InvalidInput("query", "is not percent-encoded UTF-8") from None
    except ValueError:
        raise InvalidInput("query", f"has more than {_MOST_PARAMETERS} parameters") from None


async def read_body(scope: Scope, receive: Receive, most_bytes: int) -> bytes:
    """The whole body, of which never more than `most_bytes` are held. Raises `PayloadTooLarge`, `Disconnected`."""
    declared = _declared_length(scope["headers"])
    if declared is not None and declared > most_bytes:
        raise too_large(most_bytes)
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Disconnected
        part: bytes = message.get("body", b"")
        size += len(part)
        if size > most_bytes:
            raise too_large(most_bytes)
        if not message.get("more_body", False):
            return b"".join((*parts, part)) if parts else part
        parts.append(part)


def too_large(most_bytes: int) -> PayloadTooLarge:
    """The complaint about a body over its limit."""
    return PayloadTooLarge("body", f"is larger than {most_bytes} bytes; send smaller batches, or NDJSON line by line")


def _declared_length(headers: list[tuple[bytes, bytes]]) -> int | None:
    for name, value in headers:
        if name == b"content-length":
            return int(value) if value.isdigit() else None
    return None


def accepts(scope: Scope, media_type: str) -> bool:
    """True if the client names this type in `Accept` (wildcards do not count) and does not refuse it."""
    for name, value in scope["headers"]:
        if name == b"accept":
            for item in value.decode("latin-1").lower().split(","):
                kind, _, parameters = item.partition(";")
                if kind.strip() == media_type and "q=0" not in parameters.replace(" ", "").split(";"):
                    return True
    return False

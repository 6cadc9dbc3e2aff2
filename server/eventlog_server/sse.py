"""The frames of a stream, as Server-Sent Events or as NDJSON lines. No I/O.

A frame of a stretch of events is made once for all followers that are handed the same stretch.
"""

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import orjson

from eventlog.model.events import Event
from eventlog.model.log_values import Gap
from eventlog.tail.hub import CaughtUp, Interrupted, Item


class Framing(Protocol):
    """How items are written."""

    media_type: str
    content_type: bytes

    def events(self, events: list[Event]) -> bytes:
        """Log events, in order."""

    def control(self, name: str, data: dict[str, Any], cursor: str) -> bytes:
        """A control event; a reader that resumes at `cursor` has seen it."""

    def heartbeat(self, place: dict[str, Any], *, moved: bool) -> bytes:
        """A sign of life that is no event; `moved` if the reader does not know its cursor yet."""


class ServerSentEvents:
    """Log events are unnamed messages with their id; control events are named."""

    media_type = "text/event-stream"
    content_type = b"text/event-stream; charset=utf-8"

    def events(self, events: list[Event]) -> bytes:
        """See `Framing`."""
        return b"".join([b"id: %s\ndata: %s\n\n" % (event.id.encode(), event.to_json()) for event in events])

    def control(self, name: str, data: dict[str, Any], cursor: str) -> bytes:
        """See `Framing`."""
        return b"event: %s\nid: %s\ndata: %s\n\n" % (name.encode(), cursor.encode(), orjson.dumps(data))

    def heartbeat(self, place: dict[str, Any], *, moved: bool) -> bytes:
        """A comment, which readers of events never see; with an id to resume at where events were filtered out."""
        return self.control("heartbeat", place, place["cursor"]) if moved else b": heartbeat\n\n"


class Lines:
    """One JSON object a line: an event, or an object with the key `control`."""

    media_type = "application/x-ndjson"
    content_type = b"application/x-ndjson"

    def events(self, events: list[Event]) -> bytes:
        """See `Framing`."""
        return b"\n".join([event.to_json() for event in events]) + b"\n"

    def control(self, name: str, data: dict[str, Any], cursor: str) -> bytes:
        """See `Framing`."""
        return orjson.dumps({"control": name, **data}) + b"\n"

    def heartbeat(self, place: dict[str, Any], *, moved: bool) -> bytes:
        """A control line; its cursor moves on where events were filtered out."""
        return self.control("heartbeat", place, place["cursor"])


class _Stretch(NamedTuple):
    first: Event
    last: Event
    frame: bytes


class FrameCache:
    """Frames of the latest stretches, at most `most_bytes`. A stretch without holes is known by its ends."""

    def __init__(self, most_bytes: int = 8 * 1024 * 1024) -> None:
        self._most_bytes = most_bytes
        self._bytes = 0
        self._frames: OrderedDict[tuple[int, int, str], _Stretch] = OrderedDict()

    def frame(self, framing: Framing, events: list[Event]) -> bytes:
        """As `framing.events`, made once for one stretch of one log."""
        first, last = events[0], events[-1]
        if last.offset - first.offset + 1 != len(events):
            return framing.events(events)
        # The events are held as long as the key, so no others can have their identity.
        key = (id(first), id(last), framing.media_type)
        known = self._frames.get(key)
        if known is not None:
            return known.frame
        frame = framing.events(events)
        self._frames[key] = _Stretch(first, last, frame)
        self._bytes += len(frame)
        while self._bytes > self._most_bytes:
            self._bytes -= len(self._frames.popitem(last=False)[1].frame)
        return frame


def encode(framing: Framing, cache: FrameCache, items: Sequence[Item], place: dict[str, Any]) -> bytes:
    """All items as one piece; `place` is where the follower stands behind them: `cursor` and `epoch`."""
    frames: list[bytes] = []
    events: list[Event] = []
    for i, item in enumerate(items):
        if isinstance(item, Event):
            events.append(item)
            continue
        if events:
            frames.append(cache.frame(framing, events))
            events = []
        if isinstance(item, Gap):
            cursor = _cursor_before(items[i + 1 :], place["cursor"])
            frames.append(framing.control("gap", {**item.to_dict(), "cursor": cursor}, cursor))
        elif isinstance(item, Interrupted):
            frames.append(framing.control("interrupted", {"cursor": item.cursor, "detail": item.problem}, item.cursor))
        else:
            name = "caught_up" if isinstance(item, CaughtUp) else "closing"
            frames.append(framing.control(name, place, item.cursor))
    if events:
        frames.append(cache.frame(framing, events))
    return b"".join(frames)


def _cursor_before(following: Sequence[Item], cursor: str) -> str:
    """Where a reader stands that knows of a gap, but has not seen the event behind it."""
    for item in following:
        if isinstance(item, Event):
            # An offset alone: the id of the event before is not known, and another one would not be in the log.
            return str(item.offset - 1)
    return cursor

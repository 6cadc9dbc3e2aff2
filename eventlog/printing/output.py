"""Writing to stdout and stderr: events as lines of text or JSON, at once, in colours where a person looks."""

import contextlib
import os
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from typing import Any

import orjson

from ..model.events import Event, ascii_json
from ..model.log_values import Gap
from .escape import escaped


class Format(StrEnum):
    """How events are written: lines for people, or one JSON object a line."""

    text = "text"
    json = "json"


class PipeClosed(Exception):
    """The reader of stdout has gone away: nothing is left to do, and that is no failure."""


def drop_stdout() -> None:
    """Point stdout at nothing, so that the interpreter's last flush has nowhere to fail."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.close(nowhere)


def put(line: str | bytes) -> None:
    """Write one line to stdout and flush it; raises `PipeClosed` where nobody reads any more, or `OSError`."""
    raw = line.encode("utf-8", "backslashreplace") if isinstance(line, str) else line
    try:
        sys.stdout.buffer.write(raw + b"\n")
        sys.stdout.buffer.flush()
    except BrokenPipeError as error:
        raise PipeClosed from error
    except OSError as error:
        error.filename = "standard output"
        raise


def note(text: str) -> None:
    """One line for the person, on stderr, beside the data. Where nobody can read it the data goes on without."""
    with contextlib.suppress(OSError):
        sys.stderr.write(escaped(text) + "\n")
        sys.stderr.flush()


def say_none(what: str, form: Format) -> None:
    """A note that there is nothing, for a person; a program sees that by itself."""
    if form is Format.text:
        note(f"--- no {what} ---")


def wants_colour(environ: Mapping[str, str]) -> bool:
    """Whether stdout is a terminal whose user did not ask for plain text (`NO_COLOR`)."""
    return sys.stdout.isatty() and not environ.get("NO_COLOR") and environ.get("TERM") != "dumb"


class EventPrinter:
    """Writes events, and the gaps between them, in one format."""

    def __init__(self, form: Format, *, colour: bool = False) -> None:
        self._form = form
        self._colour = colour
        self._silent = True

    def event(self, event: Event) -> None:
        """One event, one line on stdout."""
        self._silent = False
        if self._form is Format.json:
            put(json_line(event))
        else:
            put(text_line(event, colour=self._colour))

    def page(self, events: Sequence[Event], gap: Gap | None) -> None:
        """The events of a page, after what is missing before them."""
        if gap is not None:
            self.gap(gap)
        for event in events:
            self.event(event)

    def gap(self, gap: Gap, **more: Any) -> None:
        """What was missed: a control line in JSON, a marked line on stderr in text."""
        self._silent = False
        if self._form is Format.json:
            put(orjson.dumps({"control": "gap", **gap.to_dict(), **more}))
        else:
            note(gap_line(gap))

    def missed(self, lanes: Mapping[str, int]) -> None:
        """A note of how many events of a run's lanes are gone, if any are."""
        if not lanes:
            return
        self._silent = False
        if self._form is Format.json:
            put_json({"control": "missed", "missed": dict(lanes)})
        else:
            counts = ", ".join(f"{count} of lane {lane}" for lane, count in lanes.items())
            note(f"--- gone: {counts}; they were evicted ---")

    def end(self, what: str) -> None:
        """Nothing more comes: say so where nothing came."""
        if self._silent:
            say_none(what, self._form)


def json_line(event: Event) -> bytes:
    r"""The wire form as ASCII; DEL, the one control character JSON lets through, is written as `\u007f`."""
    return _harmless(event.to_json())


def put_json(document: Mapping[str, Any]) -> None:
    """Write an object on one line, as ASCII without control characters."""
    put(_harmless(ascii_json(orjson.dumps(document))))


def _harmless(ascii_line: bytes) -> bytes:
    return ascii_line.replace(b"\x7f", b"\\u007f")


def gap_line(gap: Gap) -> str:
    """A gap in words."""
    reasons = {
        "trimmed": "they were evicted or cleared",
        "reset": "the log was lost and began anew",
        "rollback": "the log went back to an older state",
    }
    span = f", offsets {gap.from_offset} to {gap.to_offset}" if gap.missed else ""
    return f"--- gap: {gap.missed} events missed{span}: {reasons.get(gap.reason, gap.reason)} ---"


def text_line(event: Event, *, colour: bool = False) -> str:
    """`2025-11-21 12:44:16.123 #41 tool.invoked r1/main:3 stage=build private source=agent {"turn":1}`."""
    paint = painted if colour else _plain
    parts = [
        paint(shown_time(event.timestamp), "2"),
        paint(f"#{event.offset}", "2"),
        paint(escaped(event.kind), _shade(event)),
    ]
    if event.run_id is not None:
        parts.append(paint(escaped(f"{event.run_id}/{event.lane_id}:{event.seq}"), "35"))
    if event.stage_name is not None:
        parts.append(escaped(f"stage={event.stage_name}"))
    if event.group_id is not None:
        parts.append(escaped(f"group={event.group_id}"))
    if event.visibility != "public":
        parts.append(paint(escaped(event.visibility), "33"))
    if event.source is not None:
        parts.append(escaped(f"source={event.source}"))
    if event.payload_json != b"{}":
        parts.append(escaped(event.payload_json.decode("utf-8", "backslashreplace")))
    return " ".join(parts)


def shown_time(timestamp: float) -> str:
    """Seconds since the Unix epoch as people of this place read them: `2025-11-21 12:44:16.123`."""
    try:
        return datetime.fromtimestamp(timestamp).astimezone().isoformat(" ", "milliseconds")[:23]
    except (OverflowError, ValueError, OSError):
        return f"{timestamp:.3f}"


def _shade(event: Event) -> str:
    if event.kind.endswith((".failed", ".error")):
        return "1;31"
    return "1;32" if event.is_terminal or event.kind.endswith(".succeeded") else "36"


def painted(text: str, code: str) -> str:
    """The text in a colour, by its SGR code."""
    return f"\x1b[{code}m{text}\x1b[0m"


def _plain(text: str, _: str) -> str:
    return text

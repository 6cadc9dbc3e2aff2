"""`eventlog append`: one event from the arguments, or many from stdin as NDJSON."""

import contextlib
import logging
import sys
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, NamedTuple

import typer

from ..errors import BackendUnavailable, InvalidInput
from ..log.blocking import EventLog
from ..model.events import Body, Event, EventParts
from ..model.ids import MAX_COUNTER
from ..model.strictjson import strict_loads
from ..printing.output import Format, PipeClosed, drop_stdout, json_line, note, put
from .failures import REFUSED
from .ndjson import LONGEST_LINE_BYTES, Line, batches
from .options import Output, with_options
from .target import Target

_STDIN = "-"


def _is_not_of_guard(record: logging.LogRecord) -> bool:
    return record.module != "guard"


@contextlib.contextmanager
def _refusals_reported_once() -> Iterator[None]:
    """What the guard refuses is reported as an error, and not as a warning too."""
    log = logging.getLogger("eventlog")
    log.addFilter(_is_not_of_guard)
    try:
        yield
    finally:
        log.removeFilter(_is_not_of_guard)


@with_options
@_refusals_reported_once()
def append(
    target: Target,
    parts: EventParts,
    kind: Annotated[
        str | None, typer.Argument(help="Such as tool.invoked; - or nothing reads events from stdin, one a line.")
    ] = None,
    payload: Annotated[str | None, typer.Argument(metavar="PAYLOAD_JSON", help="A JSON object.")] = None,
    expected_offset: Annotated[int | None, typer.Option(help="Append only if the log ends at this offset.")] = None,
    output: Output = Format.text,
) -> None:
    """Append an event and print its id (-o json: the event).

    Without KIND, or with - for it, events are read from stdin, one JSON object a line with kind, payload and the names
    of an event's fields: run_id, lane_id, stage_name and so on. They are appended as they come. A line that is wrong is
    reported with its number and refuses only itself; the exit code is then 1. The options are defaults for all lines.
    """
    if kind is not None and kind != _STDIN:
        content = {} if payload is None else strict_loads(payload.encode("utf-8", "surrogateescape"), "payload")
        # Checked before anything is opened: bad input needs no Redis to be refused.
        Body.from_mapping({"kind": kind, "payload": content, **parts}, payload_max_bytes=MAX_COUNTER)
        with target.open_log() as log:
            event = log.append(kind, content, expected_offset=expected_offset, **parts)
        if event.duplicate:
            note("--- nothing appended: this idempotency key was used before ---")
        shown = _Shown(output)
        shown.show(event)
        shown.end()
        return
    if kind is None and sys.stdin.isatty():
        raise InvalidInput("kind", "give a kind, or events on stdin (- reads them from the terminal)")
    own = {"payload": payload, "idempotency_key": parts.get("idempotency_key"), "expected_offset": expected_offset}
    for name, value in own.items():
        if value is not None:
            raise InvalidInput(name, "is for one event: with stdin it is part of each line")
    shown = _Shown(output)
    with target.open_log() as log:
        ingest = _Ingest(log, parts, shown)
        for lines in batches(sys.stdin.fileno()):
            ingest.take(lines)
    shown.end()
    if ingest.refused:
        raise typer.Exit(REFUSED)


class _Shown:
    """What was appended, on stdout. That nobody can read it does not keep the rest from being appended."""

    def __init__(self, output: Format) -> None:
        self._output = output
        self._failure: OSError | None = None

    def show(self, event: Event) -> None:
        """One line, as long as stdout takes them."""
        try:
            put(json_line(event) if self._output is Format.json else event.id)
        except PipeClosed:
            drop_stdout()
        except OSError as error:
            self._failure = self._failure or error
            drop_stdout()

    def end(self) -> None:
        """Raises what kept stdout from being written."""
        if self._failure is not None:
            note("not all that was appended could be shown")
            raise self._failure


class _Numbered(NamedTuple):
    """The event of a line of input."""

    number: int
    event: Mapping[str, Any]


class _Ingest:
    """Appends lines in order. One that is wrong is reported and left out; `refused` counts those."""

    def __init__(self, log: EventLog, defaults: Mapping[str, Any], shown: _Shown) -> None:
        self._log = log
        self._defaults = defaults
        self._shown = shown
        self.refused = 0

    def take(self, lines: list[Line]) -> None:
        """Append what these lines say; raises `BackendUnavailable`, saying from which line on."""
        checked: list[_Numbered] = []
        for line in lines:
            try:
                checked.append(_Numbered(line.number, self._parsed(line)))
            except InvalidInput as error:
                self._refuse(line.number, error)
        if checked:
            self._send(checked)

    def _parsed(self, line: Line) -> dict[str, Any]:
        if line.text is None:
            raise InvalidInput("line", f"longer than {LONGEST_LINE_BYTES} bytes")
        found = strict_loads(line.text, "line")
        said: dict[str, Any] = {**self._defaults, **found} if isinstance(found, dict) else found
        # Here too, so that most of what is wrong costs no batch; how large a payload may be is for the log to say.
        Body.from_mapping(said, payload_max_bytes=MAX_COUNTER)
        return said

    def _send(self, lines: list[_Numbered]) -> None:
        results = self._log.append_each([line.event for line in lines])
        for line, result in zip(lines, results, strict=True):
            if isinstance(result, Event):
                self._shown.show(result)
            elif isinstance(result, InvalidInput):
                self._refuse(line.number, result)
            else:
                unknown = isinstance(result, BackendUnavailable) and result.outcome_unknown
                fate = "may or may not have been" if unknown else "were not"
                note(f"lines {line.number} to {lines[-1].number} {fate} appended, and none after them")
                raise result

    def _refuse(self, number: int, error: InvalidInput) -> None:
        self.refused += 1
        note(f"line {number}: {error.field}: {error.problem}")

"""The record of an execution: events in order, appended in batches by a thread of their own, bounded in memory.

Adding to the record never waits for Redis. Lines of output over the bound are left out and counted, in their place;
events of the execution itself never are. An outage is waited out for as long as the record is open. Only the log knows
the number of a stage attempt: it is claimed here too, in its turn, so that no command waits for it.
"""

import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, Protocol

from ..errors import BackendUnavailable, EventLogError
from ..model.events import Event, EventInput
from .lines import Line, LineSplitter

MOST_LINES = 10_000
MOST_BYTES = 8 * 1024 * 1024
_BATCH_EVENTS = 200
_BATCH_BYTES = 128 * 1024
_BATCH_S = 0.2
# The call itself retries until its deadline. During the pause none is under way that `abandon` would have to wait for.
_RETRY_S = 1.5


class Appender(Protocol):
    """The part of a log that a record needs."""

    def append_each(
        self, events: Iterable[EventInput], *, idempotency_key: str | None = None
    ) -> list[Event | EventLogError]:
        """See `LogOperations.append_each`."""


Claim = Callable[[Mapping[str, Any]], Callable[[], int]]
"""Given the payload of a `stage.started`, answers with what appends it under the true number of the attempt.

That returns the number. Called again after it failed it appends nothing twice.
"""


class RecordStats(NamedTuple):
    """How much is recorded: lines of output, lines left out for want of room, events that could not be appended."""

    lines: int
    dropped: int
    lost: int
    problem: str


@dataclass(slots=True)
class Attempt:
    """An attempt at the stage. Its `number` is known once its beginning is in the log."""

    number: int | None = None


Facts = Callable[[int | None], Mapping[str, Any]]
"""The payload of an event, given the number of an attempt, or None where that is not known."""


@dataclass(frozen=True, slots=True)
class _Happening:
    kind: str
    facts: Facts
    attempt: Attempt | None
    size: ClassVar = 0

    @property
    def payload(self) -> Mapping[str, Any]:
        return self.facts(None if self.attempt is None else self.attempt.number)


@dataclass(frozen=True, slots=True)
class _AttemptStart:
    payload: Mapping[str, Any]
    attempt: Attempt
    kind: ClassVar = "stage.started"
    size: ClassVar = 0


@dataclass(frozen=True, slots=True)
class _Output:
    stream: str
    line: Line
    kind: ClassVar = "exec.output"

    @property
    def size(self) -> int:
        return len(self.line.raw)

    @property
    def payload(self) -> Mapping[str, Any]:
        cut = {"truncated": True} if self.line.truncated else {}
        return {"line": self.line.text, "stream": self.stream, **cut}


class _Dropped:
    kind = "exec.output_dropped"
    size = 0

    def __init__(self) -> None:
        self.lines = 0

    @property
    def payload(self) -> Mapping[str, Any]:
        return {"lines": self.lines}


_Entry = _Happening | _AttemptStart | _Output | _Dropped


class Record:
    """Takes what is to be recorded, without waiting, from any thread. `scope` is what all its events have in common.

    Use `start` first, and at the end `close`; `on_end` is called once all is appended after that. `abandon` is for
    callers that no longer wait.
    """

    def __init__(
        self,
        log: Appender,
        scope: Callable[[str], Mapping[str, str]],
        claim: Claim,
        *,
        most_lines: int = MOST_LINES,
        most_bytes: int = MOST_BYTES,
        on_end: Callable[[], object] = lambda: None,
    ) -> None:
        self._log = log
        self._scope = scope
        self._claim = claim
        self._most_lines = most_lines
        self._most_bytes = most_bytes
        self._on_end = on_end
        self._changed = threading.Condition()
        self._waiting: deque[_Entry] = deque()
        self._oldest_s = 0.0
        # What is being sent is held in memory too.
        self._held = self._held_bytes = 0
        self._urgent = self._full = self._closing = self._abandoned = False
        self._lines = self._dropped = self._lost = 0
        self._problem = ""
        self._thread = threading.Thread(target=self._run, name="eventlog-record", daemon=True)

    def start(self) -> None:
        """Begin to append."""
        self._thread.start()

    def add(self, kind: str, payload: Mapping[str, Any], of: Attempt | None = None) -> None:
        """Record an event of the execution itself, `of` an attempt: never left out, and sent without delay."""
        self.add_numbered(of, kind, lambda number: payload if number is None else {**payload, "stage_attempt": number})

    def add_numbered(self, attempt: Attempt | None, kind: str, facts: Facts) -> None:
        """Record, in the same way, an event whose payload depends on the number of an attempt."""
        self._add_urgent(_Happening(kind, facts, attempt))

    def begin(self, payload: Mapping[str, Any]) -> Attempt:
        """Record the beginning of an attempt at the stage."""
        attempt = Attempt()
        self._add_urgent(_AttemptStart(payload, attempt))
        return attempt

    def _add_urgent(self, entry: _Entry) -> None:
        with self._changed:
            self._urgent = True
            self._add(entry)

    def take(self, stream: str, splitter: LineSplitter, chunk: bytes) -> None:
        """Record the lines of `stream` that `chunk` completes, as far as there is room."""
        with self._changed:
            lines, left_out = splitter.feed(chunk, self._room())
            for line in lines:
                self._add(_Output(stream, line))
            self._lines += len(lines)
            self._drop(left_out)

    def finish(self, stream: str, splitter: LineSplitter) -> None:
        """Record the line without an end, if there is one, of a stream that has ended."""
        last = splitter.end()
        if last is None:
            return
        with self._changed:
            if self._room():
                self._add(_Output(stream, last))
                self._lines += 1
            else:
                self._drop(1)

    def close(self) -> None:
        """Nothing more will come; what is there is still appended. Does not wait."""
        with self._changed:
            self._closing = True
            self._changed.notify()

    def abandon(self) -> None:
        """Give up what is not appended yet. Does not wait."""
        with self._changed:
            self._closing = self._abandoned = True
            self._lost += self._held
            self._waiting.clear()
            self._held = 0
            self._changed.notify()

    @property
    def ended(self) -> bool:
        """True once it was closed and all was appended or given up."""
        return not self._thread.is_alive()

    def stats(self) -> RecordStats:
        """The counts until now; `problem` is why events were lost."""
        with self._changed:
            return RecordStats(self._lines, self._dropped, self._lost, self._problem)

    def _room(self) -> int:
        """How many lines may be taken. Once full, none until half is gone, so that gaps are few and long."""
        fullness = max(self._held / self._most_lines, self._held_bytes / self._most_bytes)
        self._full = fullness >= (0.5 if self._full else 1)
        return 0 if self._full else self._most_lines - self._held

    def _add(self, entry: _Entry) -> None:
        if not self._waiting:
            self._oldest_s = time.monotonic()
        self._waiting.append(entry)
        self._held += 1
        self._held_bytes += entry.size
        if self._urgent or len(self._waiting) in (1, _BATCH_EVENTS):
            self._changed.notify()

    def _drop(self, lines: int) -> None:
        if not lines:
            return
        self._full = True
        self._dropped += lines
        if not self._waiting or not isinstance(self._waiting[-1], _Dropped):
            self._add(_Dropped())
        last = self._waiting[-1]
        assert isinstance(last, _Dropped)
        last.lines += lines

    def _run(self) -> None:
        try:
            while batch := self._next():
                if isinstance(batch[0], _AttemptStart):
                    self._number(batch[0])
                else:
                    self._append(batch)
                with self._changed:
                    if not self._abandoned:
                        self._held -= len(batch)
                        self._held_bytes -= sum(entry.size for entry in batch)
        finally:
            self._on_end()

    def _next(self) -> list[_Entry]:
        """The next batch: many lines if they come fast, few after a moment; a beginning alone; empty at the end."""
        with self._changed:
            while not self._waiting and not self._closing:
                self._changed.wait()
            until = self._oldest_s + _BATCH_S
            while not (self._urgent or self._closing or len(self._waiting) >= _BATCH_EVENTS):
                if not self._changed.wait(max(0.0, until - time.monotonic())) and time.monotonic() >= until:
                    break
            batch: list[_Entry] = []
            size = 0
            while self._waiting and len(batch) < _BATCH_EVENTS and size < _BATCH_BYTES:
                if batch and isinstance(self._waiting[0], _AttemptStart):
                    break
                batch.append(self._waiting.popleft())
                size += batch[-1].size
                if isinstance(batch[-1], _AttemptStart):
                    break
            self._urgent = self._urgent and bool(self._waiting)
            self._oldest_s = time.monotonic()
            return batch

    def _append(self, batch: list[_Entry]) -> None:
        """Append a batch, whatever it takes; an event that the log refuses costs only itself."""
        events: list[EventInput] = [
            {"kind": entry.kind, "payload": entry.payload, **self._scope(entry.kind)} for entry in batch
        ]
        key = uuid.uuid4().hex
        while not self._abandoned:
            try:
                results = self._log.append_each(events, idempotency_key=key)
            except EventLogError as error:
                self._lose(len(events), error)
                return
            away = next((result for result in results if isinstance(result, BackendUnavailable)), None)
            if away is None:
                for result in results:
                    if isinstance(result, EventLogError):
                        self._lose(1, result)
                return
            self._wait_out(away)

    def _number(self, begun: _AttemptStart) -> None:
        """Append the beginning of an attempt, whatever it takes, and so learn its number."""
        claim = self._claim(begun.payload)
        while not self._abandoned:
            try:
                begun.attempt.number = claim()
                return
            except BackendUnavailable as error:
                self._wait_out(error)
            except EventLogError as error:
                self._lose(1, error)
                return

    def _wait_out(self, error: BackendUnavailable) -> None:
        self._problem = str(error)
        with self._changed:
            self._changed.wait_for(lambda: self._abandoned, _RETRY_S)

    def _lose(self, events: int, why: EventLogError) -> None:
        with self._changed:
            self._lost += events
            self._problem = str(why)

"""A reader's place in a log behind a server, moved on by plans: a stream that is resumed when it breaks."""

import time
from collections.abc import Callable
from typing import Any

from ..errors import BackendUnavailable, EventLogError, InvalidInput
from ..model.events import Event
from ..model.filters import EventFilter
from ..model.log_values import Gap
from ..plan.effects import Park, Pause
from . import wire
from .asking import Asking, CloseStream, OpenStream, ReadStream

# The server sends a heartbeat every 15 s; two that stay away mean that the connection is dead.
_SILENCE_S = 35.0
_FIRST_PAUSE_S = 0.05
_LONGEST_PAUSE_S = 1.0

Nap = Callable[[float], Pause | Park]
"""How so many seconds are let pass between two tries."""


class StreamTail:
    """A reader's place in a log, moved on by `step`. Holds no I/O; one step at a time.

    A stream that breaks is resumed where it stood; outages are waited out for `patience_s`, then `step` raises
    `BackendUnavailable`. What was missed is among what a step returns, in its place.
    """

    def __init__(
        self,
        origin: str,
        since: str | None,
        wanted: EventFilter,
        *,
        epoch: str | None,
        until_terminal: bool,
        patience_s: float,
        deadline_s: float,
    ) -> None:
        if until_terminal and wanted.run_id is None:
            raise InvalidInput("until_terminal", "needs a run_id: it ends after that run's terminal event")
        self._origin = origin
        self._since = since
        self._filter = wanted
        self._until_terminal = until_terminal
        self._patience_s = patience_s
        self._deadline_s = deadline_s
        self._lines = wire.LineSplitter()
        self._closing = False
        self._failing_since: float | None = None
        self._pause_s = _FIRST_PAUSE_S
        self.nap: Nap = Pause
        self.epoch = epoch
        self.stream: Any = None
        self.caught_up = False
        self.ended = False

    @property
    def cursor(self) -> str:
        """Behind the last event that was handed out or filtered; resume from here."""
        return self._since or "0"

    @property
    def from_now(self) -> bool:
        """True until it has a position: it was to begin with what is appended from now on."""
        return self._since is None

    def stand_at(self, cursor: str, epoch: str | None) -> None:
        """Begin behind `cursor`."""
        self._since, self.epoch = cursor, epoch

    def step(self) -> Asking[list[Event | Gap]]:
        """What comes next, when it comes; at times an empty list. `ended` is set once nothing more will."""
        try:
            if self.stream is None:
                yield from self._open()
                # Whoever closes the reader meanwhile could not know of the stream.
                return []
            piece: bytes = yield ReadStream(self.stream)
            if not piece:
                yield from self.close()
                self._over()
                return []
        except BackendUnavailable as error:
            self.caught_up = False
            yield from self.close()
            yield from self.wait_out(error)
            return []
        self._failing_since, self._pause_s = None, _FIRST_PAUSE_S
        return self._items(piece)

    def _open(self) -> Asking[None]:
        params = wire.stream_params(self.cursor, self._filter, self._until_terminal, self.epoch)
        headers = {"Accept": wire.LINES, "Accept-Encoding": "identity"}
        request = wire.Request("GET", "/events/stream", params, headers=headers)
        self._lines, self._closing = wire.LineSplitter(), False
        self.stream = yield OpenStream(request, self._deadline_s, _SILENCE_S)

    def _over(self) -> None:
        """The server ended the stream itself."""
        if self._until_terminal and not self._closing:
            # The run's terminal event was handed out, now or before.
            self.ended = True
        else:
            raise BackendUnavailable(f"{self._origin} is closing")

    def wait_out(self, error: BackendUnavailable) -> Asking[None]:
        """Wait a little before the next try; raises once the patience is at its end."""
        now = time.monotonic()
        if self._failing_since is None:
            self._failing_since = now
        if now - self._failing_since >= self._patience_s:
            raise error
        yield self.nap(self._pause_s)
        self._pause_s = min(2 * self._pause_s, _LONGEST_PAUSE_S)

    def close(self) -> Asking[None]:
        """Have no more of the stream that is open, if one is."""
        stream, self.stream = self.stream, None
        if stream is not None:
            yield CloseStream(stream)

    def _items(self, piece: bytes) -> list[Event | Gap]:
        items: list[Event | Gap] = []
        for line in self._lines.feed(piece):
            try:
                item = wire.read_line(line)
            except (ValueError, LookupError, TypeError, AttributeError) as error:
                raise EventLogError(f"{self._origin} did not answer as an eventlog server does") from error
            if isinstance(item, wire.Control):
                self._take(item, items)
            elif item is not None:
                self._closing = False
                self._since = item.id
                items.append(item)
        return items

    def _take(self, control: wire.Control, items: list[Event | Gap]) -> None:
        """Control events only move the cursor, and tell of gaps."""
        self._closing = control.name == "closing"
        self.caught_up = control.name == "caught_up" or (self.caught_up and control.name != "gap")
        if control.gap is not None:
            if control.gap.reason == "reset":
                # The cursor is of another incarnation from here on, whose name the stream does not tell.
                self.epoch = None
            items.append(control.gap)
        if control.cursor is not None:
            self._since = control.cursor

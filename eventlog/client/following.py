"""A reader's position in a log behind a server, moved on by plans: a stream that is resumed when it breaks."""

import logging
import time
from collections.abc import Callable
from typing import Any

from ..errors import BackendUnavailable, EventLogError, InvalidInput
from ..log.reading import BLOCK_S, FollowStart
from ..model.events import Event
from ..model.lines import LineCutter
from ..model.log_values import Gap
from ..plan.effects import Park
from . import wire
from .asking import Asking, CloseStream, OpenStream, ReadStream
from .log_operations import LogCalls

_log = logging.getLogger("eventlog")

# The server sends a heartbeat every 15 s; two that stay away mean that the connection is dead.
_SILENCE_S = 35.0
_FIRST_PAUSE_S = 0.05
_LONGEST_PAUSE_S = 1.0


class StreamTail:
    """A reader's position in a log, moved on by `step`. Holds no I/O; one step at a time.

    A stream that breaks is resumed at its cursor; outages are waited out for `patience_s`, then `step` raises
    `BackendUnavailable`. What was missed is among what a step returns, in its place.
    """

    def __init__(self, calls: LogCalls, start: FollowStart) -> None:
        if start.until_terminal and start.wanted.run_id is None:
            raise InvalidInput("until_terminal", "needs a run_id: it ends after that run's terminal event")
        self._calls = calls
        self._start = start
        self._since = None if start.since is None else str(start.since)
        self._lines = LineCutter(wire.LONGEST_LINE_BYTES)
        self._closing = False
        self._failing_since: float | None = None
        self._pause_s = _FIRST_PAUSE_S
        self._wake: Callable[[], None] | None = None
        self._interrupted = False
        self._trouble: BackendUnavailable | None = None
        self.epoch = start.epoch
        self.stream: Any = None
        self.caught_up = False
        self.ended = False

    @property
    def cursor(self) -> str:
        """Behind the last event that was handed out or filtered; resume from here."""
        return self._since or "0"

    def resolve(self) -> Asking[None]:
        """Turn "from now" into a concrete position, so that nothing appended later can be missed."""
        if self._since is None:
            info = yield from self._calls.info()
            self._since, self.epoch = info.last_id or "0", info.epoch

    def step(self, block_s: float = BLOCK_S) -> Asking[list[Event | Gap]]:
        """What comes next, when it comes; at times an empty list. `ended` is set once nothing more will.

        The server sends something every 15 s at the latest; `block_s` does not shorten that.
        """
        try:
            if self.stream is None:
                yield from self.resolve()
                yield from self._open()
                # A reader that is closed in another thread meanwhile could not cut a stream that did not exist yet.
                return []
            piece: bytes = yield ReadStream(self.stream)
            if not piece:
                yield from self.close()
                self._over()
                return []
            items = self._items(piece)
            if self._trouble is not None and not items:
                # The server waits for its Redis. It would wait for ever, but this follower's patience has an end.
                trouble, self._trouble = self._trouble, None
                raise trouble
        except BackendUnavailable as error:
            self.caught_up = False
            yield from self.close()
            yield from self._wait_out(error)
            return []
        if self._trouble is None:
            self._failing_since, self._pause_s = None, _FIRST_PAUSE_S
        return items

    def _open(self) -> Asking[None]:
        params = wire.stream_params(self.cursor, self._start.wanted, self._start.until_terminal, self.epoch)
        headers = {"Accept": wire.LINES, "Accept-Encoding": "identity"}
        request = wire.Request("GET", "/events/stream", params, headers=headers)
        self._lines, self._closing = LineCutter(wire.LONGEST_LINE_BYTES), False
        self.stream = yield OpenStream(request, self._calls.deadline_s, _SILENCE_S)

    def _over(self) -> None:
        """The server ended the stream itself."""
        if self._start.until_terminal and not self._closing:
            # The run's terminal event was handed out, now or before.
            self.ended = True
        else:
            raise BackendUnavailable(f"{self._calls.origin} is closing")

    def _wait_out(self, error: BackendUnavailable) -> Asking[None]:
        """Wait a little before the next try; raises once the patience is at its end."""
        now = time.monotonic()
        if self._failing_since is None:
            self._failing_since = now
            if not self._interrupted:
                _log.warning("following waits: %s", error)
        if now - self._failing_since >= self._start.patience_s:
            raise error
        yield Park(self._until_interrupted, self._pause_s)
        self._pause_s = min(2 * self._pause_s, _LONGEST_PAUSE_S)

    def _until_interrupted(self, wake: Callable[[], None]) -> Callable[[], None]:
        self._wake = wake
        if self._interrupted:
            wake()
        return self._forget_wake

    def _forget_wake(self) -> None:
        self._wake = None

    def interrupt(self) -> None:
        """End the step that is under way in another thread, and all that would come after it."""
        self._interrupted = True
        wake, stream = self._wake, self.stream
        if wake is not None:
            wake()
        if stream is not None:
            stream.cut()

    def close(self) -> Asking[None]:
        """Close the stream, if one is open."""
        stream, self.stream = self.stream, None
        if stream is not None:
            yield CloseStream(stream)

    def _items(self, piece: bytes) -> list[Event | Gap]:
        items: list[Event | Gap] = []
        for line in self._lines.feed(piece):
            try:
                item = wire.read_line(line)
            except (ValueError, LookupError, TypeError, AttributeError) as error:
                raise EventLogError(f"{self._calls.origin} did not answer as an eventlog server does") from error
            if isinstance(item, wire.Control):
                self._take(item, items)
            elif item is not None:
                self._closing = False
                self._since = item.id
                items.append(item)
        return items

    def _take(self, control: wire.Control, items: list[Event | Gap]) -> None:
        """Control events move the cursor and report gaps."""
        self._closing = control.name == "closing"
        self.caught_up = control.name == "caught_up" or (self.caught_up and control.name != "gap")
        if control.name in ("interrupted", "caught_up"):
            self._trouble = BackendUnavailable(control.detail) if control.name == "interrupted" else None
        if control.gap is not None:
            if control.gap.reason == "reset":
                # The cursor is of another incarnation from here on, whose name comes once all of it was given.
                self.epoch = None
            items.append(control.gap)
        if control.cursor is not None:
            self._since = control.cursor
        self.epoch = control.epoch or self.epoch

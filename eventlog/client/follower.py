"""`RemoteFollower`: a log's events as they come, over a stream that is resumed by its cursor whenever it breaks."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Self

import httpx

from ..backends.base import Gap
from ..core import warn_of_gap
from ..errors import BackendUnavailable, EventLogError
from ..events import Event
from ..filters import EventFilter
from . import wire

# The server sends a heartbeat every 15 s; two that stay away mean that the connection is dead.
_SILENCE_S = 35.0
_FIRST_PAUSE_S = 0.05
_LONGEST_PAUSE_S = 1.0


class RemoteFollower:
    """Iterates over a log's events as they come. `cursor` is where to resume: behind the last event handed out.

    What was missed goes to `on_gap`, by default to a logged warning. A stream that breaks is resumed; outages are
    waited out for `patience_s`, then `BackendUnavailable` is raised.
    """

    def __init__(
        self,
        client: httpx.Client,
        origin: str,
        since: str,
        wanted: EventFilter,
        *,
        epoch: str | None,
        until_terminal: bool,
        on_gap: Callable[[Gap], None] | None,
        patience_s: float,
        connect_s: float,
    ) -> None:
        self._client = client
        self._origin = origin
        self._cursor = since
        self._filter = wanted
        self._until_terminal = until_terminal
        self._on_gap = warn_of_gap if on_gap is None else on_gap
        self._patience_s = patience_s
        self._timeout = httpx.Timeout(connect_s, read=_SILENCE_S)
        self._closed = threading.Event()
        self._response: httpx.Response | None = None
        self._caught_up = False
        self._ended = False
        self._closing = False
        self._failing_since: float | None = None
        self._pause_s = _FIRST_PAUSE_S
        self._epoch = epoch

    @property
    def cursor(self) -> str:
        """Resume from here with `since`."""
        return self._cursor

    @property
    def epoch(self) -> str | None:
        """The incarnation of the log that `cursor` belongs to, as far as it is known."""
        return self._epoch

    @property
    def caught_up(self) -> bool:
        """True while nothing older than now is left to read."""
        return self._caught_up

    def __iter__(self) -> Iterator[Event]:
        try:
            while not (self._closed.is_set() or self._ended):
                try:
                    yield from self._one_stream()
                except (httpx.TransportError, httpx.StreamError) as error:
                    self._lost(f"no answer from {self._origin}: {str(error) or type(error).__name__}", error)
                except BackendUnavailable as error:
                    self._lost(str(error), error)
        finally:
            self.close()

    def _one_stream(self) -> Iterator[Event]:
        params = wire.stream_params(self._cursor, self._filter, self._until_terminal, self._epoch)
        headers = {"Accept": wire.LINES, "Accept-Encoding": "identity"}
        with self._client.stream(
            "GET", "/events/stream", params=params, headers=headers, timeout=self._timeout
        ) as response:
            self._response = response
            if not response.is_success:
                raise wire.problem(response.status_code, response.read(), response.headers.get("Retry-After"))
            lines = wire.LineSplitter()
            self._closing = False
            for chunk in response.iter_raw():
                self._failing_since, self._pause_s = None, _FIRST_PAUSE_S
                for line in lines.feed(chunk):
                    event = self._take(line)
                    if event is not None:
                        yield event
                    if self._closed.is_set():
                        return
        if self._until_terminal and not self._closing:
            # The server ended the stream itself: the run's terminal event was handed out, now or before.
            self._ended = True
        else:
            raise BackendUnavailable(f"{self._origin} is closing")

    def _take(self, line: bytes) -> Event | None:
        """The event of a line, if it has one; control events only move the cursor and tell of gaps."""
        try:
            item = wire.read_line(line)
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            raise EventLogError(f"{self._origin} did not answer as an eventlog server does") from error
        self._closing = False
        if isinstance(item, wire.Control):
            self._caught_up = item.name == "caught_up" or (self._caught_up and item.name != "gap")
            self._closing = item.name == "closing"
            if item.gap is not None:
                if item.gap.reason == "reset":
                    # The cursor is of another incarnation from here on, whose name the stream does not tell.
                    self._epoch = None
                self._on_gap(item.gap)
            if item.cursor is not None:
                self._cursor = item.cursor
            return None
        if item is not None:
            self._cursor = item.id
        return item

    def _lost(self, problem: str, error: Exception) -> None:
        """Wait a little before the next try; raises once the patience is at its end."""
        self._caught_up = False
        if self._closed.is_set():
            return
        now = time.monotonic()
        if self._failing_since is None:
            self._failing_since = now
        if now - self._failing_since >= self._patience_s:
            raise BackendUnavailable(problem) from error
        self._closed.wait(self._pause_s)
        self._pause_s = min(2 * self._pause_s, _LONGEST_PAUSE_S)

    def close(self) -> None:
        """End the iteration, from any thread, at once. Idempotent."""
        self._closed.set()
        response = self._response
        if response is not None and not response.is_closed:
            _cut(response)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _cut(response: httpx.Response) -> None:
    """End a read that is under way in another thread; closing the response would have to wait for it."""
    stream = response.extensions.get("network_stream")
    connection = None if stream is None else stream.get_extra_info("socket")
    if connection is not None:
        try:
            connection.shutdown(socket.SHUT_RDWR)
        except OSError:
            return

"""Appends for callers that must not block: one thread sends what has gathered, in the order in which it came."""

import copy
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future

from ..errors import InvalidInput, LogClosed, Overloaded
from ..log.blocking import EventLog
from ..model.events import Body, Event
from ..plan.threads import Attendant, Flag

READY_S = 5.0
_BOUND = 20_000
_BATCH_EVENTS = 500
_BATCH_BYTES = 1024 * 1024
_IDLE_S = 5.0

Waiting = tuple[Body, "Future[Event]"]


class Emitter:
    """At most 20,000 events wait; over that `submit` raises `Overloaded`. The thread is a daemon and ends when idle.
    It appends nothing while `ready` is not set, for five seconds at most.
    """

    def __init__(self, log: EventLog, ready: Flag) -> None:
        self._log = log
        self._ready = ready
        self._waiting: deque[Waiting] = deque()
        self._idle_since = 0.0
        self._attendant = Attendant(self._work, lambda: not self._waiting, "eventlog-bus-emit")
        self._closed = False

    def submit(self, body: Body) -> "Future[Event]":
        """Append soon. The result is the event, or what the append raised."""
        if self._closed:
            raise LogClosed("the bus was closed")
        if len(self._waiting) >= _BOUND:
            raise Overloaded(f"{_BOUND} events wait to be emitted already")
        future: Future[Event] = Future()
        self._waiting.append((body, future))
        self._attendant.call()
        return future

    def _work(self) -> float | None:
        """Send what has gathered; then wait for more, but not for long."""
        while self._waiting:
            self._send(self._gathered())
            self._idle_since = time.monotonic()
        left_s = self._idle_since + _IDLE_S - time.monotonic()
        return None if self._closed or left_s <= 0 else left_s

    def _gathered(self) -> list[Waiting]:
        batch: list[Waiting] = []
        size = 0
        while self._waiting and len(batch) < _BATCH_EVENTS and size < _BATCH_BYTES:
            body, future = self._waiting.popleft()
            if future.set_running_or_notify_cancel():
                batch.append((body, future))
                size += len(body.payload_json)
        return batch

    def _send(self, batch: list[Waiting]) -> None:
        if not batch:
            return  # all of it was cancelled
        self._ready.wait(READY_S)
        try:
            results: Sequence[Event | Exception] = self._log.append_each([body for body, _ in batch])
        except Exception as error:
            results = [error] * len(batch)
        for (_, future), result in zip(batch, results, strict=True):
            if isinstance(result, Event):
                future.set_result(result)
            else:
                # An outage is one error for all, but each raises its own: raising adds a traceback.
                future.set_exception(result if isinstance(result, InvalidInput) else copy.copy(result))

    def close(self) -> None:
        """Take nothing more; what waits is still sent. Idempotent."""
        self._closed = True
        if self._attendant.thread is not None:
            self._attendant.call()

"""What a dispatcher may be given to deliver to, and how a batch is brought there: a plan, for either colour.

A callable, or an object with a `track_event` method, gets one event a call. A log, here or behind a server, gets
batches. What a plan asks for is a function without parameters: it is called, and in asyncio awaited.
"""

import inspect
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..errors import BackendUnavailable, InvalidInput
from ..log.awaited import AsyncEventLog
from ..log.blocking import EventLog
from ..model.events import TERMINAL_KINDS, Event
from ..model.ids import MAX_COUNTER
from ..model.numbers import checked_integer, checked_seconds
from ..model.tracking import tracked
from ..plan.effects import Pause, Plan
from .backlog import Batch, Bounds, Call

IsTerminal = Callable[[str], bool]
Errors = Sequence[BaseException | None]
Delivering = Plan[Errors]

_BATCH_EVENTS = 500
_BATCH_BYTES = 1024 * 1024
_FIRST_PAUSE_S = 0.05
_LONGEST_PAUSE_S = 1.0
LONGEST_S = 86_400.0
_MOST = 1_000_000


def is_terminal_kind(event_name: str) -> bool:
    """True for the names of events that end a run."""
    return event_name in TERMINAL_KINDS


class Sink:
    """A callable, or a log's `append_each` (`is_log`). Raises `InvalidInput` for what is neither."""

    def __init__(self, given: object, is_terminal: IsTerminal) -> None:
        self._target, self.is_log = _target_of(given)
        self._is_terminal = is_terminal
        self.is_awaited = inspect.iscoroutinefunction(self._target) or inspect.iscoroutinefunction(
            getattr(self._target, "__call__", None)  # noqa: B004  (to look at it)
        )
        # A log that is here says how large a payload may be, and no other need wait. A server says it later.
        self._payload_max_bytes = (
            given.operations.payload_max_bytes if isinstance(given, EventLog | AsyncEventLog) else MAX_COUNTER
        )

    def bounds(self, max_workers: int, oversubscription: int | None, call_timeout_s: float) -> Bounds:
        """The bounds of a dispatcher before this sink: a log gets one batch after another, which keeps the order."""
        # A log takes hundreds of events at once.
        each = oversubscription if oversubscription is not None else 400 if self.is_log else 4
        return Bounds(
            in_flight=checked_integer("max_workers", max_workers, 1, _MOST)
            * checked_integer("inflight_oversubscription", each, 1, _MOST),
            workers=1 if self.is_log else max_workers,
            hanging=2 * max_workers - 1 if self.is_log else max_workers,
            batch_events=_BATCH_EVENTS if self.is_log else 1,
            batch_bytes=_BATCH_BYTES,
            timeout_s=checked_seconds("call_timeout_s", call_timeout_s, 0.001, LONGEST_S),
        )

    def call_of(self, event_name: str, data: Any, operation_id: str | None) -> Call:
        """The event as it is now; raises whatever is wrong with it.

        For a log it is encoded; for other sinks a mapping is copied, not what it holds.
        """
        is_terminal = bool(self._is_terminal(event_name))
        if self.is_log:
            body = tracked(event_name, data, operation_id).within(self._payload_max_bytes)
            return Call(event_name, None, operation_id, is_terminal, body)
        return Call(event_name, dict(data) if isinstance(data, Mapping) else data, operation_id, is_terminal)

    def deliver(self, batch: Batch) -> Delivering:
        """Bring a batch to the sink. Returns what went wrong with each event, None where nothing did."""
        return self._append(batch) if self.is_log else self._track(batch)

    def _track(self, batch: Batch) -> Delivering:
        (call,) = batch.calls
        yield lambda: self._target(event_name=call.event_name, data=call.data, operation_id=call.operation_id)
        return [None]

    def _append(self, batch: Batch) -> Delivering:
        """While the log is away, try again under the same key."""
        bodies, key = [call.body for call in batch.calls], f"dispatch-{uuid.uuid4().hex}"
        pause_s = _FIRST_PAUSE_S
        while True:
            results: list[Event | Exception] = yield lambda: self._target(bodies, idempotency_key=key)
            errors = [None if isinstance(result, Event) else result for result in results]
            away = any(isinstance(error, BackendUnavailable) for error in errors)
            if not away or time.monotonic() + pause_s >= batch.deadline:
                return errors
            yield Pause(pause_s)
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)


def _target_of(given: object) -> tuple[Callable[..., Any], bool]:
    if callable(given):
        return given, False
    # Of its class: a test double answers to any name.
    if hasattr(type(given), "append_each"):
        return given.append_each, True  # type: ignore[attr-defined]
    track_event = getattr(given, "track_event", None)
    if not callable(track_event):
        raise InvalidInput(
            "track_event",
            f"a {type(given).__name__} is neither a callable, nor a log, nor a client with a track_event method",
        )
    return track_event, False

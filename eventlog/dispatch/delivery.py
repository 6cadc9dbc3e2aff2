"""The sinks: what a dispatcher may be given, how an event is handed to each, and the plan of a batch.

A callable, or a client with a `track_event` method, gets one call an event. Our own logs, in this process or behind a
server, get batches: all that waits goes into one `append_many`.
"""

import inspect
import logging
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import BackendUnavailable, InvalidInput
from ..log.awaited import AsyncEventLog
from ..log.blocking import EventLog
from ..model.events import TERMINAL_KINDS, Body
from ..model.ids import MAX_COUNTER
from ..model.tracking import tracked
from ..plan.drive import Steps
from ..plan.effects import Pause
from .inflight import Call

_log = logging.getLogger("eventlog")

BATCH_EVENTS = 500
BATCH_BYTES = 1024 * 1024
CALL_OVERSUBSCRIPTION = 4
LOG_OVERSUBSCRIPTION = 400
"""How many events may be in flight per worker, unless the user says so. A log takes 500 of them at once."""

_FIRST_PAUSE_S = 0.05
_LONGEST_PAUSE_S = 1.0

IsTerminal = Callable[[str], bool]
Verdict = BaseException | None
"""What became of a call: None if it was delivered."""


@dataclass(frozen=True, slots=True)
class Track:
    """Call the sink with one event."""

    call: Call


@dataclass(frozen=True, slots=True)
class Send:
    """Append `bodies`, all or none, and once however often this is asked for under `key`."""

    bodies: list[Body]
    key: str


Delivering = Steps[Track | Send, list[Verdict]]
"""A plan that delivers calls, and says of each, in order, what became of it. It fails for none of them."""


def is_terminal_kind(event_name: str) -> bool:
    """True for the names of events that end a run."""
    return event_name in TERMINAL_KINDS


class Sink:
    """What events go to, as both dispatchers use it. `target` is the user's callable, or the log's `append_many`.

    `width` bounds how many workers may use it at once: a log gets one batch after another, which keeps the order.
    `oversubscription` is how many events may be in flight per worker, unless the user says so.
    """

    def __init__(
        self,
        target: Callable[..., Any],
        is_terminal: IsTerminal,
        *,
        is_log: bool,
        max_workers: int,
        payload_max_bytes: int = MAX_COUNTER,
    ) -> None:
        self._target = target
        self._is_terminal = is_terminal
        self._is_log = is_log
        self._payload_max_bytes = payload_max_bytes
        self.width = 1 if is_log else max_workers
        self.batch_events = BATCH_EVENTS if is_log else 1
        self.oversubscription = LOG_OVERSUBSCRIPTION if is_log else CALL_OVERSUBSCRIPTION

    def call_of(self, event_name: str, data: Any, operation_id: str | None) -> Call:
        """The event as it is now. For a log it is encoded, for other sinks a mapping is copied, not what it holds.

        Raises whatever is wrong with it.
        """
        terminal = self._is_terminal(event_name)
        if self._is_log:
            call = Call(event_name, operation_id=operation_id, is_terminal=bool(terminal))
            call.body = tracked(event_name, data, operation_id).within(self._payload_max_bytes)
            return call
        data = dict(data) if isinstance(data, Mapping) else data
        return Call(event_name, data, operation_id, is_terminal=bool(terminal))

    def deliver(self, calls: Sequence[Call], until: float) -> Delivering:
        """Bring `calls` to the sink, trying again until `until` (of the monotonic clock) where that makes sense."""
        return _append_all(calls, until) if self._is_log else _track_each(calls)

    def use(self, effect: object) -> Any:
        """Carry out what `deliver` asks for: the result, or for asyncio what has to be awaited for it."""
        if isinstance(effect, Send):
            return self._target(effect.bodies, idempotency_key=effect.key)
        assert isinstance(effect, Track)
        call = effect.call
        return self._target(event_name=call.event_name, data=call.data, operation_id=call.operation_id)


def sink_of(given: object, is_terminal: IsTerminal, max_workers: int, *, asynchronous: bool) -> Sink:
    """The sink that a user gave; raises `InvalidInput` for what is none, or is one of the other colour."""
    target, is_log = _target_of(given)
    awaited = inspect.iscoroutinefunction(target) or inspect.iscoroutinefunction(getattr(target, "__call__", None))  # noqa: B004  (to look at it)
    if awaited and not asynchronous:
        raise InvalidInput("track_event", "is for asyncio: give it to an AsyncEventDispatcher")
    if asynchronous and is_log and not awaited:
        raise InvalidInput("track_event", "blocks: give it to an EventDispatcher")
    # Where the log is here it says how large a payload may be, and no other need wait. A server says it later.
    limit = given.operations.payload_max_bytes if isinstance(given, EventLog | AsyncEventLog) else MAX_COUNTER
    return Sink(target, is_terminal, is_log=is_log, max_workers=max_workers, payload_max_bytes=limit)


def _target_of(given: object) -> tuple[Callable[..., Any], bool]:
    if callable(given):
        return given, False
    # Of its class: a test double answers to any name.
    if hasattr(type(given), "append_many") and hasattr(type(given), "append"):
        return given.append_many, True  # type: ignore[attr-defined]
    track_event = getattr(given, "track_event", None)
    if not callable(track_event):
        raise InvalidInput(
            "track_event",
            f"a {type(given).__name__} is neither a callable, nor a log, nor a client with a track_event method",
        )
    return track_event, False


def tell_failures(calls: Sequence[Call], verdicts: Sequence[Verdict]) -> None:
    """Each failure with its traceback, for who looks for it; warnings only count them."""
    for call, error in zip(calls, verdicts, strict=True):
        if error is not None:
            _log.debug("event dispatch: %s failed", call.event_name, exc_info=error)


def _track_each(calls: Sequence[Call]) -> Delivering:
    verdicts: list[Verdict] = []
    for call in calls:
        try:
            yield Track(call)
            verdicts.append(None)
        except Exception as error:
            verdicts.append(error)
    return verdicts


def _append_all(calls: Sequence[Call], until: float) -> Delivering:
    """One append for all. An event that is refused costs only itself: nothing was appended, and the others go again."""
    verdicts: dict[Call, Verdict] = {}
    parts = [list(calls)]
    while parts:
        part = parts.pop()
        error = yield from _append_part(part, until)
        refused = error.index if isinstance(error, InvalidInput) else None
        if refused is not None and refused < len(part) > 1:
            verdicts[part.pop(refused)] = error
            parts.append(part)
        elif isinstance(error, InvalidInput) and len(part) > 1:
            # It does not say which, or it is too much at once: in halves, the first one first.
            half = len(part) // 2
            parts += [part[half:], part[:half]]
        else:
            verdicts.update(dict.fromkeys(part, error))
    return [verdicts[call] for call in calls]


def _append_part(part: Sequence[Call], until: float) -> Steps[Track | Send, Exception | None]:
    """Append, and try again under the same key while the log is away. Returns what stood in the way in the end."""
    send = Send([call.body for call in part if call.body is not None], f"dispatch-{uuid.uuid4().hex}")
    pause_s = _FIRST_PAUSE_S
    while True:
        try:
            yield send
            return None
        except BackendUnavailable as error:
            if time.monotonic() + pause_s >= until:
                return error
        except Exception as error:
            return error
        yield Pause(pause_s)
        pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)

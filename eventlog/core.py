"""What a log does, whatever its colour: limits, checks, and operations as plans. `log.py` and `aio.py` drive them."""

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from .backends.base import Append, Backend, Gap, ReadRequest
from .commit.batch import Bounds, size_of
from .errors import InvalidInput, NotFound, PayloadTooLarge
from .events import DEFAULT_PAYLOAD_MAX_BYTES, Body, Event, checked_key
from .filters import EventFilter
from .guard import ContentGuard
from .ids import MAX_COUNTER, Cursor, EventId, parse_cursor
from .plan import Plan
from .reading import PageRequest, read_page
from .telemetry.opening import telemetry_beside
from .telemetry.terms import RingTerms

_log = logging.getLogger("eventlog")

_SCREENED_AT_ONCE = 200

EventInput = Mapping[str, Any] | Body
"""What `append_many` takes: a mapping with the names of `append`, or a checked `Body`."""


class LogLimits(NamedTuple):
    """Sizes and times that bound one log object. Bytes count encoded JSON."""

    payload_max_bytes: int = DEFAULT_PAYLOAD_MAX_BYTES
    batch_max_events: int = 10_000
    batch_max_bytes: int = 32 * 1024 * 1024
    deadline_s: float = 5.0
    commit: Bounds = Bounds()
    telemetry: RingTerms = RingTerms()


@dataclass(frozen=True, slots=True)
class LogInfo:
    """The state of a log as operators see it. Times are seconds since the Unix epoch."""

    workspace: str
    backend: str
    epoch: str | None
    length: int
    first_id: str | None
    last_id: str | None
    last_offset: int
    trimmed: int
    bytes: int | None
    ttl_seconds: float
    max_entries: int
    time: float

    def to_dict(self) -> dict[str, Any]:
        """The wire form."""
        return {
            "workspace": self.workspace,
            "backend": self.backend,
            "epoch": self.epoch,
            "length": self.length,
            "first_id": self.first_id,
            "last_id": self.last_id,
            "last_offset": self.last_offset,
            "trimmed": self.trimmed,
            "bytes": self.bytes,
            "retention": {"ttl_seconds": self.ttl_seconds, "max_entries": self.max_entries},
            "time": self.time,
        }


class LogCore:
    """What a log does, as plans and checks; the facades only drive it."""

    def __init__(
        self,
        backend: Backend,
        workspace: str,
        limits: LogLimits,
        guard: ContentGuard = ContentGuard(),  # noqa: B008  (immutable)
    ) -> None:
        self.backend = backend
        self.workspace = workspace
        self.limits = limits
        self.guard = guard
        self.telemetry = telemetry_beside(backend, limits.telemetry)

    def one(self, body: Body, expected_offset: int | None) -> Append:
        """An append of one event; raises `RejectedContent`."""
        return Append((self._screened(body),), checked_offset(expected_offset))

    def many(self, events: Iterable[EventInput], expected_offset: int | None, idempotency_key: str | None) -> Append:
        """An append of several events; raises `InvalidInput` with the index of the one that is wrong."""
        limits = self.limits
        bodies = checked_bodies(events, idempotency_key, limits.payload_max_bytes, limits.batch_max_events)
        self._screen_all(bodies)
        append = Append(bodies, checked_offset(expected_offset), _checked_key(idempotency_key))
        size = size_of(append)[1]
        if size > limits.batch_max_bytes:
            raise PayloadTooLarge("events", f"{size} bytes of payload, the limit is {limits.batch_max_bytes}")
        return append

    def _screen_all(self, bodies: list[Body]) -> None:
        for start in range(0, len(bodies), _SCREENED_AT_ONCE):
            stretch = bodies[start : start + _SCREENED_AT_ONCE]
            if not self.guard.passes([body.payload_json for body in stretch]):
                self._screen_each(bodies, range(start, start + len(stretch)))

    def _screen_each(self, bodies: list[Body], places: range) -> None:
        index = places.start
        try:
            for index in places:
                bodies[index] = self._screened(bodies[index])
        except InvalidInput as error:
            raise error.at(index) from None

    def _screened(self, body: Body) -> Body:
        screened = self.guard.screen(body)
        # What stands for a secret may be longer than the secret was.
        return body if screened is body else screened.within(self.limits.payload_max_bytes)

    def info(self) -> Plan[LogInfo]:
        """The state of the log."""
        state = (yield from self.backend.read(ReadRequest())).state
        taken = yield from self.backend.memory_bytes()
        return LogInfo(
            workspace=self.workspace,
            backend=self.backend.name,
            epoch=state.epoch or None,
            length=state.length,
            first_id=None if state.first is None else str(state.first),
            last_id=str(state.last) if state.last.offset else None,
            last_offset=state.last.offset,
            trimmed=state.base_offset - 1,
            bytes=taken,
            ttl_seconds=state.ttl_ms / 1000,
            max_entries=state.max_entries,
            time=state.now_ms / 1000,
        )

    def get(self, event_id: str) -> Plan[Event]:
        """One event; raises `NotFound`."""
        wanted = EventId.parse(event_id)
        before = Cursor(wanted.ms, max(wanted.offset - 1, 0))
        segment = yield from self.backend.read(ReadRequest(since=before, count=1))
        if not segment.events or segment.events[0].position != wanted:
            raise NotFound(f"event {event_id} is not in the log of {self.workspace}")
        return segment.events[0]

    def query(self, request: PageRequest) -> Plan[list[Event]]:
        """All that `request` asks for, over as many pages as that takes."""
        found: list[Event] = []
        page = yield from read_page(self.backend, request)
        found += page.events
        while not page.at_end and len(found) < request.limit:
            cursor = parse_cursor(page.cursor)
            request = request._replace(limit=request.limit - len(page.events))
            request = request._replace(until=cursor) if request.descending else request._replace(since=cursor)
            page = yield from read_page(self.backend, request)
            found += page.events
        return found


def warn_of_gap(gap: Gap) -> None:
    """The default for `on_gap`: a reader that does not care is told all the same."""
    _log.warning("events missed: %d (%d to %d, %s)", *gap)


def query_request(
    since: object, until: object, limit: int | None, wanted: EventFilter, order: str, since_time: float | None
) -> PageRequest:
    """`query`'s idea of a limit: None is no limit."""
    limit = MAX_COUNTER if limit is None else limit
    return PageRequest.of(since, until, limit, wanted, order=order, since_time=since_time, largest=MAX_COUNTER)


def checked_bodies(
    events: Iterable[EventInput], idempotency_key: str | None, payload_max_bytes: int, most: int
) -> list[Body]:
    """The events of a batch, checked; raises `InvalidInput` with the index of the one that is wrong."""
    if not isinstance(events, Iterable) or isinstance(events, str | bytes | Mapping):
        raise InvalidInput("events", f"must be a list of events, not a {type(events).__name__}")
    bodies: list[Body] = []
    for index, event in enumerate(events):
        if index >= most:
            raise PayloadTooLarge("events", f"more than {most} events in a batch")
        try:
            bodies.append(
                event.within(payload_max_bytes)
                if type(event) is Body
                else Body.from_mapping(event, payload_max_bytes=payload_max_bytes)
            )
        except InvalidInput as error:
            raise error.at(index) from None
        if idempotency_key is not None and bodies[-1].idempotency_key is not None:
            raise InvalidInput("idempotency_key", "give one for the batch or one an event", index=index)
    return bodies


def checked_offset(expected_offset: object) -> int | None:
    """An expected offset as it is; raises `InvalidInput` if it is none."""
    if expected_offset is None:
        return None
    if isinstance(expected_offset, bool) or not isinstance(expected_offset, int):
        raise InvalidInput("expected_offset", f"{expected_offset!r} is not an integer")
    if not 0 <= expected_offset <= MAX_COUNTER:
        raise InvalidInput("expected_offset", f"{expected_offset} is outside 0 to {MAX_COUNTER}")
    return expected_offset


def _checked_key(key: str | None) -> str | None:
    return None if key is None else checked_key(key)

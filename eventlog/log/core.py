"""The log on a backend: the operations of a log, as plans over those of the backend."""

from collections.abc import Iterable, Mapping
from typing import Any

from ..errors import EventLogError, InvalidInput, NotFound, PayloadTooLarge
from ..model.events import Body, Event, EventInput, checked_key
from ..model.guard import ContentGuard
from ..model.ids import Cursor, EventId
from ..model.log_values import Append, Audit, LogInfo, Outcome, ReadRequest
from ..model.pages import Page, PageRequest
from ..plan.effects import Pause, Plan
from ..runs.fold import StageView
from ..runs.records import ReplayPage, RunsPage, RunsQuery, RunSummary
from ..telemetry.operations import push_samples, read_samples
from ..telemetry.sample import Sample, TelemetryPage
from . import runs as runs
from .commit import size_of
from .limits import LogLimits, checked_bodies, checked_offset
from .operations import LogOperations
from .protocol import Backend
from .reading import read_page

_LOOKED_AT_ONCE = 16 * 1024
_SCREENED_AT_ONCE = 200


class LogCore(LogOperations):
    """Operations on a backend. `Append` is an effect of its plans: the driver sends it with those of other callers."""

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
        self.payload_max_bytes = limits.payload_max_bytes
        self.guard = guard
        self.telemetry_rings = backend.telemetry(limits.telemetry)

    def append_body(self, body: Body, *, expected_offset: int | None = None) -> Plan[Event]:
        """See `LogOperations.append_body`; raises `RejectedContent`."""
        outcome: Outcome = yield Append((self._screened(body),), checked_offset(expected_offset))
        if isinstance(outcome, EventLogError):
            raise outcome
        return outcome[0]

    def append_many(
        self,
        events: Iterable[EventInput],
        *,
        idempotency_key: str | None = None,
        expected_offset: int | None = None,
    ) -> Plan[list[Event]]:
        """See `LogOperations.append_many`; raises `RejectedContent`."""
        limits = self.limits
        bodies = checked_bodies(events, idempotency_key, limits.payload_max_bytes, limits.batch_max_events)
        yield from self._screen_all(bodies)
        key = None if idempotency_key is None else checked_key(idempotency_key)
        append = Append(bodies, checked_offset(expected_offset), key)
        size = size_of(append)[1]
        if size > limits.batch_max_bytes:
            raise PayloadTooLarge("events", f"{size} bytes of payload, the limit is {limits.batch_max_bytes}")
        outcome: Outcome = (yield append) if bodies else []
        if isinstance(outcome, EventLogError):
            raise outcome
        return outcome

    def _screen_all(self, bodies: list[Body]) -> Plan[None]:
        for start in range(0, len(bodies), _SCREENED_AT_ONCE):
            stretch = bodies[start : start + _SCREENED_AT_ONCE]
            if not self.guard.passes([body.payload_json for body in stretch]):
                yield from self._screen_each(bodies, range(start, start + len(stretch)))

    def _screen_each(self, bodies: list[Body], places: range) -> Plan[None]:
        looked_at = 0
        for index in places:
            looked_at += len(bodies[index].payload_json)
            try:
                bodies[index] = self._screened(bodies[index])
            except InvalidInput as error:
                raise error.at(index) from None
            if looked_at >= _LOOKED_AT_ONCE:
                # A close look takes its time: on an event loop, others have a turn.
                looked_at = 0
                yield Pause(0)

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

    def read(self, request: PageRequest) -> Plan[Page]:
        """See `LogOperations.read`."""
        return read_page(self.backend, request)

    def list_runs(self, query: RunsQuery) -> Plan[RunsPage]:
        """See `LogOperations.list_runs`."""
        return runs.list_runs(self.backend, query)

    def run(self, run_id: str) -> Plan[RunSummary]:
        """See `LogOperations.run`."""
        return runs.find_run(self.backend, run_id)

    def replay_all(self, request: PageRequest) -> Plan[list[Event]]:
        """See `LogOperations.replay_all`."""
        return runs.replay(self.backend, request)

    def read_replay(self, request: PageRequest) -> Plan[ReplayPage]:
        """See `LogOperations.read_replay`."""
        return runs.read_replay(self.backend, request)

    def stages(self, run_id: str) -> Plan[list[StageView]]:
        """See `LogOperations.stages`."""
        return runs.read_stages(self.backend, run_id)

    def push_telemetry(
        self,
        run_id: str,
        samples: Iterable[Mapping[str, Any]],
        *,
        capacity: int | None = None,
        idempotency_key: str | None = None,
    ) -> Plan[list[Sample]]:
        """See `LogOperations.push_telemetry`."""
        return push_samples(self.telemetry_rings, self.guard, run_id, samples, capacity, idempotency_key)

    def telemetry(
        self, run_id: str, *, from_seq: int = 0, stage_name: str | None = None, limit: int | None = None
    ) -> Plan[TelemetryPage]:
        """See `LogOperations.telemetry`."""
        return read_samples(self.telemetry_rings, run_id, from_seq, stage_name, limit)

    def clear(self) -> Plan[int]:
        """See `LogOperations.clear`."""
        return self.backend.clear()

    def keep(self, ttl_ms: int | None, max_entries: int | None) -> Plan[LogInfo]:
        """See `LogOperations.keep`."""
        yield from self.backend.set_retention(ttl_ms, max_entries)
        return (yield from self.info())

    def verify(self, *, repair: bool = False) -> Plan[Audit]:
        """See `LogOperations.verify`."""
        return self.backend.audit(repair)

"""The operations of a log behind a server, as plans: checks, requests, and reading the answers."""

import logging
import time
from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from ..errors import InvalidInput, NotFound
from ..log.limits import checked_bodies, checked_offset
from ..log.operations import LogOperations
from ..log.reading import warn_of_gap
from ..model.events import Body, Event, EventInput, checked_key, checked_label
from ..model.ids import MAX_COUNTER, EventId, parse_cursor
from ..model.log_values import Audit, LogInfo
from ..model.numbers import checked_integer
from ..model.pages import MAX_PAGE, Page, PageRequest
from ..runs.fold import StageView
from ..runs.records import ReplayPage, RunsPage, RunsQuery, RunSummary, checked_run
from ..telemetry.sample import Sample, TelemetryPage, checked_samples
from ..telemetry.terms import MOST_SAMPLES
from . import run_wire, wire
from .asking import Asker, Asking
from .wire import own_key

_log = logging.getLogger("eventlog")

# The server reads a ring's worth of samples at once, by default.
_SAMPLES_A_PAGE = 5000


class LogCalls(Asker, LogOperations):
    """Asks a server. The server decides how large an event and a batch may be."""

    payload_max_bytes = MAX_COUNTER
    page_max_events = MAX_PAGE

    def append_body(self, body: Body, *, expected_offset: int | None = None) -> Asking[Event]:
        """Append one event.

        If the answer to an append with the caller's own `idempotency_key` is lost, a retry finds the event there and
        marks it `duplicate`: a client cannot know whether its own first try appended it.
        """
        request = wire.append_request([body], checked_offset(expected_offset), None, single=True)
        return (yield from self.ask(request, lambda answer: wire.read_appended(answer, [body])))[0]

    def append_many(
        self,
        events: Iterable[EventInput],
        *,
        idempotency_key: str | None = None,
        expected_offset: int | None = None,
    ) -> Asking[list[Event]]:
        """See `LogOperations.append_many`."""
        bodies = checked_bodies(events, idempotency_key, MAX_COUNTER, MAX_COUNTER)
        if not bodies:
            return []
        key = None if idempotency_key is None else checked_key(idempotency_key)
        request = wire.append_request(bodies, checked_offset(expected_offset), key, single=False)
        if key is not None:
            bodies = [body._replace(idempotency_key=key) for body in bodies]
        return (yield from self.ask(request, lambda answer: wire.read_appended(answer, bodies)))

    def read(self, request: PageRequest) -> Asking[Page]:
        """See `LogOperations.read`. Its `state` is None."""
        return self.ask(wire.page_request(request), wire.read_page)

    def get(self, event_id: str) -> Asking[Event]:
        """One event; raises `NotFound`."""
        wanted = EventId.parse(event_id)
        return self.ask(wire.Request("GET", f"/events/{wanted}"), Event.from_dict)

    def clear(self) -> Asking[int]:
        """Remove all events."""
        return self.ask(wire.Request("DELETE", "/events", repeatable=False), lambda answer: int(answer["removed"]))

    def info(self) -> Asking[LogInfo]:
        """The state of the log."""
        return self.ask(wire.Request("GET", "/log"), wire.read_info)

    def keep(self, ttl_ms: int | None, max_entries: int | None) -> Asking[LogInfo]:
        """See `LogOperations.keep`."""
        yield from self.ask(wire.retention_request(ttl_ms, max_entries), lambda answer: answer)
        return (yield from self.info())

    def list_runs(self, query: RunsQuery) -> Asking[RunsPage]:
        """A page of runs."""
        return self.ask(run_wire.runs_request(query), run_wire.read_runs)

    def run(self, run_id: str) -> Asking[RunSummary]:
        """One run; raises `NotFound`."""
        return self.ask(wire.Request("GET", run_wire.run_path(checked_run(run_id))), RunSummary.from_dict)

    def read_replay(self, request: PageRequest) -> Asking[ReplayPage]:
        """One page of a run's events; raises `NotFound`."""
        return self.ask(run_wire.replay_request(request), run_wire.read_replay)

    def replay_all(self, request: PageRequest) -> Asking[list[Event]]:
        """All of a run's events that `request` asks for, over as many pages as that takes; raises `NotFound`.

        What is evicted between two pages is logged, as followers do.
        """
        found: list[Event] = []
        while True:
            limit = min(request.limit - len(found), MAX_PAGE)
            try:
                page = yield from self.read_replay(request._replace(limit=limit))
            except NotFound:
                if not found:
                    raise
                _log.warning("events missed: run %s is gone from %s on", request.wanted.run_id, request.since)
                return found
            if page.gap is not None:
                warn_of_gap(page.gap)
            found += page.events
            if page.at_end or len(found) >= request.limit:
                return found
            request = request._replace(since=parse_cursor(page.cursor))

    def stages(self, run_id: str) -> Asking[list[StageView]]:
        """The stages of a run; raises `NotFound`."""
        return self.ask(wire.Request("GET", f"{run_wire.run_path(checked_run(run_id))}/stages"), run_wire.read_stages)

    def push_telemetry(
        self,
        run_id: str,
        samples: Iterable[Mapping[str, Any]],
        *,
        capacity: int | None = None,
        idempotency_key: str | None = None,
    ) -> Asking[list[Sample]]:
        """See `LogOperations.push_telemetry`; once however often it is sent."""
        key = None if idempotency_key is None else checked_key(idempotency_key)
        most = None if capacity is None else checked_integer("capacity", capacity, 0, MOST_SAMPLES)
        run, posted = checked_run(run_id), checked_samples(samples)
        call, began_s = key or own_key(), time.monotonic()

        def request() -> wire.Request:
            waited_ms = round((time.monotonic() - began_s) * 1000)
            return run_wire.push_request(run, posted, most, call, waited_ms)

        read = partial(run_wire.read_pushed, of_caller=key is not None)
        return self.ask(request(), read, renewed=request)

    def telemetry(
        self, run_id: str, *, from_seq: int = 0, stage_name: str | None = None, limit: int | None = None
    ) -> Asking[TelemetryPage]:
        """The samples after `from_seq`, at most `limit`, over as many requests as that takes; raises `NotFound`."""
        run_id, next_seq = checked_run(run_id), checked_integer("from_seq", from_seq, 0, MAX_COUNTER)
        stage = None if stage_name is None else checked_label("stage_name", stage_name)
        left = MAX_COUNTER if limit is None else checked_integer("limit", limit, 0, MAX_COUNTER)
        found: list[Sample] = []
        missed = 0
        while True:
            asked = min(left, _SAMPLES_A_PAGE)
            request = run_wire.telemetry_request(run_id, next_seq, stage, asked)
            page = yield from self.ask(request, TelemetryPage.from_dict)
            found += page.samples
            missed += page.missed
            left -= len(page.samples)
            if len(page.samples) < asked or not left:
                return replace(page, samples=found, missed=missed)
            next_seq = page.next_seq

    def verify(self, *, repair: bool = False) -> Asking[Audit]:
        """Not through a server."""
        raise InvalidInput("log", "is behind a server: only a log on its own backend can be verified")

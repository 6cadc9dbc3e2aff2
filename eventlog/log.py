"""The log for blocking callers. `aio.py` has the asyncio twin."""

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import TracebackType
from typing import Any, Protocol, Self, TypeVar, Unpack

from .backends.base import Append, Audit, Backend, Gap, Outcome
from .commit.batch import CommitStats
from .commit.threads import ThreadCommitter
from .core import EventInput, LogCore, LogInfo, LogLimits, query_request, warn_of_gap
from .drive import run
from .errors import EventLogError, LogClosed
from .events import Body, Event, EventParts
from .filters import EventFilter, Filters, ReplayFilters
from .guard import ContentGuard
from .ids import parse_cursor
from .plan import Command, Plan
from .reading import Page, PageRequest, Tail, read_page
from .runs.fold import StageView
from .runs.reading import find_run, list_runs, read_replay, read_stages, replay, replay_request, whole_replay
from .runs.records import ReplayPage, RunsPage, RunsQuery, RunStatus, RunSummary
from .slots.opening import slots_beside
from .slots.queue import SlotQueue
from .telemetry.sample import Sample, TelemetryPage
from .telemetry.service import push_samples, read_samples

T = TypeVar("T")


class Transport(Protocol):
    """Carries out Redis commands for blocking callers (`store/links.py`); memory has none to carry out."""

    def execute(self, command: Command) -> Any: ...

    def close(self) -> None: ...


class EventLog:
    """A workspace's event log. Safe under threads and across `fork`. Close it, or use it as a context manager.

    Every call is bounded by `limits.deadline_s` seconds, an append that has to wait for the call before its own by a
    second deadline. They raise an `EventLogError`: `InvalidInput` for what the caller gave (nothing was appended),
    `BackendUnavailable` where Redis does not answer.
    """

    def __init__(
        self,
        backend: Backend,
        *,
        workspace: str,
        limits: LogLimits = LogLimits(),  # noqa: B008  (immutable)
        guard: ContentGuard = ContentGuard(),  # noqa: B008  (immutable)
        connect: Callable[[int], Transport] | None = None,
        on_close: Callable[[], None] | None = None,
    ) -> None:
        self._core = LogCore(backend, workspace, limits, guard)
        self._connect = connect
        self._link = None if connect is None else connect(8)
        self._execute = _no_transport if self._link is None else self._link.execute
        self._on_close = on_close
        self._closed = False
        self._payload_max_bytes = limits.payload_max_bytes
        self._committer: ThreadCommitter | None = None
        self._slots: SlotQueue | None = None
        if connect is not None:
            self._committer = ThreadCommitter(self._send, limits.commit, limits.deadline_s)

    def _send(self, appends: Any, call_number: int) -> list[Outcome]:
        return run(self._core.backend.append(appends, call_number), self._execute)

    def _submit(self, append: Append) -> list[Event]:
        if self._closed:
            raise LogClosed("the log was closed")
        if not append.bodies:
            return []
        if self._committer is None:
            outcome = self._send((append,), 0)[0]
        else:
            outcome = self._committer.submit(append)
        if isinstance(outcome, EventLogError):
            raise outcome
        return outcome

    def _run(self, plan: Plan[T]) -> T:
        if self._closed:
            raise LogClosed("the log was closed")
        return run(plan, self._execute)

    @property
    def core(self) -> LogCore:
        """The checks and plans underneath, for services that drive them themselves."""
        return self._core

    @property
    def connect(self) -> Callable[[int], Transport] | None:
        """Opens connections, at most so many at once, to be closed by who asks; None where no Redis is needed."""
        return self._connect

    @property
    def workspace(self) -> str:
        """The tenant this log belongs to."""
        return self._core.workspace

    @property
    def backend(self) -> str:
        """`memory`, `redis` or `disabled`."""
        return self._core.backend.name

    def append(
        self,
        kind: str,
        payload: Mapping[str, Any] | None = None,
        *,
        expected_offset: int | None = None,
        **parts: Unpack[EventParts],
    ) -> Event:
        """Append one event and return it with its place in the log.

        With an `idempotency_key` seen within the window the first event is returned, marked `duplicate`. With
        `expected_offset` the append is made only if the log ends there, else `Conflict` is raised.
        """
        body = Body.of(kind, payload, payload_max_bytes=self._payload_max_bytes, **parts)
        return self.append_body(body, expected_offset=expected_offset)

    def append_body(self, body: Body, *, expected_offset: int | None = None) -> Event:
        """Append one event whose parts, size included, were checked already."""
        return self._submit(self._core.one(body, expected_offset))[0]

    def append_many(
        self,
        events: Iterable[EventInput],
        *,
        idempotency_key: str | None = None,
        expected_offset: int | None = None,
    ) -> list[Event]:
        """Append all events, contiguous, or none. One that is wrong is named by its index in `InvalidInput`."""
        return self._submit(self._core.many(events, expected_offset, idempotency_key))

    def query(
        self,
        since: object = None,
        limit: int | None = None,
        *,
        until: object = None,
        order: str = "asc",
        since_time: float | None = None,
        **filters: Unpack[Filters],
    ) -> list[Event]:
        """The events after `since` and before `until` that pass the filters; `limit=None` is all of them.

        `since` and `until` take an id, a cursor, an integer offset or an `Event`. What is no longer resident is
        left out; `page` tells of it.
        """
        wanted = EventFilter.of(**filters)
        return self._run(self._core.query(query_request(since, until, limit, wanted, order, since_time)))

    def page(
        self,
        since: object = None,
        limit: int | None = None,
        *,
        until: object = None,
        order: str = "asc",
        since_time: float | None = None,
        epoch: str | None = None,
        **filters: Unpack[Filters],
    ) -> Page:
        """One page of at most `limit` (100; 1000 at the most) events, with the cursor to go on from and the gap."""
        wanted = EventFilter.of(**filters)
        request = PageRequest.of(since, until, limit, wanted, order=order, since_time=since_time, epoch=epoch)
        return self._run(read_page(self._core.backend, request))

    def get(self, event_id: str) -> Event:
        """One event by its id; raises `NotFound`."""
        return self._run(self._core.get(event_id))

    def follow(
        self,
        since: object = None,
        *,
        epoch: str | None = None,
        until_terminal: bool = False,
        on_gap: Callable[[Gap], None] | None = None,
        patience_s: float = 30.0,
        **filters: Unpack[Filters],
    ) -> "Follower":
        """Follow the log from `since` (None: from now; 0: from the first event) for as long as you iterate.

        What was missed goes to `on_gap`, by default to a logged warning. Outages of Redis are waited out for
        `patience_s`, then `BackendUnavailable` is raised. `until_terminal`, with a `run_id`, ends the iteration
        after that run's terminal event.
        """
        wanted = EventFilter.of(**filters)
        tail = Tail(
            self._core.backend,
            parse_cursor(since),
            wanted,
            epoch=epoch,
            until_terminal=until_terminal,
            patience_s=patience_s,
        )
        # From now means from this call on, not from the first iteration.
        self._run(tail.resolve())
        return Follower(tail, None if self._connect is None else self._connect(1), on_gap)

    def runs(self, limit: int = 100, *, until: object = None, status: RunStatus | None = None) -> RunsPage:
        """A page of at most `limit` (1000) runs with a resident event, the one with the newest event first.

        `status` is `running`, `finished`, `failed` or `cancelled`; pass a page's cursor as `until` to go on.
        """
        return self._run(list_runs(self._core.backend, RunsQuery.of(limit, until, status)))

    def run(self, run_id: str) -> RunSummary:
        """One run; raises `NotFound` if no event of it is resident."""
        return self._run(find_run(self._core.backend, run_id))

    def replay(
        self,
        run_id: str,
        *,
        lane_id: str | None = None,
        since_seq: int = 0,
        limit: int | None = None,
        **filters: Unpack[ReplayFilters],
    ) -> list[Event]:
        """A run's resident events after `since_seq` of their lanes, in the order of the log; `limit=None` is all.

        Raises `NotFound` if no event of the run is resident. `replay_page` tells what is gone; here only what the log
        loses while it is read is told, by a logged warning.
        """
        wanted = EventFilter.of(lane_id=lane_id, since_seq=since_seq, **filters)
        return self._run(replay(self._core.backend, whole_replay(run_id, limit, wanted)))

    def replay_page(
        self,
        run_id: str,
        *,
        lane_id: str | None = None,
        since_seq: int = 0,
        since: object = None,
        limit: int | None = None,
        **filters: Unpack[ReplayFilters],
    ) -> ReplayPage:
        """One page of at most `limit` (100; 1000 at the most) events of a run, and how many are gone in which lane."""
        wanted = EventFilter.of(lane_id=lane_id, since_seq=since_seq, **filters)
        return self._run(read_replay(self._core.backend, replay_request(run_id, since, limit, wanted)))

    def stages(self, run_id: str) -> list[StageView]:
        """The run's stages by group, each as its latest attempt stands, folded from its resident `stage.*` events.

        Raises `NotFound` if no event of the run is resident.
        """
        return self._run(read_stages(self._core.backend, run_id))

    def push_telemetry(
        self,
        run_id: str,
        samples: Iterable[Mapping[str, Any]],
        *,
        capacity: int | None = None,
        idempotency_key: str | None = None,
    ) -> list[Sample]:
        """Add samples to a run's ring; returns them with their `seq`, or nothing where the ring keeps none.

        A sample has `host` (`rss_bytes`, `cpu_percent`, `io_read_bytes`, `io_write_bytes`), `guest` (any JSON object)
        or both, and maybe `stage_name`, `source`, and `age_ms`: how long ago it was taken. At most 500 of 8 KiB.
        `capacity` is how many samples the run keeps from now on; 0 keeps none and frees its ring. Repeated under an
        `idempotency_key` it adds nothing and returns what the first push stored, marked `duplicate`; what the ring has
        let go since has neither `host` nor `guest`. Raises `NotFound` for a run that has neither an event nor a ring,
        `InvalidInput` naming the sample that is wrong.
        """
        core = self._core
        return self._run(push_samples(core.telemetry, core.guard, run_id, samples, capacity, idempotency_key))

    def telemetry(
        self, run_id: str, *, from_seq: int = 0, stage_name: str | None = None, limit: int | None = None
    ) -> TelemetryPage:
        """A run's samples after `from_seq`, oldest first, and how many are gone; `limit=None` is all of them.

        Pass the page's `next_seq` as `from_seq` to go on. Raises `NotFound` for a run with neither event nor ring.
        """
        return self._run(read_samples(self._core.telemetry, run_id, from_seq, stage_name, limit))

    @property
    def telemetry_capacity(self) -> int:
        """How many samples a run keeps that was given no number of its own; 0: telemetry is off."""
        return self._core.telemetry.capacity

    def slots(self) -> SlotQueue:
        """The slot queues of this log's workspace, over its connections. Closed with the log."""
        if self._closed:
            raise LogClosed("the log was closed")
        if self._slots is None:
            self._slots = SlotQueue(
                slots_beside(self._core.backend), workspace=self.workspace, link=self._link, connect=self._connect
            )
        return self._slots

    def clear(self) -> int:
        """Remove all events and keep the counters; returns how many were removed."""
        return self._run(self._core.backend.clear())

    def info(self) -> LogInfo:
        """The state of the log: length, ends, epoch, retention, bytes."""
        return self._run(self._core.info())

    def verify(self) -> Audit:
        """Hold the log against its own counters, order and run index."""
        return self._run(self._core.backend.audit())

    def stats(self) -> CommitStats:
        """Counters of the group commit (zeros where there is none)."""
        return CommitStats() if self._committer is None else self._committer.stats()

    def close(self) -> None:
        """Wait, bounded, for appends under way, then close all connections. Idempotent."""
        if self._closed:
            return
        self._closed = True
        if self._slots is not None:
            self._slots.close()
        if self._committer is not None:
            self._committer.close()
        if self._link is not None:
            self._link.close()
        if self._on_close is not None:
            self._on_close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Follower:
    """Iterates over a log's events as they come. `cursor` is where to resume: behind the last event handed out."""

    def __init__(self, tail: Tail, link: Transport | None, on_gap: Callable[[Gap], None] | None) -> None:
        self._tail = tail
        self._link = link
        self._execute = _no_transport if link is None else link.execute
        self._on_gap = warn_of_gap if on_gap is None else on_gap
        self._closed = threading.Event()
        self._cursor = tail.cursor

    @property
    def cursor(self) -> str:
        """Resume from here with `since`."""
        return self._cursor

    @property
    def epoch(self) -> str | None:
        """The incarnation of the log that `cursor` belongs to."""
        return self._tail.epoch

    @property
    def caught_up(self) -> bool:
        """True while nothing older than now is left to read."""
        return self._tail.caught_up

    def step(self, block_s: float = 2.0) -> list[Event | Gap]:
        """What comes next within `block_s` seconds, gaps included; often an empty list."""
        items = run(self._tail.step(block_s), self._execute)
        self._cursor = self._tail.cursor
        return items

    def __iter__(self) -> Iterator[Event]:
        try:
            while not self._closed.is_set():
                try:
                    items = run(self._tail.step(), self._execute)
                except LogClosed:
                    if self._closed.is_set():
                        return
                    raise
                for item in items:
                    if isinstance(item, Gap):
                        self._on_gap(item)
                        continue
                    self._cursor = item.id
                    yield item
                    if self._closed.is_set():
                        return
                self._cursor = self._tail.cursor
                if self._tail.ended:
                    return
        finally:
            self.close()

    def close(self) -> None:
        """End the iteration, from any thread, within two seconds. Idempotent."""
        self._closed.set()
        if self._link is not None:
            self._link.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _no_transport(command: Command) -> Any:
    raise AssertionError(f"this backend sends no commands, yet it asked for {command.args[0]!r}")

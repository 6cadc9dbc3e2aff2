"""The log for asyncio callers: the same calls as `log.py`, driven by the running event loop. Docs are there."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from types import TracebackType
from typing import Any, Protocol, Self, TypeVar, Unpack

from .backends.base import Append, Audit, Backend, Gap, Outcome
from .commit.batch import CommitStats
from .commit.tasks import TaskCommitter
from .core import EventInput, LogCore, LogInfo, LogLimits, query_request, warn_of_gap
from .drive import arun
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
from .slots.aio import AsyncSlotQueue
from .slots.opening import slots_beside
from .telemetry.sample import Sample, TelemetryPage
from .telemetry.service import push_samples, read_samples

T = TypeVar("T")


class AsyncTransport(Protocol):
    """Carries out Redis commands on the running event loop (`store/links.py`)."""

    async def execute(self, command: Command) -> Any: ...

    async def close(self) -> None: ...


class AsyncEventLog:
    """The asyncio twin of `EventLog`, for the tasks of one event loop. Use `async with`, or `await close()`."""

    def __init__(
        self,
        backend: Backend,
        *,
        workspace: str,
        limits: LogLimits = LogLimits(),  # noqa: B008  (immutable)
        guard: ContentGuard = ContentGuard(),  # noqa: B008  (immutable)
        connect: Callable[[int], AsyncTransport] | None = None,
        on_close: Callable[[], None] | None = None,
        link: AsyncTransport | None = None,
    ) -> None:
        self._core = LogCore(backend, workspace, limits, guard)
        self._connect = connect
        self._owns_link = link is None
        self._link = link if link is not None or connect is None else connect(8)
        self._execute: Callable[[Command], Awaitable[Any]] = _no_transport if self._link is None else self._link.execute
        self._on_close = on_close
        self._closed = False
        self._committer = None if self._link is None else TaskCommitter(self._send, limits.commit, limits.deadline_s)
        self._slots: AsyncSlotQueue | None = None

    async def _send(self, appends: Any, call_number: int) -> list[Outcome]:
        return await arun(self._core.backend.append(appends, call_number), self._execute)

    async def _submit(self, append: Append) -> list[Event]:
        if self._closed:
            raise LogClosed("the log was closed")
        if not append.bodies:
            return []
        if self._committer is None:
            outcome = (await self._send((append,), 0))[0]
        else:
            outcome = await self._committer.submit(append)
        if isinstance(outcome, EventLogError):
            raise outcome
        return outcome

    async def _run(self, plan: Plan[T]) -> T:
        if self._closed:
            raise LogClosed("the log was closed")
        return await arun(plan, self._execute)

    @property
    def core(self) -> LogCore:
        """The checks and plans underneath, for services that drive them themselves."""
        return self._core

    @property
    def connect(self) -> Callable[[int], AsyncTransport] | None:
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

    async def append(
        self,
        kind: str,
        payload: Mapping[str, Any] | None = None,
        *,
        expected_offset: int | None = None,
        **parts: Unpack[EventParts],
    ) -> Event:
        """See `EventLog.append`."""
        body = Body.of(kind, payload, payload_max_bytes=self._core.limits.payload_max_bytes, **parts)
        return await self.append_body(body, expected_offset=expected_offset)

    async def append_body(self, body: Body, *, expected_offset: int | None = None) -> Event:
        """Append one event whose parts, size included, were checked already."""
        return (await self._submit(self._core.one(body, expected_offset)))[0]

    async def append_many(
        self,
        events: Iterable[EventInput],
        *,
        idempotency_key: str | None = None,
        expected_offset: int | None = None,
    ) -> list[Event]:
        """See `EventLog.append_many`."""
        return await self._submit(self._core.many(events, expected_offset, idempotency_key))

    async def query(
        self,
        since: object = None,
        limit: int | None = None,
        *,
        until: object = None,
        order: str = "asc",
        since_time: float | None = None,
        **filters: Unpack[Filters],
    ) -> list[Event]:
        """See `EventLog.query`."""
        wanted = EventFilter.of(**filters)
        return await self._run(self._core.query(query_request(since, until, limit, wanted, order, since_time)))

    async def page(
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
        """See `EventLog.page`."""
        wanted = EventFilter.of(**filters)
        request = PageRequest.of(since, until, limit, wanted, order=order, since_time=since_time, epoch=epoch)
        return await self._run(read_page(self._core.backend, request))

    async def get(self, event_id: str) -> Event:
        """See `EventLog.get`."""
        return await self._run(self._core.get(event_id))

    async def follow(
        self,
        since: object = None,
        *,
        epoch: str | None = None,
        until_terminal: bool = False,
        on_gap: Callable[[Gap], None] | None = None,
        patience_s: float = 30.0,
        **filters: Unpack[Filters],
    ) -> AsyncIterator[Event]:
        """See `EventLog.follow`. With `since=None`, "now" is when the iteration starts."""
        tail = Tail(
            self._core.backend,
            parse_cursor(since),
            EventFilter.of(**filters),
            epoch=epoch,
            until_terminal=until_terminal,
            patience_s=patience_s,
        )
        link = None if self._connect is None else self._connect(1)
        execute = _no_transport if link is None else link.execute
        try:
            while not self._closed and not tail.ended:
                for item in await arun(tail.step(), execute):
                    if isinstance(item, Gap):
                        (warn_of_gap if on_gap is None else on_gap)(item)
                    else:
                        yield item
        finally:
            if link is not None:
                await link.close()

    async def runs(self, limit: int = 100, *, until: object = None, status: RunStatus | None = None) -> RunsPage:
        """See `EventLog.runs`."""
        return await self._run(list_runs(self._core.backend, RunsQuery.of(limit, until, status)))

    async def run(self, run_id: str) -> RunSummary:
        """See `EventLog.run`."""
        return await self._run(find_run(self._core.backend, run_id))

    async def replay(
        self,
        run_id: str,
        *,
        lane_id: str | None = None,
        since_seq: int = 0,
        limit: int | None = None,
        **filters: Unpack[ReplayFilters],
    ) -> list[Event]:
        """See `EventLog.replay`."""
        wanted = EventFilter.of(lane_id=lane_id, since_seq=since_seq, **filters)
        return await self._run(replay(self._core.backend, whole_replay(run_id, limit, wanted)))

    async def replay_page(
        self,
        run_id: str,
        *,
        lane_id: str | None = None,
        since_seq: int = 0,
        since: object = None,
        limit: int | None = None,
        **filters: Unpack[ReplayFilters],
    ) -> ReplayPage:
        """See `EventLog.replay_page`."""
        wanted = EventFilter.of(lane_id=lane_id, since_seq=since_seq, **filters)
        return await self._run(read_replay(self._core.backend, replay_request(run_id, since, limit, wanted)))

    async def stages(self, run_id: str) -> list[StageView]:
        """See `EventLog.stages`."""
        return await self._run(read_stages(self._core.backend, run_id))

    async def push_telemetry(
        self,
        run_id: str,
        samples: Iterable[Mapping[str, Any]],
        *,
        capacity: int | None = None,
        idempotency_key: str | None = None,
    ) -> list[Sample]:
        """See `EventLog.push_telemetry`."""
        core = self._core
        return await self._run(push_samples(core.telemetry, core.guard, run_id, samples, capacity, idempotency_key))

    async def telemetry(
        self, run_id: str, *, from_seq: int = 0, stage_name: str | None = None, limit: int | None = None
    ) -> TelemetryPage:
        """See `EventLog.telemetry`."""
        return await self._run(read_samples(self._core.telemetry, run_id, from_seq, stage_name, limit))

    @property
    def telemetry_capacity(self) -> int:
        """See `EventLog.telemetry_capacity`."""
        return self._core.telemetry.capacity

    def slots(self) -> AsyncSlotQueue:
        """See `EventLog.slots`."""
        if self._closed:
            raise LogClosed("the log was closed")
        if self._slots is None:
            self._slots = AsyncSlotQueue(
                slots_beside(self._core.backend), workspace=self.workspace, link=self._link, connect=self._connect
            )
        return self._slots

    async def clear(self) -> int:
        """See `EventLog.clear`."""
        return await self._run(self._core.backend.clear())

    async def info(self) -> LogInfo:
        """See `EventLog.info`."""
        return await self._run(self._core.info())

    async def verify(self) -> Audit:
        """See `EventLog.verify`."""
        return await self._run(self._core.backend.audit())

    def stats(self) -> CommitStats:
        """See `EventLog.stats`."""
        return CommitStats() if self._committer is None else self._committer.stats()

    async def close(self) -> None:
        """Wait, bounded, for appends under way, then close all connections. Idempotent."""
        if self._closed:
            return
        self._closed = True
        if self._slots is not None:
            await self._slots.close()
        if self._committer is not None:
            await self._committer.close()
        if self._link is not None and self._owns_link:
            await self._link.close()
        if self._on_close is not None:
            self._on_close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


async def _no_transport(command: Command) -> Any:
    raise AssertionError(f"this backend sends no commands, yet it asked for {command.args[0]!r}")

"""The log for asyncio callers: the calls of `operations.py`, driven by the running event loop."""

from collections.abc import AsyncIterator, Awaitable, Callable
from types import TracebackType
from typing import Any, Generic, Protocol, Self, TypeVar, Unpack

from ..errors import LogClosed
from ..model.events import Event
from ..model.filters import EventFilter, Filters
from ..model.guard import ContentGuard
from ..model.ids import parse_cursor
from ..model.log_values import Append, Gap, Outcome
from ..plan.colours import awaited
from ..plan.drive import Steps, ano_transport, arun
from ..plan.effects import Command
from ..slots.awaited import AsyncSlotQueue
from .commit import CommitStats
from .commit_tasks import TaskCommitter
from .core import LogCore
from .limits import LogLimits
from .operations import LogOperations
from .protocol import Backend
from .reading import Tail, warn_of_gap

T = TypeVar("T")
O_co = TypeVar("O_co", bound=LogOperations, covariant=True)


class AsyncTransport(Protocol):
    """Carries out Redis commands on the running event loop (`store/links.py`)."""

    async def execute(self, command: Command) -> Any: ...

    async def close(self) -> None: ...


class AwaitedLog(Generic[O_co]):
    """The calls of a log for the tasks of one event loop, here or behind a server."""

    operations: O_co

    async def _run(self, plan: Steps[Any, T], /) -> T:
        raise NotImplementedError

    append = awaited(LogOperations.append)
    append_body = awaited(LogOperations.append_body)
    append_many = awaited(LogOperations.append_many)
    query = awaited(LogOperations.query)
    page = awaited(LogOperations.page)
    get = awaited(LogOperations.get)
    runs = awaited(LogOperations.runs)
    run = awaited(LogOperations.run)
    replay = awaited(LogOperations.replay)
    replay_page = awaited(LogOperations.replay_page)
    stages = awaited(LogOperations.stages)
    push_telemetry = awaited(LogOperations.push_telemetry)
    telemetry = awaited(LogOperations.telemetry)
    clear = awaited(LogOperations.clear)
    info = awaited(LogOperations.info)

    async def close(self) -> None:
        """Wait, bounded, for what is under way, then close all connections. Idempotent."""
        raise NotImplementedError

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


class AsyncEventLog(AwaitedLog[LogCore]):
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
        self.operations = LogCore(backend, workspace, limits, guard)
        self.workspace = workspace
        self.backend = backend.name
        self.connect = connect
        self._owns_link = link is None
        self._link = link if link is not None or connect is None else connect(8)
        self._send_command: Callable[[Command], Awaitable[Any]] = (
            ano_transport if self._link is None else self._link.execute
        )
        self._on_close = on_close
        self._closed = False
        self._committer = None if self._link is None else TaskCommitter(self._send, limits.commit, limits.deadline_s)
        self._slots: AsyncSlotQueue | None = None

    @property
    def core(self) -> LogCore:
        """See `EventLog.core`."""
        return self.operations

    async def _send(self, appends: Any, call_number: int) -> list[Outcome]:
        return await arun(self.operations.backend.append(appends, call_number), self._send_command)

    async def _run(self, plan: Steps[Any, T], /) -> T:
        if self._closed:
            raise LogClosed("the log was closed")
        return await arun(plan, self._execute)

    async def _execute(self, effect: Any) -> Any:
        if type(effect) is not Append:
            return await self._send_command(effect)
        if self._committer is None:
            return (await self._send((effect,), 0))[0]
        return await self._committer.submit(effect)

    verify = awaited(LogCore.verify)

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
            self.operations.backend,
            parse_cursor(since),
            EventFilter.of(**filters),
            epoch=epoch,
            until_terminal=until_terminal,
            patience_s=patience_s,
        )
        link = None if self.connect is None else self.connect(1)
        execute = ano_transport if link is None else link.execute
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

    @property
    def telemetry_capacity(self) -> int:
        """See `EventLog.telemetry_capacity`."""
        return self.operations.telemetry_rings.capacity

    def slots(self) -> AsyncSlotQueue:
        """See `EventLog.slots`."""
        if self._closed:
            raise LogClosed("the log was closed")
        if self._slots is None:
            self._slots = AsyncSlotQueue(
                self.operations.backend.slots(), workspace=self.workspace, link=self._link, connect=self.connect
            )
        return self._slots

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

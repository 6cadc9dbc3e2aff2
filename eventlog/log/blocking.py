"""The log for blocking callers. `awaited.py` has the asyncio twin, `operations.py` the calls that both have."""

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack

from ..errors import InvalidInput, LogClosed
from ..model.events import Event
from ..model.filters import EventFilter, Filters
from ..model.guard import ContentGuard
from ..model.ids import parse_cursor
from ..model.log_values import Append, Gap, Outcome
from ..plan.colours import blocking
from ..plan.drive import Transport, no_transport, run
from ..plan.effects import Plan
from ..plan.forks import OfOneProcess
from ..slots.blocking import DirectSlots, SlotQueue
from .commit import CommitStats
from .commit_threads import SendCall, ThreadCommitter
from .core import LogCore
from .limits import LogLimits
from .operations import LogOperations
from .protocol import Backend
from .reading import BLOCK_S, FollowedTail, FollowStart, Tail, warn_of_gap

T = TypeVar("T")


def _nothing() -> None: ...


class EventLog(OfOneProcess, ABC):
    """A workspace's event log: on Redis, in memory, disabled, or behind a server. `create_event_log` opens it.

    Safe under threads and across `fork`. Close it, or use it as a context manager. Every call is bounded by a deadline
    and raises an `EventLogError`: `InvalidInput` for what the caller gave (nothing was appended), `BackendUnavailable`
    where the backend does not answer, `LogClosed` after `close`.
    """

    operations: LogOperations
    workspace: str
    backend: str
    connect: Callable[[int], Transport] | None = None
    """Opens a connection of so many sockets to the log's Redis; None where there is none to open."""
    telemetry_capacity: int | None = None
    """How many samples a run keeps that was given no number of its own; 0: telemetry is off, None: a server decides."""

    @abstractmethod
    def _run(self, plan: Plan[T], /) -> T: ...

    append = blocking(LogOperations.append)
    append_body = blocking(LogOperations.append_body)
    append_many = blocking(LogOperations.append_many)
    track_event = blocking(LogOperations.track_event)
    append_each = blocking(LogOperations.append_each)
    query = blocking(LogOperations.query)
    page = blocking(LogOperations.page)
    get = blocking(LogOperations.get)
    runs = blocking(LogOperations.runs)
    run = blocking(LogOperations.run)
    replay = blocking(LogOperations.replay)
    replay_page = blocking(LogOperations.replay_page)
    stages = blocking(LogOperations.stages)
    push_telemetry = blocking(LogOperations.push_telemetry)
    telemetry = blocking(LogOperations.telemetry)
    clear = blocking(LogOperations.clear)
    info = blocking(LogOperations.info)
    set_retention = blocking(LogOperations.set_retention)
    verify = blocking(LogOperations.verify)

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

        What was missed goes to `on_gap`, by default to a logged warning. Outages of the backend are waited out for
        `patience_s`, then `BackendUnavailable` is raised. `until_terminal`, with a `run_id`, ends the iteration
        after that run's terminal event.
        """
        start = FollowStart(parse_cursor(since), EventFilter.of(**filters), epoch, until_terminal, patience_s)
        return self._follow(start, warn_of_gap if on_gap is None else on_gap)

    @abstractmethod
    def _follow(self, start: FollowStart, on_gap: Callable[[Gap], None]) -> "Follower": ...

    @abstractmethod
    def slots(self) -> SlotQueue:
        """The slot queues of this log's workspace, over its connections. Closed with the log."""

    @property
    def core(self) -> LogCore:
        """The operations on a backend of this process, for services that drive them; `InvalidInput` behind a server."""
        raise InvalidInput("log", "is behind a server: this needs a log on redis, memory or disabled")

    def stats(self) -> CommitStats:
        """Counters of the group commit (zeros where there is none)."""
        return CommitStats()

    @abstractmethod
    def close(self) -> None:
        """Wait, bounded, for calls under way, then close all connections. Idempotent."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class DirectLog(EventLog):
    """The log on a backend of this process. Calls are bounded by `limits.deadline_s` seconds; an append that has to
    wait for the call before its own by a second deadline.
    """

    operations: LogCore

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
        self.operations = LogCore(backend, workspace, limits, guard)
        self.telemetry_capacity = self.operations.telemetry_rings.capacity
        self.workspace = workspace
        self.backend = backend.name
        self.connect = connect
        self._link = None if connect is None else connect(8)
        self._send_command = no_transport if self._link is None else self._link.execute
        self._on_close = on_close
        self._closed = False
        self._slots: SlotQueue | None = None
        self._committer = None if connect is None else ThreadCommitter(self._writer, limits.commit, limits.deadline_s)

    @property
    def core(self) -> LogCore:
        """See `EventLog.core`."""
        return self.operations

    def _send(self, appends: Any, call_number: int) -> list[Outcome]:
        return run(self.operations.backend.append(appends, call_number), self._send_command)

    def _writer(self) -> SendCall:
        backend = self.operations.backend.another_writer()
        return lambda appends, call_number: run(backend.append(appends, call_number), self._send_command)

    def _run(self, plan: Plan[T], /) -> T:
        if self._closed:
            raise LogClosed("the log was closed")
        return run(plan, self._execute)

    def _execute(self, effect: Any) -> Any:
        if type(effect) is not Append:
            return self._send_command(effect)
        return self._send((effect,), 0)[0] if self._committer is None else self._committer.submit(effect)

    def _follow(self, start: FollowStart, on_gap: Callable[[Gap], None]) -> "Follower":
        tail = Tail(self.operations.backend, **start._asdict())
        # From now means from this call on, not from the first iteration.
        self._run(tail.resolve())
        if self.connect is None:
            return Follower(tail, no_transport, on_gap)
        link = self.connect(1)
        return Follower(tail, link.execute, on_gap, interrupt=link.close, hang_up=link.close)

    def slots(self) -> SlotQueue:
        """See `EventLog.slots`."""
        if self._closed:
            raise LogClosed("the log was closed")
        if self._slots is None:
            self._slots = DirectSlots(
                self.operations.backend.slots(), workspace=self.workspace, link=self._link, connect=self.connect
            )
        return self._slots

    def stats(self) -> CommitStats:
        """See `EventLog.stats`."""
        return CommitStats() if self._committer is None else self._committer.stats()

    def close(self) -> None:
        """See `EventLog.close`."""
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


class Follower(OfOneProcess):
    """Iterates over a log's events as they come. `cursor` is where to resume: behind the last event handed out.

    `interrupt` ends a step that is under way in another thread; `hang_up` is called when the iteration ends.
    """

    def __init__(
        self,
        tail: FollowedTail,
        execute: Callable[[Any], Any],
        on_gap: Callable[[Gap], None],
        *,
        interrupt: Callable[[], None] = _nothing,
        hang_up: Callable[[], None] = _nothing,
    ) -> None:
        self._tail = tail
        self._execute = execute
        self._on_gap = on_gap
        self._interrupt = interrupt
        self._hang_up = hang_up
        self._closed = threading.Event()
        self._cursor = tail.cursor
        self.handed_out = 0

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

    def step(self, block_s: float = BLOCK_S) -> list[Event | Gap]:
        """What comes next within about `block_s` seconds, gaps included; often an empty list."""
        items = run(self._tail.step(block_s), self._execute)
        self._cursor = self._tail.cursor
        return items

    def __iter__(self) -> Iterator[Event]:
        try:
            while not (self._closed.is_set() or self._tail.ended):
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
                    # In this order: another thread that finds both unchanged knows that no event is under way.
                    self.handed_out += 1
                    self._cursor = item.id
                    yield item
                    if self._closed.is_set():
                        return
                self._cursor = self._tail.cursor
        finally:
            self._closed.set()
            self._hang_up()

    def close(self) -> None:
        """End the iteration, from any thread, within two seconds. Idempotent."""
        self._closed.set()
        self._interrupt()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

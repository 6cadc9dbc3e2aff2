"""The log for blocking callers. `aio.py` has the asyncio twin, `operations.py` the calls that both have."""

import threading
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any, Generic, Protocol, Self, TypeVar, Unpack

from ..errors import LogClosed
from ..model.events import Event
from ..model.filters import EventFilter, Filters
from ..model.guard import ContentGuard
from ..model.ids import parse_cursor
from ..model.log_values import Append, Gap, Outcome
from ..plan.colours import blocking
from ..plan.drive import Steps, no_transport, run
from ..plan.effects import Command
from ..slots.blocking import SlotQueue
from .commit import CommitStats
from .commit_threads import ThreadCommitter
from .core import LogCore
from .limits import LogLimits
from .operations import LogOperations
from .protocol import Backend
from .reading import Tail, warn_of_gap

T = TypeVar("T")
O_co = TypeVar("O_co", bound=LogOperations, covariant=True)


class Transport(Protocol):
    """Carries out Redis commands for blocking callers (`store/links.py`); memory has none to carry out."""

    def execute(self, command: Command) -> Any: ...

    def close(self) -> None: ...


class BlockingLog(Generic[O_co]):
    """The calls of a log for blocking callers, here or behind a server. Close it, or use it as a context manager."""

    operations: O_co

    def _run(self, plan: Steps[Any, T], /) -> T:
        raise NotImplementedError

    append = blocking(LogOperations.append)
    append_body = blocking(LogOperations.append_body)
    append_many = blocking(LogOperations.append_many)
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

    def close(self) -> None:
        """Wait, bounded, for what is under way, then close all connections. Idempotent."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class EventLog(BlockingLog[LogCore]):
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
        self.operations = LogCore(backend, workspace, limits, guard)
        self.workspace = workspace
        self.backend = backend.name
        self.connect = connect
        self._link = None if connect is None else connect(8)
        self._send_command = no_transport if self._link is None else self._link.execute
        self._on_close = on_close
        self._closed = False
        self._slots: SlotQueue | None = None
        self._committer = None if connect is None else ThreadCommitter(self._send, limits.commit, limits.deadline_s)

    @property
    def core(self) -> LogCore:
        """The plans underneath, for services that drive them themselves."""
        return self.operations

    def _send(self, appends: Any, call_number: int) -> list[Outcome]:
        return run(self.operations.backend.append(appends, call_number), self._send_command)

    def _run(self, plan: Steps[Any, T], /) -> T:
        if self._closed:
            raise LogClosed("the log was closed")
        return run(plan, self._execute)

    def _execute(self, effect: Any) -> Any:
        if type(effect) is not Append:
            return self._send_command(effect)
        return self._send((effect,), 0)[0] if self._committer is None else self._committer.submit(effect)

    verify = blocking(LogCore.verify)

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
        tail = Tail(
            self.operations.backend,
            parse_cursor(since),
            EventFilter.of(**filters),
            epoch=epoch,
            until_terminal=until_terminal,
            patience_s=patience_s,
        )
        # From now means from this call on, not from the first iteration.
        self._run(tail.resolve())
        return Follower(tail, None if self.connect is None else self.connect(1), on_gap)

    @property
    def telemetry_capacity(self) -> int:
        """How many samples a run keeps that was given no number of its own; 0: telemetry is off."""
        return self.operations.telemetry_rings.capacity

    def slots(self) -> SlotQueue:
        """The slot queues of this log's workspace, over its connections. Closed with the log."""
        if self._closed:
            raise LogClosed("the log was closed")
        if self._slots is None:
            self._slots = SlotQueue(
                self.operations.backend.slots(), workspace=self.workspace, link=self._link, connect=self.connect
            )
        return self._slots

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


class Follower:
    """Iterates over a log's events as they come. `cursor` is where to resume: behind the last event handed out."""

    def __init__(self, tail: Tail, link: Transport | None, on_gap: Callable[[Gap], None] | None) -> None:
        self._tail = tail
        self._link = link
        self._execute = no_transport if link is None else link.execute
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

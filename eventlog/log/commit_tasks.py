"""Group commit among the tasks of one event loop: one call in flight, all that comes meanwhile in the next."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence

from ..errors import BackendUnavailable, LogClosed, Overloaded, failure_for_each
from ..model.log_values import Append, Outcome
from ..plan.drive import running_loop
from .commit import OVERRUN_S, Bounds, CommitStats, size_of

SendCall = Callable[[Sequence[Append], int], Awaitable[list[Outcome]]]
_Waiting = tuple[Append, int, int, float, "asyncio.Future[Outcome]"]
"""An append, its events and bytes, until when it may be sent (loop time), and its caller."""


class TaskCommitter:
    """A caller that is cancelled leaves its append to be carried out: the call is not torn down under others.

    A caller waits at most one deadline for its call to begin, room included, and another for that call to end.
    """

    def __init__(self, send: SendCall, bounds: Bounds, deadline_s: float) -> None:
        self._send = send
        self._bounds = bounds
        self._deadline_s = deadline_s
        self._call_number = 0
        self._closed = False
        self._stats = CommitStats()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._begin()

    def _begin(self) -> None:
        self._queue: deque[_Waiting] = deque()
        self._flusher: asyncio.Task[None] | None = None
        self._room: deque[asyncio.Future[None]] = deque()
        self._pending_events = 0
        self._pending_bytes = 0

    async def submit(self, append: Append) -> Outcome:
        """Append with others; returns this append's own outcome.

        Raises `Overloaded` if there was no room to wait in, `BackendUnavailable` if the outcome is unknown.
        """
        if self._closed:
            raise LogClosed("the log was closed")
        events, size = size_of(append)
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            self._loop = running_loop(self._loop, "this log")
            # Tasks of a loop that is closed by now wait no more.
            self._begin()
        send_until = loop.time() + self._deadline_s + OVERRUN_S
        if self._room or not self._fits(events, size):
            await self._await_room(events, size)
        answer: asyncio.Future[Outcome] = loop.create_future()
        self._queue.append((append, events, size, send_until, answer))
        self._pending_events += events
        self._pending_bytes += size
        if self._flusher is None:
            self._flusher = asyncio.create_task(self._flush())
        return await answer

    def _fits(self, events: int, size: int) -> bool:
        bounds = self._bounds
        return not self._queue or (
            self._pending_events + events <= bounds.pending_events
            and self._pending_bytes + size <= bounds.pending_bytes
        )

    async def _await_room(self, events: int, size: int) -> None:
        """First come, first served: only the head of the line looks whether it fits."""
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._room.append(turn)
        try:
            async with asyncio.timeout(self._deadline_s):
                while self._room[0] is not turn or not self._fits(events, size):
                    await turn
                    if self._closed:
                        raise LogClosed("the log was closed")
                    position = self._room.index(turn)
                    turn = self._room[position] = asyncio.get_running_loop().create_future()
        except TimeoutError:
            self._stats.refused += 1
            raise Overloaded(
                f"{self._pending_events} events wait in this process already "
                f"(limit {self._bounds.pending_events}); no room within {self._deadline_s:g} s"
            ) from None
        finally:
            self._room.remove(turn)
            self._wake_head()

    def _wake_head(self) -> None:
        if self._room and not self._room[0].done():
            self._room[0].set_result(None)

    async def _flush(self) -> None:
        unsent = "the append was not sent: the task that sends was cancelled"
        try:
            while self._queue:
                self._refuse_overdue()
                if self._queue:
                    batch = self._take()
                    self._wake_head()
                    await self._commit(batch)
            unsent = ""
        finally:
            self._flusher = None
            while unsent and self._queue:
                self._refuse_first(unsent)
            self._wake_head()

    def _refuse_overdue(self) -> None:
        now = asyncio.get_running_loop().time()
        while self._queue and self._queue[0][3] < now:
            self._refuse_first(f"the append was not sent: Redis did not answer others within {self._deadline_s:g} s")

    def _refuse_first(self, reason: str) -> None:
        _, events, size, _, answer = self._queue.popleft()
        self._pending_events -= events
        self._pending_bytes -= size
        if not answer.done():
            answer.set_exception(BackendUnavailable(reason))

    def _take(self) -> list[_Waiting]:
        batch = [self._queue.popleft()]
        events, size = batch[0][1], batch[0][2]
        while self._queue:
            events += self._queue[0][1]
            size += self._queue[0][2]
            if events > self._bounds.call_events or size > self._bounds.call_bytes:
                break
            batch.append(self._queue.popleft())
        for _, taken_events, taken_bytes, _, _ in batch:
            self._pending_events -= taken_events
            self._pending_bytes -= taken_bytes
        return batch

    async def _commit(self, batch: list[_Waiting]) -> None:
        self._call_number += 1
        try:
            outcomes = await self._send([waiting[0] for waiting in batch], self._call_number)
        except BaseException as error:
            cancelled = BackendUnavailable("the task that sends was cancelled", outcome_unknown=True)
            reason = error if isinstance(error, Exception) else cancelled
            for *_, answer in batch:
                if not answer.done():
                    answer.set_exception(failure_for_each(reason))
            if not isinstance(error, Exception):
                raise
        else:
            for (*_, answer), outcome in zip(batch, outcomes, strict=True):
                if not answer.done():
                    answer.set_result(outcome)
        finally:
            self._stats.called(len(batch), sum(waiting[1] for waiting in batch))

    async def close(self) -> None:
        """Refuse new appends and wait, bounded, for those under way. Idempotent."""
        self._closed = True
        self._wake_head()
        if self._flusher is not None and self._loop is asyncio.get_running_loop():
            await asyncio.wait([self._flusher], timeout=self._deadline_s)

    def stats(self) -> CommitStats:
        """Counters of this committer."""
        self._stats.pending_events = self._pending_events
        return self._stats

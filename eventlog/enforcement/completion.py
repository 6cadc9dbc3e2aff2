"""Listeners that give slots back when executions complete, for blocking and asyncio callers. What they do is in
`completed.py`.

Any number of them may run, on any machines: they share a consumer group on the workspace's log. Those that end leave
nothing undone: what a dead one had taken is taken over by another after `take_over_s` seconds, or by the next to start.
"""

import asyncio
import threading
from dataclasses import replace
from types import TracebackType
from typing import Self

from ..log.awaited import AsyncEventLog
from ..log.blocking import EventLog
from ..plan.drive import ano_transport, arun, no_transport, run
from ..plan.forks import OfOneProcess
from ..slots.awaited import AsyncSlotQueue
from ..slots.blocking import SlotQueue
from .completed import GROUP, TAKE_OVER_S, CompletionLoop, CompletionStats, CompletionWork

_GRACE_S = 10.0


class CompletionListener(OfOneProcess):
    """Releases the slots of every execution whose `execution.completed` event is in the log, whatever its status.

    The event's payload has the `execution_id`, and may have `action`, `group_key` and `fencing_token` to name one of
    its slots; without them all are given back, and its places in lines too. What the execution acquired after the event
    stays. Events are acknowledged after the release, so each is acted upon at least once; a second time does nothing. A
    new group begins with the oldest event that is there.

    `start()` and `stop()` it, or use it with `with`. It has a thread and one connection of its own, and does not close
    the log. `slots` are the log's own unless others are given.
    """

    def __init__(
        self, log: EventLog, slots: SlotQueue | None = None, *, group: str = GROUP, take_over_s: float = TAKE_OVER_S
    ) -> None:
        events, slot_backend = log.core.backend, (slots or log.slots()).core.backend
        self._work = CompletionWork(log.workspace, events, slot_backend, group=group, take_over_s=take_over_s)
        self._connect = log.connect
        self._loop = CompletionLoop(self._work)
        self._thread: threading.Thread | None = None

    def start(self) -> Self:
        """Begin to listen. Idempotent."""
        if self._thread is None:
            # One that was stopped and has not ended yet is not to go on.
            self._loop = CompletionLoop(self._work)
            self._thread = threading.Thread(
                target=self._run, args=(self._loop,), name="eventlog-completions", daemon=True
            )
            self._thread.start()
        return self

    def stop(self) -> None:
        """Finish what was taken, acknowledge it and leave the group; returns within moments. Idempotent."""
        self._loop.end()
        thread, self._thread = self._thread, None
        if thread is not None:
            thread.join(_GRACE_S)

    def stats(self) -> CompletionStats:
        """Counters since it was made."""
        return replace(self._work.stats)

    def _run(self, loop: CompletionLoop) -> None:
        link = None if self._connect is None else self._connect(1)
        try:
            run(loop.run(), no_transport if link is None else link.execute)
        finally:
            if link is not None:
                link.close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


class AsyncCompletionListener(OfOneProcess):
    """The asyncio twin of `CompletionListener`: a task of the running event loop. `async with`, or `start`, `stop`."""

    def __init__(
        self,
        log: AsyncEventLog,
        slots: AsyncSlotQueue | None = None,
        *,
        group: str = GROUP,
        take_over_s: float = TAKE_OVER_S,
    ) -> None:
        events, slot_backend = log.core.backend, (slots or log.slots()).core.backend
        self._work = CompletionWork(log.workspace, events, slot_backend, group=group, take_over_s=take_over_s)
        self._connect = log.connect
        self._loop = CompletionLoop(self._work)
        self._task: asyncio.Task[None] | None = None

    def start(self) -> Self:
        """Begin to listen. Idempotent."""
        if self._task is None:
            self._loop = CompletionLoop(self._work)
            self._task = asyncio.create_task(self._run(self._loop), name="eventlog-completions")
        return self

    async def stop(self) -> None:
        """See `CompletionListener.stop`."""
        self._loop.end()
        task, self._task = self._task, None
        if task is not None:
            await asyncio.wait([task], timeout=_GRACE_S)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    def stats(self) -> CompletionStats:
        """See `CompletionListener.stats`."""
        return replace(self._work.stats)

    async def _run(self, loop: CompletionLoop) -> None:
        link = None if self._connect is None else self._connect(1)
        try:
            await arun(loop.run(), ano_transport if link is None else link.execute)
        finally:
            if link is not None:
                await link.close()

    async def __aenter__(self) -> Self:
        return self.start()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

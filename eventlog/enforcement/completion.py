"""Listeners that give slots back when executions complete, for blocking and asyncio callers. What they do is in
`completed.py`.

Any number of them may run, on any machines: they share a consumer group on the workspace's log. Those that end leave
nothing undone: what a dead one had taken is taken over by another after `take_over_s` seconds, or by the next to start.
"""

import asyncio
import contextlib
import logging
import threading
import time
from dataclasses import replace
from types import TracebackType
from typing import Any, Self

from ..errors import EventLogError, LogClosed
from ..log.awaited import AsyncEventLog
from ..log.blocking import EventLog
from ..plan.drive import arun, no_transport, run
from ..plan.effects import Command
from ..slots.awaited import AsyncSlotQueue
from ..slots.blocking import SlotQueue
from .completed import CompletionStats, CompletionWork, feed_of

_log = logging.getLogger("eventlog")

GROUP = "completions"
TAKE_OVER_S = 5.0
# A quiet log is looked at so often, for what dead listeners have left; whoever stops waits for a part of that.
_LOOK_S = 1.0
_BLOCK_S = 0.2
_FIRST_PAUSE_S = 0.05
_LONGEST_PAUSE_S = 1.0
_SWEEP_EVERY = 1000
_GRACE_S = 10.0


class CompletionListener:
    """Releases the slots of every execution whose `execution.completed` event is in the log, whatever its status.

    The event's payload has the `execution_id`, and may have `action`, `group_key` and `fencing_token` to say which of
    its slots is meant; without them all are given back, and its places in lines too. What the execution acquired after
    the event stays. Events are acknowledged after the release, so each is acted upon at least once; a second time does
    nothing. A new group begins with the oldest event that is there.

    `start()` and `stop()` it, or use it with `with`. It has a thread and one connection of its own, and does not close
    the log. `slots` are the log's own unless others are given.
    """

    def __init__(
        self, log: EventLog, slots: SlotQueue | None = None, *, group: str = GROUP, take_over_s: float = TAKE_OVER_S
    ) -> None:
        slots = log.slots() if slots is None else slots
        self._work = CompletionWork(log.workspace, slots.service, feed_of(log.core.backend, group, take_over_s))
        self._connect = log.connect
        self._ending = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> Self:
        """Begin to listen. Idempotent."""
        if self._thread is None:
            # One that was stopped and has not ended yet is not to go on.
            self._ending = threading.Event()
            self._thread = threading.Thread(
                target=self._run, args=(self._ending,), name="eventlog-completions", daemon=True
            )
            self._thread.start()
        return self

    def stop(self) -> None:
        """Finish what was taken, acknowledge it and leave the group; returns within moments. Idempotent."""
        self._ending.set()
        thread, self._thread = self._thread, None
        if thread is not None:
            thread.join(_GRACE_S)

    def stats(self) -> CompletionStats:
        """Counters since it was made."""
        return replace(self._work.stats)

    def _run(self, ending: threading.Event) -> None:
        link = None if self._connect is None else self._connect(1)
        execute = no_transport if link is None else link.execute
        pause_s, rounds = _FIRST_PAUSE_S, 0
        try:
            while not ending.is_set():
                try:
                    if not run(self._work.step(), execute):
                        rounds += 1
                        if rounds % _SWEEP_EVERY == 0:
                            run(self._work.feed.sweep(), execute)
                        look_at = time.monotonic() + _LOOK_S
                        while not ending.is_set() and time.monotonic() < look_at:
                            if run(self._work.feed.wait(_BLOCK_S), execute):
                                break
                    pause_s = _FIRST_PAUSE_S
                except LogClosed:
                    return
                except Exception as error:
                    _told(self._work, error)
                    ending.wait(pause_s)
                    pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
            with contextlib.suppress(EventLogError):
                run(self._work.feed.leave(), execute)
        finally:
            if link is not None:
                link.close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


class AsyncCompletionListener:
    """The asyncio twin of `CompletionListener`: a task of the running event loop. `async with`, or `start`, `stop`."""

    def __init__(
        self,
        log: AsyncEventLog,
        slots: AsyncSlotQueue | None = None,
        *,
        group: str = GROUP,
        take_over_s: float = TAKE_OVER_S,
    ) -> None:
        slots = log.slots() if slots is None else slots
        self._work = CompletionWork(log.workspace, slots.service, feed_of(log.core.backend, group, take_over_s))
        self._connect = log.connect
        self._ending = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> Self:
        """Begin to listen. Idempotent."""
        if self._task is None:
            self._ending = asyncio.Event()
            self._task = asyncio.create_task(self._run(self._ending), name="eventlog-completions")
        return self

    async def stop(self) -> None:
        """See `CompletionListener.stop`."""
        self._ending.set()
        task, self._task = self._task, None
        if task is not None:
            await asyncio.wait([task], timeout=_GRACE_S)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    def stats(self) -> CompletionStats:
        """See `CompletionListener.stats`."""
        return replace(self._work.stats)

    async def _run(self, ending: asyncio.Event) -> None:
        link = None if self._connect is None else self._connect(1)
        execute = _no_async_transport if link is None else link.execute
        pause_s, rounds = _FIRST_PAUSE_S, 0
        try:
            while not ending.is_set():
                try:
                    if not await arun(self._work.step(), execute):
                        rounds += 1
                        if rounds % _SWEEP_EVERY == 0:
                            await arun(self._work.feed.sweep(), execute)
                        look_at = time.monotonic() + _LOOK_S
                        while not ending.is_set() and time.monotonic() < look_at:
                            if await arun(self._work.feed.wait(_BLOCK_S), execute):
                                break
                    pause_s = _FIRST_PAUSE_S
                except LogClosed:
                    return
                except Exception as error:
                    _told(self._work, error)
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(pause_s):
                            await ending.wait()
                    pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
            with contextlib.suppress(EventLogError):
                await arun(self._work.feed.leave(), execute)
        finally:
            if link is not None:
                await link.close()

    async def __aenter__(self) -> Self:
        return self.start()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()


def _told(work: CompletionWork, error: Exception) -> None:
    if isinstance(error, EventLogError):
        _log.warning("completions of %s wait for Redis: %s", work.workspace, error)
    else:
        # A listener that ended silently would leave slots held.
        _log.exception("completions of %s: failed, and goes on", work.workspace)


async def _no_async_transport(command: Command) -> Any:
    return no_transport(command)

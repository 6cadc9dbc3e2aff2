"""The tasks of an event loop that bring events to an asynchronous sink. Events come from any thread."""

import asyncio
import contextlib
import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

from ..plan.drive import arun
from .backlog import Backlog, Batch, Bounds
from .sinks import Errors, Sink

_GRACE_S = 0.5
"""Tasks that were cancelled have so long to clean up before `shutdown` returns."""


class Tasks:
    """Belong to the loop that they are bound to. A delivery whose time is up is cancelled, and its place is free at
    once; one that does not let itself be cancelled goes on by itself."""

    def __init__(self, sink: Sink, bounds: Bounds, backlog: Backlog) -> None:
        self._sink = sink
        self._bounds = bounds
        self._begin(backlog)

    def _begin(self, backlog: Backlog) -> None:
        self.backlog = backlog
        self._loop: asyncio.AbstractEventLoop | None = None
        self._tasks: dict[asyncio.Task[Errors], Batch] = {}
        self._watch: asyncio.Task[None] | None = None
        self._turn_is_due = False
        self._ended = asyncio.Event()

    def begin_anew(self) -> None:
        """Begin without loop and events, as a forked child must: they are its parent's."""
        self._begin(Backlog(self._bounds, closed=self.backlog.closed))

    def wake(self) -> None:
        """See to it that what waits is delivered; what waits for a loop that was closed is given up."""
        loop = self._loop or self._bound()
        if loop is None or (self._turn_is_due and not loop.is_closed()):
            return
        self._turn_is_due = True
        try:
            # On the loop's own thread too: a signal handler may be calling, and the loop asleep.
            loop.call_soon_threadsafe(self._turn)
        except RuntimeError:
            self.backlog.give_up()
            self.backlog.report(at_once=True)

    @property
    def is_bound(self) -> bool:
        """Whether they belong to a loop. Until then nothing is delivered."""
        return self._loop is not None

    def _bound(self) -> asyncio.AbstractEventLoop | None:
        """The loop that they belong to: the first that is running when they are used."""
        with self.backlog.lock, contextlib.suppress(RuntimeError):
            self._loop = self._loop or asyncio.get_running_loop()
        return self._loop

    def _turn(self) -> None:
        """Begin as many deliveries as there may be."""
        self._turn_is_due = False
        loop = asyncio.get_running_loop()
        while (batch := self.backlog.take()) is not None:
            task = loop.create_task(self._deliver(batch), name="eventlog-dispatch")
            self._tasks[task] = batch
            timer = loop.call_later(self._bounds.timeout_s, self._time_out, task)
            task.add_done_callback(partial(self._done, timer))
        if self._tasks and (self._watch is None or self._watch.done()):
            self._watch = loop.create_task(self._give_up_with_loop(), name="eventlog-dispatch")
        self.backlog.report()
        if self.backlog.closed and not self.backlog.in_flight:
            self._ended.set()

    async def _deliver(self, batch: Batch) -> Errors:
        task = asyncio.current_task()
        try:
            return await arun(self._sink.deliver(batch), _call)
        except BaseException as error:
            if task is not None and task.cancelling():
                raise
            return [error] * len(batch.calls)

    def _time_out(self, task: asyncio.Task[Errors]) -> None:
        self.backlog.time_out(self._tasks[task])
        task.cancel()
        self._turn()

    def _done(self, timer: asyncio.TimerHandle, task: asyncio.Task[Errors]) -> None:
        timer.cancel()
        batch = self._tasks.pop(task)
        if task.cancelled():
            self.backlog.time_out(batch)
            self.backlog.hanging.discard(batch)
        else:
            self.backlog.settle(batch, task.result())
        self._turn()

    async def _give_up_with_loop(self) -> None:
        """As long as there are deliveries: a loop that comes to its end cancels this, and nothing new may begin."""
        try:
            while self._tasks:
                await asyncio.wait(list(self._tasks))
        except asyncio.CancelledError:
            self._give_up()
            raise

    def _give_up(self) -> None:
        self.backlog.give_up()
        for task in self._tasks:
            task.cancel()

    async def until_ended(self) -> None:
        """Deliver on the running loop, until no more events may come and none is in flight."""
        if self._bound() is asyncio.get_running_loop():
            self.wake()
            await self._ended.wait()

    async def shutdown(self, timeout_s: float, *, wait: bool) -> bool:
        """Take no more events and wait until those in flight are delivered; cancel them when the time is up.

        True if nothing had to be given up, now or earlier. Called by the sink it does not wait.
        """
        self.backlog.close()
        loop = self._bound()
        assert loop is not None
        if loop is not asyncio.get_running_loop():
            if loop.is_closed():
                self.wake()
                return not self.backlog.gave_up
            there = asyncio.run_coroutine_threadsafe(self.shutdown(timeout_s, wait=wait), loop)
            return await asyncio.wrap_future(there)
        self._turn()
        if not wait or asyncio.current_task() in self._tasks:
            return not self.backlog.in_flight
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._ended.wait()
        self._give_up()
        left = [*self._tasks, *((self._watch,) if self._watch else ())]
        if left:
            await asyncio.wait(left, timeout=_GRACE_S)
        self.backlog.report(at_once=True)
        return not self.backlog.gave_up


async def _call(effect: Callable[[], Any]) -> Any:
    result = effect()
    return await result if inspect.isawaitable(result) else result

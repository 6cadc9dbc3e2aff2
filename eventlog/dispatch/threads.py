"""The threads of a blocking dispatcher. All are daemons, and none runs before the first event."""

import asyncio
import atexit
import contextlib
import inspect
import threading
import time
import weakref
from collections.abc import Callable
from functools import partial
from typing import Any

from ..plan.drive import run
from ..plan.threads import free
from .backlog import Backlog, Batch, Bounds
from .sinks import Errors, Sink
from .tasks import Tasks


class Threads:
    """Bring events to a sink that blocks. A thread that takes a batch leaves another behind, which watches the clock:
    a thread that hangs cannot be stopped, only replaced."""

    def __init__(self, sink: Sink, bounds: Bounds, drain_timeout_s: float) -> None:
        self.drain_timeout_s = drain_timeout_s
        self._sink = sink
        self._bounds = bounds
        self._begin(Backlog(bounds))
        at_exit = partial(_drain_at_exit, weakref.ref(self))
        # Now, and not when this module is imported: it has to run before what was registered earlier closes the sink.
        atexit.register(at_exit)
        weakref.finalize(self, atexit.unregister, at_exit).atexit = False

    def begin_anew(self) -> None:
        """Begin without threads and events, as a forked child must: they are its parent's."""
        self._begin(Backlog(self._bounds, closed=self.backlog.closed))

    def _begin(self, backlog: Backlog) -> None:
        self.backlog = backlog
        self._threads: set[threading.Thread] = set()
        self._has_thread = False
        self._idle = 0

    def wake(self) -> None:
        """See to it that what waits is delivered."""
        if not self._has_thread and self.backlog.waiting:
            self._start()

    def _start(self) -> None:
        thread = threading.Thread(target=self._work, args=(self.backlog,), name="eventlog-dispatch", daemon=True)
        self._threads.add(thread)
        try:
            thread.start()
            self._has_thread = True
        except RuntimeError:
            # No thread can be had, now or, as the interpreter ends, any more. The next event tries again.
            self._threads.discard(thread)

    def _work(self, backlog: Backlog) -> None:
        while (batch := self._next(backlog)) is not None:
            errors = self._deliver(batch)
            if backlog is not self.backlog:
                return  # in a child that the sink forked: the batch is the parent's
            backlog.settle(batch, errors)
        self._leave()

    def _leave(self) -> None:
        self._threads.discard(threading.current_thread())
        # An event that a shutdown overtook on its way in gets a thread again.
        self._has_thread = bool(self._threads)

    def _next(self, backlog: Backlog) -> Batch | None:
        """Wait for something to deliver. None at the end."""
        while True:
            backlog.report()
            backlog.expire()
            batch = backlog.take()
            if batch is None:
                if backlog.closed and not backlog.in_flight:
                    free(backlog.work)  # for the next one, which is to end too
                    return None
                with backlog.lock:
                    self._idle += 1
                backlog.work.acquire(timeout=backlog.rest_s())
                with backlog.lock:
                    self._idle -= 1
            if batch is not None:
                if not self._idle and len(self._threads) <= self._bounds.workers + self._bounds.hanging:
                    self._start()
                return batch

    def _deliver(self, batch: Batch) -> Errors:
        try:
            return run(self._sink.deliver(batch), _call)
        except BaseException as error:
            # A sink that asks for the end of its thread, for instance, gets no more than the end of its call.
            return [error] * len(batch.calls)

    def retire(self) -> None:
        """Take no more events; those in flight are still delivered. Waits for nothing."""
        self.backlog.close()
        self.wake()

    def shutdown(self, timeout_s: float, *, wait: bool) -> bool:
        """Take no more events and wait until those in flight are delivered; give them up when the time is up.

        True if nothing had to be given up, now or earlier. Called by the sink it does not wait.
        """
        self.retire()
        backlog = self.backlog
        if not wait or threading.current_thread() in self._threads:
            return not backlog.in_flight
        if not self._has_thread:
            self._deliver_here(timeout_s)
        backlog.wait_until_empty(timeout_s if self._has_thread else 0.0)
        backlog.give_up()
        self.wake()
        backlog.report(at_once=True)
        return not backlog.gave_up

    def _deliver_here(self, timeout_s: float) -> None:
        """Deliver in this thread: as the interpreter ends, another may not be had."""
        until = time.monotonic() + timeout_s
        while time.monotonic() < until and (batch := self.backlog.take()) is not None:
            self.backlog.settle(batch, self._deliver(batch))


class LoopThread(Threads):
    """Brings events to an asynchronous sink, on an event loop in a thread of its own."""

    def _begin(self, backlog: Backlog) -> None:
        super()._begin(backlog)
        self._tasks = Tasks(self._sink, self._bounds, backlog)

    def wake(self) -> None:
        """See `Threads.wake`."""
        super().wake()
        if self._tasks.is_bound:
            self._tasks.wake()

    def _work(self, backlog: Backlog) -> None:
        # At its end it cancels the tasks that still run, and closes the loop.
        asyncio.run(self._tasks.until_ended())
        self._leave()

    def _deliver_here(self, timeout_s: float) -> None:
        if self.backlog.in_flight and timeout_s > 0:
            with contextlib.suppress(TimeoutError, RuntimeError):
                asyncio.run(asyncio.wait_for(self._tasks.until_ended(), timeout_s))

    def shutdown(self, timeout_s: float, *, wait: bool) -> bool:
        """See `Threads.shutdown`. Without `wait` what is in flight is given up, and what runs is cancelled."""
        return super().shutdown(timeout_s if wait else 0.0, wait=True)


def _call(effect: Callable[[], Any]) -> Any:
    result = effect()
    if inspect.iscoroutine(result):
        result.close()
        raise TypeError("the sink returned a coroutine: give a coroutine function, or use an AsyncEventDispatcher")
    return result


_exit_began: list[float] = []


def _drain_at_exit(threads_ref: "weakref.ref[Threads]") -> None:
    """However many dispatchers there are, the process ends within the longest of their time-outs."""
    now = time.monotonic()
    _exit_began.append(now)
    threads = threads_ref()
    if threads is not None:
        threads.shutdown(max(threads.drain_timeout_s - (now - _exit_began[0]), 0.0), wait=True)

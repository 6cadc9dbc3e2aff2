"""How a bus uses the log that it is made over: background work, appends and questions, for either colour of log."""

import asyncio
import contextlib
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

from ..errors import InvalidInput, LogClosed
from ..log.awaited import AsyncEventLog
from ..log.blocking import EventLog
from ..model.events import Body, Event
from ..plan.drive import ano_transport, arun, no_transport, run
from ..plan.effects import Plan
from ..plan.threads import Flag
from .emitter import READY_S, Emitter

_END_S = 2.0

T = TypeVar("T")
Failed = Callable[[BaseException], None]


class ThreadPort:
    """Over an `EventLog`: daemon threads, which end by themselves and close their connections.

    `ready` is set while what is appended reaches the subscriptions; `append_soon` waits for it.
    """

    on_its_loop = False

    def __init__(self, log: EventLog, ready: Flag) -> None:
        self.core = log.core
        self.ready = ready
        self._log = log
        self.start_over()

    def start_over(self) -> None:
        """In a forked child: what is under way is the parent's."""
        self._emitter = Emitter(self._log, self.ready)

    @property
    def must_not_block(self) -> bool:
        """True if `ask` would wait for Redis on an event loop."""
        return self._log.connect is not None and running_loop() is not None

    def ask(self, plan: Plan[T]) -> T:
        """Carry a plan out as the log's own calls are, blocking."""
        return self._log._run(plan)

    async def aask(self, plan: Plan[T]) -> T:
        """Carry a plan out without blocking the running event loop."""
        return await asyncio.to_thread(self.ask, plan)

    def append_soon(self, body: Body) -> "Future[Event]":
        """Append without blocking, when the bus is ready; in the order of the calls."""
        return self._emitter.submit(body)

    def spawn(self, plan: Callable[[], Plan[None]], name: str, failed: Failed) -> None:
        """Carry the plan out in the background, over a connection of its own. Its failure is passed to `failed`."""
        threading.Thread(target=self._carry_out, args=(plan, failed), name=name, daemon=True).start()

    def _carry_out(self, plan: Callable[[], Plan[None]], failed: Failed) -> None:
        connect = self._log.connect
        link = None if connect is None else connect(1)
        try:
            run(plan(), no_transport if link is None else link.execute)
        except BaseException as error:
            failed(error)
        finally:
            if link is not None:
                link.close()

    def stop_taking(self) -> None:
        """Take no more appends."""
        self._emitter.close()

    def end(self, name: str) -> None:
        """Let the plan of this name wait for Redis no longer: a thread's wait ends within a second or so by itself."""


class TaskPort:
    """The twin of `ThreadPort` over an `AsyncEventLog`: tasks of the event loop on which the bus was made."""

    def __init__(self, log: AsyncEventLog, ready: Flag) -> None:
        loop = running_loop()
        if loop is None:
            raise InvalidInput("log", "make a bus over an AsyncEventLog on the event loop of that log")
        self.core = log.core
        self._loop = loop
        self.ready = ready
        self._log = log
        self._turn = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()

    def start_over(self) -> None:
        """An event loop does not survive a fork, nor does what it has under way."""

    @property
    def must_not_block(self) -> bool:
        return running_loop() is not None

    @property
    def on_its_loop(self) -> bool:
        """True if called on the event loop that does the work of this log; `ask` raises `InvalidInput` there."""
        return running_loop() is self._loop

    def ask(self, plan: Plan[T]) -> T:
        if self.on_its_loop:
            raise InvalidInput("log", "this would wait for an AsyncEventLog on its own event loop, for ever")
        return self._begin(self._log._run(plan)).result()

    async def aask(self, plan: Plan[T]) -> T:
        if self.on_its_loop:
            return await self._log._run(plan)
        return await asyncio.wrap_future(self._begin(self._log._run(plan)))

    def append_soon(self, body: Body) -> "Future[Event]":
        return self._begin(self._append(body))

    async def _append(self, body: Body) -> Event:
        async with self._turn:
            if not self.ready.is_set():
                await asyncio.to_thread(self.ready.wait, READY_S)
        return await self._log.append_body(body)

    def _begin(self, work: Coroutine[Any, Any, T]) -> "Future[T]":
        try:
            return asyncio.run_coroutine_threadsafe(work, self._loop)
        except RuntimeError:
            work.close()
            raise _loop_ended() from None

    def spawn(self, plan: Callable[[], Plan[None]], name: str, failed: Failed) -> None:
        def begin() -> None:
            task = self._loop.create_task(self._carry_out(plan, failed), name=name)
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

        if self.on_its_loop:
            begin()
            return
        try:
            self._loop.call_soon_threadsafe(begin)
        except RuntimeError:
            failed(_loop_ended())

    async def _carry_out(self, plan: Callable[[], Plan[None]], failed: Failed) -> None:
        connect = self._log.connect
        link = None if connect is None else connect(1)
        try:
            await arun(plan(), ano_transport if link is None else link.execute)
        except asyncio.CancelledError:
            failed(_loop_ended())
            raise
        except BaseException as error:
            failed(error)
        finally:
            if link is not None:
                await link.close()

    def stop_taking(self) -> None:
        """The log has its own queue."""

    def end(self, name: str) -> None:
        """Cancel the plan of this name, and wait, bounded, for the others."""
        if not self.on_its_loop:
            with contextlib.suppress(LogClosed, TimeoutError):
                self._begin(self._end(name)).result(_END_S)

    async def _end(self, name: str) -> None:
        for task in self._tasks:
            if task.get_name() == name:
                task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=_END_S)


Port = ThreadPort | TaskPort


def running_loop() -> asyncio.AbstractEventLoop | None:
    """The event loop that runs the caller."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def _loop_ended() -> LogClosed:
    return LogClosed("the event loop of the bus' log has ended")

"""How a bus uses the log that it is bound to: background work, appends and questions, for either colour of log."""

import asyncio
import contextlib
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import Any, Protocol, TypeVar

from ..errors import InvalidInput, LogClosed
from ..log.awaited import AsyncEventLog
from ..log.blocking import EventLog
from ..log.core import LogCore
from ..model.events import Body, Event
from ..plan.drive import arun, no_transport, run
from ..plan.effects import Command, Plan
from .emitter import READY_S, Emitter

_END_S = 2.0

T = TypeVar("T")
Failed = Callable[[BaseException], None]


class Port(Protocol):
    """What a bus asks of its log."""

    core: LogCore

    def spawn(self, plan: Callable[[], Plan[None]], name: str, failed: Failed) -> None:
        """Carry the plan out in the background, over a connection of its own. Its failure is told to `failed`."""

    def end(self, name: str) -> None:
        """Let the plan of this name wait no longer for Redis, where that can be done."""

    def append(self, body: Body) -> Event:
        """Append, blocking. Raises `InvalidInput` where that would hold up the event loop that has to do it."""

    def append_soon(self, body: Body) -> "Future[Event]":
        """Append without blocking, when the gate is open; in the order of the calls."""

    def ask(self, plan: Plan[T]) -> T:
        """Carry a plan out, blocking. Raises as `append`."""

    async def aask(self, plan: Plan[T]) -> T:
        """Carry a plan out without blocking the running event loop."""

    @property
    def blocks(self) -> bool:
        """True if `append` and `ask` wait for Redis."""

    @property
    def on_its_loop(self) -> bool:
        """True if called on the event loop that does the work of this log."""

    def start_over(self) -> None:
        """In a forked child: what is under way is the parent's."""

    def stop_taking(self) -> None:
        """Take no more appends."""

    def wait_ended(self) -> None:
        """Wait, bounded, for the plans in the background to end, where they would outlive their owner."""


class ThreadPort:
    """Over an `EventLog`: daemon threads."""

    on_its_loop = False

    def __init__(self, log: EventLog, gate: threading.Event) -> None:
        self.core = log.core
        self._log = log
        self._gate = gate
        self.start_over()

    def start_over(self) -> None:
        self._emitter = Emitter(self._log, self._gate)

    @property
    def blocks(self) -> bool:
        return self._log.connect is not None

    def spawn(self, plan: Callable[[], Plan[None]], name: str, failed: Failed) -> None:
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

    def append(self, body: Body) -> Event:
        return self._log.append_body(body)

    def append_soon(self, body: Body) -> "Future[Event]":
        return self._emitter.submit(body)

    def ask(self, plan: Plan[T]) -> T:
        connect = self._log.connect
        link = None if connect is None else connect(1)
        try:
            return run(plan, no_transport if link is None else link.execute)
        finally:
            if link is not None:
                link.close()

    async def aask(self, plan: Plan[T]) -> T:
        return await asyncio.to_thread(self.ask, plan)

    def end(self, name: str) -> None:
        """A thread reads on until its read ends, within a second or so."""

    def stop_taking(self) -> None:
        self._emitter.close()

    def wait_ended(self) -> None:
        """Threads are daemons, and close their connections themselves."""


class TaskPort:
    """Over an `AsyncEventLog`: tasks of the event loop on which the bus was made."""

    blocks = True

    def __init__(self, log: AsyncEventLog, gate: threading.Event) -> None:
        try:
            self._loop = asyncio.get_running_loop()
        except RuntimeError:
            raise InvalidInput("log", "make a bus over an AsyncEventLog on the event loop of that log") from None
        self.core = log.core
        self._log = log
        self._gate = gate
        self._turn = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def on_its_loop(self) -> bool:
        try:
            return asyncio.get_running_loop() is self._loop
        except RuntimeError:
            return False

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
            await arun(plan(), _no_async_transport if link is None else link.execute)
        except asyncio.CancelledError:
            failed(_loop_ended())
            raise
        except BaseException as error:
            failed(error)
        finally:
            if link is not None:
                await link.close()

    def append(self, body: Body) -> Event:
        return self._result(self._log.append_body(body))

    def append_soon(self, body: Body) -> "Future[Event]":
        return self._begin(self._append(body))

    async def _append(self, body: Body) -> Event:
        async with self._turn:
            if not self._gate.is_set():
                await asyncio.to_thread(self._gate.wait, READY_S)
        return await self._log.append_body(body)

    def ask(self, plan: Plan[T]) -> T:
        return self._result(self._ask(plan))

    async def aask(self, plan: Plan[T]) -> T:
        if self.on_its_loop:
            return await self._ask(plan)
        return await asyncio.wrap_future(self._begin(self._ask(plan)))

    async def _ask(self, plan: Plan[T]) -> T:
        connect = self._log.connect
        link = None if connect is None else connect(1)
        try:
            return await arun(plan, _no_async_transport if link is None else link.execute)
        finally:
            if link is not None:
                await link.close()

    def _result(self, work: Coroutine[Any, Any, T]) -> T:
        if self.on_its_loop:
            work.close()
            raise InvalidInput("log", "this would wait for an AsyncEventLog on its own event loop, for ever")
        return self._begin(work).result()

    def _begin(self, work: Coroutine[Any, Any, T]) -> "Future[T]":
        try:
            return asyncio.run_coroutine_threadsafe(work, self._loop)
        except RuntimeError:
            work.close()
            raise _loop_ended() from None

    def start_over(self) -> None:
        """An event loop does not survive a fork, nor does what it has under way."""

    def end(self, name: str) -> None:
        def cancel() -> None:
            for task in self._tasks:
                if task.get_name() == name:
                    task.cancel()

        with contextlib.suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(cancel)

    def stop_taking(self) -> None:
        """The log has its own queue."""

    def wait_ended(self) -> None:
        if not self.on_its_loop:
            with contextlib.suppress(LogClosed, TimeoutError):
                self._begin(self._ended()).result(_END_S)

    async def _ended(self) -> None:
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=_END_S)


def _loop_ended() -> LogClosed:
    return LogClosed("the event loop of the bus' log has ended")


async def _no_async_transport(command: Command) -> Any:
    return no_transport(command)

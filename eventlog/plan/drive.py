"""The two drivers of plans: one blocks, one awaits. All that differs between the colours is here."""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from typing import Any, Protocol, TypeVar

from .effects import Command, Park, Pause, Plan
from .threads import free, held_lock

T = TypeVar("T")


class Transport(Protocol):
    """Carries out Redis commands for blocking callers (`store/links.py`)."""

    def execute(self, command: Command, /) -> Any:
        """The undecoded reply."""

    def close(self) -> None:
        """Close every connection."""


class AsyncTransport(Protocol):
    """Carries out Redis commands on the running event loop (`store/links.py`)."""

    async def execute(self, command: Command, /) -> Any:
        """The undecoded reply."""

    async def close(self) -> None:
        """Close every connection."""


def run(plan: Plan[T], execute: Callable[[Any], Any]) -> T:
    """Drive `plan` to its end, blocking; `execute` carries out all that it asks for but time and waking.

    Whatever ends an effect, an interrupt included, is thrown into the plan: it may have something to give back.
    """
    reply: Any = None
    failure: BaseException | None = None
    try:
        while True:
            effect = plan.send(reply) if failure is None else plan.throw(failure)
            reply = failure = None
            try:
                if type(effect) is Pause:
                    time.sleep(effect.seconds)
                elif type(effect) is Park:
                    _park(effect)
                else:
                    reply = execute(effect)
            except BaseException as error:
                failure = error
    except StopIteration as done:
        return done.value  # type: ignore[no-any-return]
    except BaseException:
        plan.close()  # an interrupt may have come between two effects
        raise


async def arun(plan: Plan[T], execute: Callable[[Any], Awaitable[Any]]) -> T:
    """Drive `plan` to its end on the running event loop; a cancellation is thrown into the plan like any failure."""
    reply: Any = None
    failure: BaseException | None = None
    while True:
        try:
            effect = plan.send(reply) if failure is None else plan.throw(failure)
        except StopIteration as done:
            return done.value  # type: ignore[no-any-return]
        reply = failure = None
        try:
            if type(effect) is Pause:
                await asyncio.sleep(effect.seconds)
            elif type(effect) is Park:
                await _apark(effect)
            else:
                reply = await execute(effect)
        except BaseException as error:
            failure = error


def running_loop(known: asyncio.AbstractEventLoop | None, what: str) -> asyncio.AbstractEventLoop:
    """The loop that `what` is used on: its first one, or the next once that is closed; raises `RuntimeError`."""
    loop = asyncio.get_running_loop()
    if known is None or known is loop or known.is_closed():
        return loop
    raise RuntimeError(f"{what} belongs to the event loop that used it first: give each loop its own")


def no_transport(effect: object) -> Any:
    """The `execute` of what needs no connection: nothing should ask for one."""
    raise AssertionError(f"this backend sends no commands, yet it was asked for {effect!r}")


async def ano_transport(effect: object) -> Any:
    """The asyncio twin of `no_transport`."""
    no_transport(effect)


def _park(park: Park) -> None:
    woken = held_lock()
    unsubscribe = park.subscribe(lambda: free(woken))
    try:
        woken.acquire(timeout=park.timeout_s)
    finally:
        unsubscribe()


async def _apark(park: Park) -> None:
    loop = asyncio.get_running_loop()
    woken = asyncio.Event()

    def wake() -> None:
        with contextlib.suppress(RuntimeError):  # the loop may have closed meanwhile
            loop.call_soon_threadsafe(woken.set)

    unsubscribe = park.subscribe(wake)
    try:
        async with asyncio.timeout(park.timeout_s):
            await woken.wait()
    except TimeoutError:
        pass
    finally:
        unsubscribe()

"""The two drivers of plans: one blocks, one awaits. All that differs between the colours is here."""

import asyncio
import contextlib
import threading
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from .plan import Command, Park, Pause, Plan

T = TypeVar("T")


def run(plan: Plan[T], execute: Callable[[Command], Any]) -> T:
    """Drive `plan` to its end, blocking; `execute` carries out its Redis commands."""
    reply: Any = None
    failure: BaseException | None = None
    while True:
        try:
            effect = plan.send(reply) if failure is None else plan.throw(failure)
        except StopIteration as done:
            return done.value  # type: ignore[no-any-return]
        reply = failure = None
        try:
            if type(effect) is Command:
                reply = execute(effect)
            elif isinstance(effect, Pause):
                time.sleep(effect.seconds)
            elif isinstance(effect, Park):
                _park(effect)
        except Exception as error:
            failure = error


async def arun(plan: Plan[T], execute: Callable[[Command], Awaitable[Any]]) -> T:
    """Drive `plan` to its end on the running event loop."""
    reply: Any = None
    failure: BaseException | None = None
    while True:
        try:
            effect = plan.send(reply) if failure is None else plan.throw(failure)
        except StopIteration as done:
            return done.value  # type: ignore[no-any-return]
        reply = failure = None
        try:
            if type(effect) is Command:
                reply = await execute(effect)
            elif isinstance(effect, Pause):
                await asyncio.sleep(effect.seconds)
            elif isinstance(effect, Park):
                await _apark(effect)
        except Exception as error:
            failure = error


def _park(park: Park) -> None:
    woken = threading.Event()
    unsubscribe = park.subscribe(woken.set)
    try:
        woken.wait(park.timeout_s)
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

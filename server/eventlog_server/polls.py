"""Long polls: a request waits for something, but no longer than its client stays and the server runs."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from .parsing import Disconnected, Receive, Scope
from .streaming import Streams

T = TypeVar("T")


async def waited_for(
    streams: Streams, scope: Scope, receive: Receive, work: Callable[[], Coroutine[Any, Any, T]]
) -> T | None:
    """What comes of `work`; None if the server closes meanwhile. Raises `Disconnected` once the client is gone.

    The request's body must have been read. Raises `Overloaded` where too many wait already.
    """
    with streams.admit(scope):
        result = asyncio.create_task(work())
        gone = asyncio.create_task(_gone(receive))
        tasks = (result, gone, asyncio.create_task(streams.closing.wait()))
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            if result.done():
                return result.result()
            if gone.done():
                raise Disconnected
            return None
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass

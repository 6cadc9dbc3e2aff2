"""The answer to `emit`: done already, or under way."""

import asyncio
import contextlib
import logging
from collections.abc import Generator
from concurrent.futures import Future
from typing import Any

from ..errors import RejectedContent
from ..model.events import Event
from ..plan.records import say_aside

_log = logging.getLogger("eventlog")


class Emission:
    """What became of an event that was emitted: `event`, or await it; both give None for one that was refused.

    Awaiting raises what the append raised. A failure that nobody awaits is logged.
    """

    __slots__ = ("_asked", "_event", "_future")

    def __init__(self, event: Event | None = None, future: "Future[Event] | None" = None) -> None:
        self._event = event
        self._future = future
        self._asked = False

    @property
    def event(self) -> Event | None:
        """The event as it is on the bus; None if it was refused, failed, or is under way still."""
        future = self._future
        if future is None:
            return self._event
        return future.result() if future.done() and not future.cancelled() and future.exception() is None else None

    @property
    def done(self) -> bool:
        """False while it is under way."""
        return self._future is None or self._future.done()

    def __await__(self) -> Generator[Any, None, Event | None]:
        self._asked = True
        if self._future is None:
            return self._event
        try:
            return (yield from asyncio.wrap_future(self._future).__await__())
        except RejectedContent:
            return None

    def __del__(self) -> None:
        try:
            future = self._future
        except AttributeError:
            return  # an interrupt ended its making
        if future is not None and not self._asked:
            with contextlib.suppress(RuntimeError):
                future.add_done_callback(_log_failure)


def _log_failure(future: "Future[Event]") -> None:
    error = None if future.cancelled() else future.exception()
    if error is not None and not isinstance(error, RejectedContent):
        say_aside(_log.warning, "an event was not emitted: %s", error)

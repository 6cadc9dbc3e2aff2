"""`AsyncEventDispatcher`: the asyncio twin of `EventDispatcher`. `pump.py` has the tasks that deliver."""

from types import TracebackType
from typing import Any, Self

from .delivery import IsTerminal, is_terminal_kind, sink_of
from .inflight import DispatchStats, Terms, checked_seconds
from .pump import Pump


class AsyncEventDispatcher:
    """Brings events to `track_event` in tasks of one event loop: the one that it is made, or first used, on.

    `track_event` is a coroutine function, an object with such a method, or an `AsyncEventLog` or `AsyncEventLogClient`.
    A plain function is called on the loop, and what it returns is awaited if it can be: it must not block. Bounds,
    drops, order and terminal events are those of `EventDispatcher`. A delivery that takes longer than `call_timeout_s`
    seconds is cancelled. Use `async with`, or `await shutdown()` before the loop ends: what is in flight then is lost
    with the loop, and counted.
    """

    def __init__(
        self,
        track_event: object,
        max_workers: int = 10,
        inflight_oversubscription: int | None = None,
        *,
        call_timeout_s: float = 10.0,
        drain_timeout_s: float = 5.0,
        is_terminal: IsTerminal = is_terminal_kind,
    ) -> None:
        self._sink = sink_of(track_event, is_terminal, max_workers, asynchronous=True)
        each = self._sink.oversubscription if inflight_oversubscription is None else inflight_oversubscription
        terms = Terms.of(max_workers, each, call_timeout_s, drain_timeout_s)
        self._pump = Pump(self._sink, terms)

    def dispatch(self, *, event_name: str, data: Any = None, operation_id: str | None = None) -> None:
        """See `EventDispatcher.dispatch`. It is not awaited, and may be called from any thread."""
        try:
            call = self._sink.call_of(event_name, data, operation_id)
        except Exception as error:
            self._pump.refuse(error)
        else:
            self._pump.dispatch(call)

    async def shutdown(self, wait: bool = True, *, timeout_s: float | None = None) -> bool:
        """See `EventDispatcher.shutdown`. What is given up is cancelled."""
        timeout_s = self._pump.terms.drain_timeout_s if timeout_s is None else checked_seconds("timeout_s", timeout_s)
        return await self._pump.shutdown(timeout_s, wait=wait)

    def stats(self) -> DispatchStats:
        """Counters since it was made."""
        return self._pump.stats()

    async def __aenter__(self) -> Self:
        self._pump.bind()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.shutdown()

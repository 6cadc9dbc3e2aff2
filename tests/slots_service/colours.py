"""A workspace with its log, slots, enforcer and listeners, in either colour, spoken to by blocking calls.

The asyncio parts live on an event loop in a thread of its own; what they return that can be awaited is waited for.
"""

import asyncio
import inspect
import threading
from collections.abc import Callable
from typing import Any

from eventlog import create_async_event_log, create_event_log
from eventlog.enforcement.completion import AsyncCompletionListener, CompletionListener
from eventlog.enforcement.enforcer import AsyncPermit, AsyncPolicyEnforcer, PolicyEnforcer

PATIENCE_S = 30.0


class SyncWorkspace:
    """The blocking parts as they are."""

    def __init__(self, **options: Any) -> None:
        self.log: Any = create_event_log(**options)
        self.slots: Any = self.log.slots()
        self.enforcer: Any = PolicyEnforcer(self.slots)

    def listener(self, **options: Any) -> Any:
        return CompletionListener(self.log, **options)

    def close(self) -> None:
        self.log.close()


class _Driven:
    """An object of the event loop's, whose calls are carried out there."""

    def __init__(self, inner: Any, drive: Callable[[Callable[[], Any]], Any]) -> None:
        self._inner = inner
        self._drive = drive

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._inner, name)
        if not callable(value):
            return value

        def call(*args: Any, **kwargs: Any) -> Any:
            found = self._drive(lambda: value(*args, **kwargs))
            return _Driven(found, self._drive) if isinstance(found, AsyncPermit) else found

        return call

    def __enter__(self) -> Any:
        self._drive(self._inner.__aenter__)
        return self

    def __exit__(self, *how: Any) -> None:
        self._drive(lambda: self._inner.__aexit__(*how))


class AsyncWorkspace:
    """The asyncio parts, driven from outside."""

    def __init__(self, **options: Any) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="driven loop")
        self._thread.start()
        self._log = self._drive(lambda: create_async_event_log(**options))
        slots = self._drive(self._log.slots)
        self.log: Any = _Driven(self._log, self._drive)
        self.slots: Any = _Driven(slots, self._drive)
        self.enforcer: Any = _Driven(AsyncPolicyEnforcer(slots), self._drive)

    def _drive(self, call: Callable[[], Any]) -> Any:
        async def carry_out() -> Any:
            found = call()
            return await found if inspect.isawaitable(found) else found

        return asyncio.run_coroutine_threadsafe(carry_out(), self._loop).result(PATIENCE_S)

    def listener(self, **options: Any) -> Any:
        return _Driven(self._drive(lambda: AsyncCompletionListener(self._log, **options)), self._drive)

    def close(self) -> None:
        self._drive(self._log.close)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(PATIENCE_S)
        self._loop.close()


COLOURS: dict[str, Callable[..., Any]] = {"sync": SyncWorkspace, "async": AsyncWorkspace}

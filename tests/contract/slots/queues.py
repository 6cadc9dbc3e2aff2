"""One way to talk to both colours of slot queues, so that each test body is written once (see `colours.py`)."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self

from eventlog.slots.awaited import AsyncSlot, AsyncSlotQueue
from eventlog.slots.blocking import SlotQueue
from tests.contract.colours import PATIENCE_S, AsyncColour, SyncColour
from tests.support.redis_process import eventually


class SyncSlots:
    """The blocking queues of a log as they are."""

    def __init__(self, log: SyncColour) -> None:
        self.queue: SlotQueue = log.log.slots()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.queue, name)

    @contextmanager
    def hold(self, *args: Any, **kwargs: Any) -> Iterator[Any]:
        """As an application does: `with slots.acquire(…)`."""
        with self.queue.acquire(*args, **kwargs) as slot:
            yield slot


class AsyncSlots:
    """The asyncio queues of a log, driven from outside."""

    def __init__(self, log: AsyncColour) -> None:
        self._wait_for = log.wait_for
        self.queue: AsyncSlotQueue = log.wait_for(_opened(log))

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self.queue, name)
        return lambda *args, **kwargs: self._wait_for(method(*args, **kwargs))

    def acquire(self, *args: Any, **kwargs: Any) -> "AsyncHandle":
        async def acquired() -> AsyncSlot:
            return await self.queue.acquire(*args, **kwargs)

        return AsyncHandle(self, self._wait_for(acquired()))

    def try_acquire(self, *args: Any, **kwargs: Any) -> "AsyncHandle | None":
        return self._handle(self._wait_for(self.queue.try_acquire(*args, **kwargs)))

    def attach(self, *args: Any, **kwargs: Any) -> "AsyncHandle | None":
        return self._handle(self._wait_for(self.queue.attach(*args, **kwargs)))

    def _handle(self, slot: AsyncSlot | None) -> "AsyncHandle | None":
        return None if slot is None else AsyncHandle(self, slot)

    @contextmanager
    def hold(self, *args: Any, **kwargs: Any) -> Iterator[Any]:
        """As an application does: `async with slots.acquire(…)`."""
        entering = self.queue.acquire(*args, **kwargs)
        handle = AsyncHandle(self, self._wait_for(entering.__aenter__()))
        with handle.left_by(entering.__aexit__):
            yield handle


class AsyncHandle:
    """An `AsyncSlot` whose calls block."""

    def __init__(self, slots: AsyncSlots, slot: AsyncSlot) -> None:
        self._slots = slots
        self.slot = slot

    def __getattr__(self, name: str) -> Any:
        return getattr(self.slot, name)

    def renew(self, *args: Any) -> None:
        self._slots._wait_for(self.slot.renew(*args))

    def release(self) -> bool:
        return self._slots._wait_for(self.slot.release())

    @contextmanager
    def left_by(self, leave: Callable[..., Any]) -> Iterator[None]:
        """Leave the block as `async with` would."""
        try:
            yield
        except BaseException as error:
            self._slots._wait_for(leave(type(error), error, None))
            raise
        self._slots._wait_for(leave(None, None, None))


async def _opened(log: AsyncColour) -> AsyncSlotQueue:
    return log.log.slots()


SLOT_COLOURS: dict[str, Callable[[Any], Any]] = {"sync": SyncSlots, "async": AsyncSlots}


class InLine:
    """An execution that waits in a call of `acquire`, in a thread of its own. Use it with `with`, which sees it queue.

    `slot` and `error` are what came of it. Leaving the block cancels it if it still waits, and gives its slot back.
    """

    def __init__(self, slots: Any, action: str, execution_id: str, **options: Any) -> None:
        self._slots = slots
        self._name = (action, execution_id)
        self._options = {"timeout_s": PATIENCE_S, **options}
        self._group = {"group_key": options["group_key"]} if "group_key" in options else {}
        self.slot: Any = None
        self.error: BaseException | None = None
        self._thread = threading.Thread(target=self._acquire, daemon=True)

    def _acquire(self) -> None:
        try:
            self.slot = self._slots.acquire(*self._name, **self._options)
        except BaseException as error:
            self.error = error

    @property
    def waits(self) -> bool:
        """True while nothing came of it."""
        return self._thread.is_alive()

    def join(self) -> Any:
        """The slot, once it is granted; raises what was raised."""
        self._thread.join(PATIENCE_S)
        assert not self.waits, f"{self._name} still waits"
        if self.error is not None:
            raise self.error
        return self.slot

    def __enter__(self) -> Self:
        self._thread.start()
        eventually(self._is_in_line, f"{self._name} is in the line")
        return self

    def _is_in_line(self) -> bool:
        return not self.waits or self._slots.state(*self._name, **self._group).state == "queued"

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.waits:
            self._slots.cancel(*self._name, **self._group)
        self._thread.join(PATIENCE_S)
        if self.slot is not None:
            self.slot.release()


def story(log: Any) -> list[tuple[str, str]]:
    """What the log tells of slots: transition and execution, in order."""
    return [
        (event.kind.removeprefix("slot."), event.payload["execution_id"])
        for event in log.query(kind="slot.*")
        if "execution_id" in event.payload
    ]

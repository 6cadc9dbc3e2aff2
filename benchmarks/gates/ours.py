"""Our slots, as `create_slot_queue` makes them, nothing tuned: every transition is in the workspace's log."""

from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, AbstractContextManager, asynccontextmanager, contextmanager
from typing import Any

from eventlog import AsyncSlotQueue, SlotQueue, create_async_slot_queue, create_slot_queue

from ..arena import OUR_WORKSPACE
from .base import AsyncGate, AsyncWay, Gate, Terms, Way

_NAME = "ours"


class _Gate:
    def __init__(self, slots: SlotQueue, terms: Terms) -> None:
        self._slots = slots
        self._terms = terms

    def turn(self, execution_id: str) -> AbstractContextManager[Any]:
        terms = self._terms
        return self._slots.acquire(
            terms.queue, execution_id=execution_id, max_concurrent=terms.limit, lease_s=terms.lease_s
        )

    def waiting(self) -> int:
        return self._slots.stats(self._terms.queue).queue_length


class _AsyncGate:
    def __init__(self, slots: AsyncSlotQueue, terms: Terms) -> None:
        self._slots = slots
        self._terms = terms

    def turn(self, execution_id: str) -> AbstractAsyncContextManager[Any]:
        terms = self._terms
        return self._slots.acquire(
            terms.queue, execution_id=execution_id, max_concurrent=terms.limit, lease_s=terms.lease_s
        )


@contextmanager
def _open(url: str, terms: Terms) -> Iterator[Gate]:
    with create_slot_queue("redis", url=url, workspace=OUR_WORKSPACE) as slots:
        yield _Gate(slots, terms)


@asynccontextmanager
async def _open_async(url: str, terms: Terms) -> AsyncIterator[AsyncGate]:
    async with create_async_slot_queue("redis", url=url, workspace=OUR_WORKSPACE) as slots:
        yield _AsyncGate(slots, terms)


OURS = Way(_NAME, _open)
OURS_ASYNC = AsyncWay(_NAME, _open_async)

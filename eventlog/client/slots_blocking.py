"""`RemoteSlots`: slot queues through a server, for blocking callers. `slots_awaited.py` has the asyncio twin."""

from typing import Any, Self

from ..plan.effects import Plan
from ..plan.threads import Waiters
from ..slots.blocking import SlotQueue
from ..slots.request import Acquisition
from ..slots.waiting import Grant
from .address import ServerAddress
from .asking import Effect, Exchange
from .connection import Connection
from .slot_operations import SlotCalls

_LEAVING_S = 2.0


class RemoteSlots(SlotQueue):
    """A workspace's slot queues behind the server at `url`. Safe under threads. Close it, or use it in a `with`.

    The calls are those of `SlotQueue`, with the same results; each is bounded by `deadline_s` seconds. One thing is
    different: no place has to be attended to. A waiter that dies without a word keeps its place until its time-out,
    and a slot that comes to it until the end of its lease.
    """

    operations: SlotCalls
    backend = "http"

    def __init__(self, url: str, *, workspace: str = "default", deadline_s: float = 5.0) -> None:
        self._begin(Connection(ServerAddress.of(url, workspace, deadline_s)), owns=True)

    @classmethod
    def beside(cls, connection: Connection) -> Self:
        """The same queues over connections that somebody else opened, and closes."""
        slots = cls.__new__(cls)
        slots._begin(connection, owns=False)
        return slots

    def _begin(self, connection: Connection, *, owns: bool) -> None:
        address = connection.address
        self.workspace = address.workspace
        self.operations = SlotCalls(address.origin, address.deadline_s)
        self._connection = connection
        self._owns_connection = owns
        # Waiters have connections of their own, which can be cut without hurting other calls.
        self._waits = Connection(address)
        self._forget_acquiring()
        super().__init__()

    def _forget_acquiring(self) -> None:
        self._changed = Waiters()
        self._acquiring: set[object] = set()

    def reset(self) -> None:
        """See `SlotQueue.reset`; the parent's threads that wait are not here."""
        self._forget_acquiring()
        super().reset()

    def _execute(self, effect: Effect, /) -> Any:
        waits = isinstance(effect, Exchange) and effect.waits
        return (self._waits if waits else self._connection).execute(effect)

    def _take(self, acquisition: Acquisition, plan: Plan[Grant | None], on_lost: Any) -> Any:
        me = object()
        try:
            self._acquiring.add(me)
            self._refuse_if_closed()
            return super()._take(acquisition, plan, on_lost)
        finally:
            self._acquiring.discard(me)
            self._changed.wake()

    def close(self) -> None:
        """Renew nothing any more and close all connections; waiters leave the line, within two seconds. Idempotent.

        What is still held ends with its lease.
        """
        if self._closed:
            return
        self._closed = True
        self.keeper.close()
        self._waits.close(patience_s=0)
        self._changed.wait_for(lambda: not self._acquiring, _LEAVING_S)
        if self._owns_connection:
            self._connection.close()

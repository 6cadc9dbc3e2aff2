"""Concurrency slots across processes and machines: strict FIFO, leases that renew themselves, fencing tokens."""

from typing import TYPE_CHECKING

from ..exports import exporter

if TYPE_CHECKING:
    from .awaited import AsyncDirectSlots as AsyncDirectSlots
    from .awaited import AsyncSlot as AsyncSlot
    from .awaited import AsyncSlotQueue as AsyncSlotQueue
    from .blocking import DirectSlots as DirectSlots
    from .blocking import Slot as Slot
    from .blocking import SlotQueue as SlotQueue
    from .operations import SlotState as SlotState
    from .policy import Policy as Policy
    from .policy import Rate as Rate
    from .policy import Scope as Scope
    from .protocol import Cleared as Cleared
    from .protocol import Holder as Holder
    from .protocol import QueuesPage as QueuesPage
    from .protocol import QueueStats as QueueStats
    from .protocol import Waiter as Waiter

__getattr__, __all__ = exporter(
    __name__,
    {
        "awaited": "AsyncDirectSlots AsyncSlot AsyncSlotQueue",
        "blocking": "DirectSlots Slot SlotQueue",
        "operations": "SlotState",
        "policy": "Policy Rate Scope",
        "protocol": "Cleared Holder QueuesPage QueueStats Waiter",
    },
)

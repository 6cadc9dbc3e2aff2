"""Through an HTTP server: `EventLogClient` and `RemoteSlots`, with the calls and results of `EventLog` and `SlotQueue`.

`wire`, `run_wire` and `slot_wire` know the requests and answers (routes, parameters, bodies, problem codes).
`log_operations`, `slot_operations` and `following` are plans over `asking`, which repeats what may be repeated. None of
them does I/O: `connection` does, in both colours. Nothing here imports `redis`.
"""

from typing import TYPE_CHECKING

from ..exports import exporter

if TYPE_CHECKING:
    from .awaited import AsyncEventLogClient as AsyncEventLogClient
    from .blocking import EventLogClient as EventLogClient
    from .slots_awaited import AsyncRemoteSlots as AsyncRemoteSlots
    from .slots_blocking import RemoteSlots as RemoteSlots

__getattr__, __all__ = exporter(
    __name__,
    {
        "awaited": "AsyncEventLogClient",
        "blocking": "EventLogClient",
        "slots_awaited": "AsyncRemoteSlots",
        "slots_blocking": "RemoteSlots",
    },
)

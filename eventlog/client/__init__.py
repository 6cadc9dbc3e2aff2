"""Through an HTTP server: `EventLogClient` and `RemoteSlots`, with the calls and results of `EventLog` and `SlotQueue`.

`wire`, `run_wire` and `slot_wire` know what travels (routes, parameters, bodies, problem codes). `log_calls`,
`slot_calls` and `following` are plans over `asking`, which repeats what may be repeated. None of them does I/O:
`connection` does, in both colours. Nothing here imports `redis`.
"""

from typing import TYPE_CHECKING

from ..exports import exporter

if TYPE_CHECKING:
    from .awaited import AsyncEventLogClient as AsyncEventLogClient
    from .awaited import AsyncRemoteFollower as AsyncRemoteFollower
    from .blocking import EventLogClient as EventLogClient
    from .blocking import RemoteFollower as RemoteFollower
    from .slots_awaited import AsyncRemoteSlots as AsyncRemoteSlots
    from .slots_blocking import RemoteSlots as RemoteSlots

__getattr__, __all__ = exporter(
    __name__,
    {
        "awaited": "AsyncEventLogClient AsyncRemoteFollower",
        "blocking": "EventLogClient RemoteFollower",
        "slots_awaited": "AsyncRemoteSlots",
        "slots_blocking": "RemoteSlots",
    },
)

"""Through an HTTP server: `EventLogClient` and `RemoteSlots`, with the calls and results of `EventLog` and `SlotQueue`.

`wire`, `run_wire` and `slot_wire` know what travels (routes, parameters, bodies, problem codes). `log_calls`,
`slot_calls` and `following` are plans over `asking`, which repeats what may be repeated. None of them does I/O:
`connection` does, in both colours. Nothing here imports `redis`.
"""

from .aio import AsyncEventLogClient, AsyncRemoteFollower
from .log import EventLogClient, RemoteFollower
from .slots import RemoteSlots
from .slots_aio import AsyncRemoteSlots

__all__ = [
    "AsyncEventLogClient",
    "AsyncRemoteFollower",
    "AsyncRemoteSlots",
    "EventLogClient",
    "RemoteFollower",
    "RemoteSlots",
]

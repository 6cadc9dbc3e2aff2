"""Through an HTTP server: `EventLogClient` and `RemoteSlots`, with the calls and results of `EventLog` and `SlotQueue`.

`wire`, `run_wire` and `slot_wire` know what travels (routes, parameters, bodies, problem codes). `log_calls`,
`slot_calls` and `following` are plans over `asking`, which repeats what may be repeated. None of them does I/O:
`connection` does, in both colours. Nothing here imports `redis`.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
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

# Imported when asked for: httpx takes longer to load than most commands that need no server.
_ROOMS = {
    "AsyncEventLogClient": "aio",
    "AsyncRemoteFollower": "aio",
    "AsyncRemoteSlots": "slots_aio",
    "EventLogClient": "log",
    "RemoteFollower": "log",
    "RemoteSlots": "slots",
}


def __getattr__(name: str) -> Any:
    if name not in _ROOMS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_ROOMS[name]}"), name)

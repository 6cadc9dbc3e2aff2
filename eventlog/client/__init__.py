"""Through an HTTP server: `EventLogClient` and `RemoteSlots`, with the calls and results of `EventLog` and `SlotQueue`.

`wire` and `slot_wire` know what travels (routes, parameters, bodies, problem codes) and do no I/O; `server` asks and
retries; `follower` keeps a stream open. Nothing here imports `redis`.
"""

from .follower import RemoteFollower
from .log import EventLogClient
from .slots import RemoteSlots

__all__ = ["EventLogClient", "RemoteFollower", "RemoteSlots"]

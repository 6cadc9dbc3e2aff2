"""The log through an HTTP server: `RemoteLog` has the calls, the results and the errors of `EventLog`.

`wire` knows what travels (routes, parameters, bodies, problem codes) and does no I/O; `log` asks and retries;
`follower` keeps a stream open. Nothing here imports `redis`.
"""

from .follower import RemoteFollower
from .log import RemoteLog

__all__ = ["RemoteFollower", "RemoteLog"]

"""The embedded Redis: a private, real redis-server, started on demand and shared by one user's processes.

    with EmbeddedRedis.start(Path("data")) as server:
        connect(server.url)                          # unix:///…/data/redis.sock

`binary` finds a server, `layout` says which files are where, `locks` wraps flock, `wire` asks a server
simple questions, `handle` is what a user holds, and `supervisor` is the small process that owns the
server. Nothing here imports `redis`. POSIX only: importing this package on Windows fails.

How the processes agree (every lock is a flock, so the kernel frees it however its holder dies):

    start.lock       exclusive   held by whoever checks for, and if need be starts, a supervisor
    users.lock       shared      held by every user; the supervisor waits for it exclusively, which is
                                 granted when the last user has gone: then it stops the server
    supervisor.lock  exclusive   held by the supervisor from birth to death
    server.lock      exclusive   held by redis-server itself: two never write the same files
"""

from .binary import find_redis_server
from .errors import EmbeddedRedisError
from .handle import EmbeddedRedis

__all__ = ["EmbeddedRedis", "EmbeddedRedisError", "find_redis_server"]

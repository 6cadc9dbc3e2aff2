"""The embedded Redis: a private Valkey or Redis server, started on demand and shared by one user's processes.

    with EmbeddedRedis.start(Path("data")) as server:
        connect(server.url)                          # unix:///…/data/redis.sock

`binary` finds a server, `data` knows which engine wrote a directory, `layout` names the files, `locks` wraps
flock, `wire` sends a server simple commands, `handle` is what a user holds, and `supervisor` is the small
process that owns the server. Nothing here imports `redis`. POSIX only: importing this package on Windows fails.

How the processes agree (every lock is a flock, so the kernel frees it however its holder dies):

    start.lock       exclusive   held while a process looks for a supervisor, and starts one if need be
    users.lock       shared      held by every user; the supervisor waits for it exclusively, which is
                                 granted when the last user has gone: then it stops the server
    supervisor.lock  exclusive   held by the supervisor from birth to death
    server.lock      exclusive   held by the server itself: two never write the same files
"""

from ..errors import EmbeddedRedisError
from .binary import find_redis_server
from .handle import EmbeddedRedis

__all__ = ["EmbeddedRedis", "EmbeddedRedisError", "find_redis_server"]

"""Who hands out turns: ours, the libraries that a user might take instead, and bare Redis. One a module."""

from .bare import BARE_SCRIPTS, BARE_WAKE
from .base import AsyncGate, AsyncWay, Gate, Terms, Way, sides
from .ours import OURS, OURS_ASYNC
from .python_redis_lock import PYTHON_REDIS_LOCK
from .redis_py import REDIS_PY
from .steindamm import STEINDAMM, STEINDAMM_ASYNC

LIBRARIES = (REDIS_PY, STEINDAMM, PYTHON_REDIS_LOCK)
"""Those that keep a queue or a lock for threads."""

__all__ = [
    "BARE_SCRIPTS",
    "BARE_WAKE",
    "LIBRARIES",
    "OURS",
    "OURS_ASYNC",
    "PYTHON_REDIS_LOCK",
    "REDIS_PY",
    "STEINDAMM",
    "STEINDAMM_ASYNC",
    "AsyncGate",
    "AsyncWay",
    "Gate",
    "Terms",
    "Way",
    "sides",
]

"""The event log: its operations as plans, its backends and their scripts, and its two colours."""

from typing import TYPE_CHECKING

from ..exports import exporter

if TYPE_CHECKING:
    from .awaited import AsyncDirectLog as AsyncDirectLog
    from .awaited import AsyncEventLog as AsyncEventLog
    from .awaited import AsyncFollower as AsyncFollower
    from .blocking import DirectLog as DirectLog
    from .blocking import EventLog as EventLog
    from .blocking import Follower as Follower

__getattr__, __all__ = exporter(
    __name__,
    {
        "awaited": "AsyncDirectLog AsyncEventLog AsyncFollower",
        "blocking": "DirectLog EventLog Follower",
    },
)

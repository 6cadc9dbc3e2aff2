"""Dispatchers: a producer hands events over and goes on at once; workers bring them to a sink, or drop and count them.

`backlog.py` decides which event has a place, and counts. `sinks.py` knows the sinks; `threads.py` has the threads,
`tasks.py` the tasks that deliver; `dispatchers.py` is what users call. Nothing here knows Redis or HTTP.
"""

from typing import TYPE_CHECKING

from ..exports import exporter

if TYPE_CHECKING:
    from .backlog import DispatchStats as DispatchStats
    from .dispatchers import AsyncEventDispatcher as AsyncEventDispatcher
    from .dispatchers import EventDispatcher as EventDispatcher

__getattr__, __all__ = exporter(
    __name__,
    {
        "backlog": "DispatchStats",
        "dispatchers": "AsyncEventDispatcher EventDispatcher",
    },
)

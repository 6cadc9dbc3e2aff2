"""Dispatchers: producers hand events over and go on at once; workers bring them to a sink, or drop and count them.

`inflight.py` decides who has a place and what is counted, and is pure. `delivery.py` knows the sinks; `crew.py` has the
threads, `pump.py` the tasks. `threaded.py` and `tasks.py` are what users call. Nothing here knows Redis or HTTP.
"""

from typing import TYPE_CHECKING

from ..exports import exporter

if TYPE_CHECKING:
    from .inflight import DispatchStats as DispatchStats
    from .tasks import AsyncEventDispatcher as AsyncEventDispatcher
    from .threaded import EventDispatcher as EventDispatcher

__getattr__, __all__ = exporter(
    __name__,
    {
        "inflight": "DispatchStats",
        "tasks": "AsyncEventDispatcher",
        "threaded": "EventDispatcher",
    },
)

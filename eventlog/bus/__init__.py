"""The event bus: publish and subscribe within a process, or over a shared log. `bus.py` has what users call."""

from typing import TYPE_CHECKING

from ..exports import exporter

if TYPE_CHECKING:
    from .bus import EventBus as EventBus
    from .emission import Emission as Emission
    from .fanout import BusStats as BusStats
    from .subscription import Subscription as Subscription

__getattr__, __all__ = exporter(
    __name__,
    {
        "bus": "EventBus",
        "emission": "Emission",
        "fanout": "BusStats",
        "subscription": "Subscription",
    },
)

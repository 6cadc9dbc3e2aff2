"""What things are: events, ids, filters, pages, what is kept and what is refused. Pure: no I/O, no clock."""

from typing import TYPE_CHECKING

from ..exports import exporter

if TYPE_CHECKING:
    from .events import Body as Body
    from .events import Event as Event
    from .filters import EventFilter as EventFilter
    from .guard import ContentGuard as ContentGuard
    from .ids import Cursor as Cursor
    from .ids import EventId as EventId
    from .log_values import Audit as Audit
    from .log_values import Gap as Gap
    from .log_values import LogInfo as LogInfo
    from .log_values import LogState as LogState
    from .pages import Page as Page

__getattr__, __all__ = exporter(
    __name__,
    {
        "events": "Body Event",
        "filters": "EventFilter",
        "guard": "ContentGuard",
        "ids": "Cursor EventId",
        "log_values": "Audit Gap LogInfo LogState",
        "pages": "Page",
    },
)

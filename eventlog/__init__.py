"""A shared, bounded event log for the processes of a workspace, on Redis."""

from .aio import AsyncEventLog
from .backends.base import Audit, Gap, LogState
from .config import EventLogConfig, ObservabilityConfig
from .core import LogInfo
from .embedded import EmbeddedRedis, EmbeddedRedisError
from .errors import (
    BackendFull,
    BackendUnavailable,
    Conflict,
    EventLogError,
    InvalidInput,
    LogClosed,
    NotFound,
    Overloaded,
    PayloadTooLarge,
)
from .events import Body, Event
from .factory import create_async_event_log, create_event_log
from .filters import EventFilter
from .ids import Cursor, EventId
from .log import EventLog, Follower
from .reading import Page

__version__ = "0.1.0"

__all__ = [
    "AsyncEventLog",
    "Audit",
    "BackendFull",
    "BackendUnavailable",
    "Body",
    "Conflict",
    "Cursor",
    "EmbeddedRedis",
    "EmbeddedRedisError",
    "Event",
    "EventFilter",
    "EventId",
    "EventLog",
    "EventLogConfig",
    "EventLogError",
    "Follower",
    "Gap",
    "InvalidInput",
    "LogClosed",
    "LogInfo",
    "LogState",
    "NotFound",
    "ObservabilityConfig",
    "Overloaded",
    "Page",
    "PayloadTooLarge",
    "create_async_event_log",
    "create_event_log",
]

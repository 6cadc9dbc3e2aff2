"""A shared, bounded event log for the processes of a workspace, and the slots they compete for, on Redis."""

from .aio import AsyncEventLog
from .backends.base import Audit, Gap, LogState
from .config import EventLogConfig, ObservabilityConfig
from .core import LogInfo
from .embedded import EmbeddedRedis, EmbeddedRedisError
from .errors import (
    AlreadyHeld,
    BackendFull,
    BackendUnavailable,
    Conflict,
    EventLogError,
    InvalidInput,
    LeaseLost,
    LogClosed,
    NotFound,
    Overloaded,
    PayloadTooLarge,
    QueueFull,
    QueueTimeout,
    QuotaExceeded,
    RateLimited,
    SlotCancelled,
    SlotRefused,
    VersionConflict,
)
from .events import Body, Event
from .factory import create_async_event_log, create_async_slot_queue, create_event_log, create_slot_queue
from .filters import EventFilter
from .ids import Cursor, EventId
from .log import EventLog, Follower
from .reading import Page
from .slots.aio import AsyncSlot, AsyncSlotQueue
from .slots.base import Cleared, Holder, QueueStats, Waiter
from .slots.completion import AsyncCompletionListener, CompletionListener
from .slots.enforcer import AsyncPermit, AsyncPolicyEnforcer, Permit, PolicyEnforcer
from .slots.policy import Policy, Rate, Scope
from .slots.queue import Slot, SlotQueue
from .slots.service import SlotState

__version__ = "0.1.0"

__all__ = [
    "AlreadyHeld",
    "AsyncCompletionListener",
    "AsyncEventLog",
    "AsyncPermit",
    "AsyncPolicyEnforcer",
    "AsyncSlot",
    "AsyncSlotQueue",
    "Audit",
    "BackendFull",
    "BackendUnavailable",
    "Body",
    "Cleared",
    "CompletionListener",
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
    "Holder",
    "InvalidInput",
    "LeaseLost",
    "LogClosed",
    "LogInfo",
    "LogState",
    "NotFound",
    "ObservabilityConfig",
    "Overloaded",
    "Page",
    "PayloadTooLarge",
    "Permit",
    "Policy",
    "PolicyEnforcer",
    "QueueFull",
    "QueueStats",
    "QueueTimeout",
    "QuotaExceeded",
    "Rate",
    "RateLimited",
    "Scope",
    "Slot",
    "SlotCancelled",
    "SlotQueue",
    "SlotRefused",
    "SlotState",
    "VersionConflict",
    "Waiter",
    "create_async_event_log",
    "create_async_slot_queue",
    "create_event_log",
    "create_slot_queue",
]

"""A shared, bounded event log for the processes of a workspace, and the slots they compete for, on Redis."""

import typing as _typing

from . import client as _client
from .aio import AsyncEventLog
from .backends.base import Audit, Gap, LogState
from .bus.bus import EventBus
from .bus.emission import Emission
from .bus.fanout import BusStats
from .bus.subscription import Subscription
from .config import EventLogConfig, ObservabilityConfig
from .core import LogInfo
from .dispatch.inflight import DispatchStats
from .dispatch.tasks import AsyncEventDispatcher
from .dispatch.threaded import EventDispatcher
from .embedded import EmbeddedRedis, EmbeddedRedisError
from .errors import (
    AlreadyHeld,
    BackendFull,
    BackendUnavailable,
    Conflict,
    EventLogError,
    FellBehind,
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
    RejectedContent,
    SlotCancelled,
    SlotRefused,
    VersionConflict,
)
from .events import Body, Event
from .factory import create_async_event_log, create_async_slot_queue, create_event_log, create_slot_queue
from .filters import EventFilter
from .guard import ContentGuard
from .ids import Cursor, EventId
from .log import EventLog, Follower
from .reading import Page
from .runs.fold import StageView, fold_stages
from .runs.lanes import merge_lanes, parallel_merge
from .runs.merge import AsyncMergedFollower, MergedFollower, MergeStats, afollow_merged, follow_merged
from .runs.records import ReplayPage, RunsPage, RunSummary
from .runs.stages import (
    StageHandle,
    astage,
    stage,
    stage_failed,
    stage_queued,
    stage_skipped,
    stage_started,
    stage_succeeded,
)
from .slots.aio import AsyncSlot, AsyncSlotQueue
from .slots.base import Cleared, Holder, QueueStats, Waiter
from .slots.completion import AsyncCompletionListener, CompletionListener
from .slots.enforcer import AsyncPermit, AsyncPolicyEnforcer, Permit, PolicyEnforcer
from .slots.policy import Policy, Rate, Scope
from .slots.queue import Slot, SlotQueue
from .slots.service import SlotState
from .telemetry.host import HostMetrics
from .telemetry.sample import Sample, TelemetryPage
from .telemetry.sampler import SamplerStats, TelemetrySampler, asample_run, sample_run

if _typing.TYPE_CHECKING:
    from .client import (
        AsyncEventLogClient,
        AsyncRemoteFollower,
        AsyncRemoteSlots,
        EventLogClient,
        RemoteFollower,
        RemoteSlots,
    )

__version__ = "0.1.0"

__all__ = [
    "AlreadyHeld",
    "AsyncCompletionListener",
    "AsyncEventDispatcher",
    "AsyncEventLog",
    "AsyncEventLogClient",
    "AsyncMergedFollower",
    "AsyncPermit",
    "AsyncPolicyEnforcer",
    "AsyncRemoteFollower",
    "AsyncRemoteSlots",
    "AsyncSlot",
    "AsyncSlotQueue",
    "Audit",
    "BackendFull",
    "BackendUnavailable",
    "Body",
    "BusStats",
    "Cleared",
    "CompletionListener",
    "Conflict",
    "ContentGuard",
    "Cursor",
    "DispatchStats",
    "EmbeddedRedis",
    "EmbeddedRedisError",
    "Emission",
    "Event",
    "EventBus",
    "EventDispatcher",
    "EventFilter",
    "EventId",
    "EventLog",
    "EventLogClient",
    "EventLogConfig",
    "EventLogError",
    "FellBehind",
    "Follower",
    "Gap",
    "Holder",
    "HostMetrics",
    "InvalidInput",
    "LeaseLost",
    "LogClosed",
    "LogInfo",
    "LogState",
    "MergeStats",
    "MergedFollower",
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
    "RejectedContent",
    "RemoteFollower",
    "RemoteSlots",
    "ReplayPage",
    "RunSummary",
    "RunsPage",
    "Sample",
    "SamplerStats",
    "Scope",
    "Slot",
    "SlotCancelled",
    "SlotQueue",
    "SlotRefused",
    "SlotState",
    "StageHandle",
    "StageView",
    "Subscription",
    "TelemetryPage",
    "TelemetrySampler",
    "VersionConflict",
    "Waiter",
    "afollow_merged",
    "asample_run",
    "astage",
    "create_async_event_log",
    "create_async_slot_queue",
    "create_event_log",
    "create_slot_queue",
    "fold_stages",
    "follow_merged",
    "merge_lanes",
    "parallel_merge",
    "sample_run",
    "stage",
    "stage_failed",
    "stage_queued",
    "stage_skipped",
    "stage_started",
    "stage_succeeded",
]


def __getattr__(name: str) -> object:
    # Not before it is asked for: who works straight on Redis need not wait for an HTTP library to load.
    if name in _client.__all__:
        return getattr(_client, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

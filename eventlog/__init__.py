"""A shared, bounded event log for the processes of a workspace, and the slots they compete for, on Redis."""

from typing import TYPE_CHECKING

from .exports import exporter

if TYPE_CHECKING:
    from .bus.bus import EventBus as EventBus
    from .client.awaited import AsyncEventLogClient as AsyncEventLogClient
    from .client.blocking import EventLogClient as EventLogClient
    from .config import EventLogConfig as EventLogConfig
    from .config import ObservabilityConfig as ObservabilityConfig
    from .dispatch.dispatchers import AsyncEventDispatcher as AsyncEventDispatcher
    from .dispatch.dispatchers import EventDispatcher as EventDispatcher
    from .enforcement.completion import AsyncCompletionListener as AsyncCompletionListener
    from .enforcement.completion import CompletionListener as CompletionListener
    from .enforcement.enforcer import AsyncPolicyEnforcer as AsyncPolicyEnforcer
    from .enforcement.enforcer import PolicyEnforcer as PolicyEnforcer
    from .errors import EventLogError as EventLogError
    from .factory import create_async_event_log as create_async_event_log
    from .factory import create_async_slot_queue as create_async_slot_queue
    from .factory import create_event_log as create_event_log
    from .factory import create_slot_queue as create_slot_queue
    from .log.awaited import AsyncEventLog as AsyncEventLog
    from .log.blocking import EventLog as EventLog
    from .model.events import Event as Event
    from .model.log_values import Gap as Gap
    from .runs.fold import fold_stages as fold_stages
    from .runs.lanes import parallel_merge as parallel_merge
    from .runs.merge import afollow_merged as afollow_merged
    from .runs.merge import follow_merged as follow_merged
    from .runs.stages import astage as astage
    from .runs.stages import stage as stage
    from .slots.awaited import AsyncSlotQueue as AsyncSlotQueue
    from .slots.blocking import SlotQueue as SlotQueue
    from .slots.policy import Policy as Policy
    from .slots.policy import Rate as Rate
    from .telemetry.host import HostMetrics as HostMetrics
    from .telemetry.sampler import TelemetrySampler as TelemetrySampler
    from .telemetry.sampler import asample_run as asample_run
    from .telemetry.sampler import sample_run as sample_run

__version__ = "0.1.0"
__getattr__, __all__ = exporter(
    __name__,
    {
        "bus.bus": "EventBus",
        "client.awaited": "AsyncEventLogClient",
        "client.blocking": "EventLogClient",
        "config": "EventLogConfig ObservabilityConfig",
        "dispatch.dispatchers": "AsyncEventDispatcher EventDispatcher",
        "enforcement.completion": "AsyncCompletionListener CompletionListener",
        "enforcement.enforcer": "AsyncPolicyEnforcer PolicyEnforcer",
        "errors": "EventLogError",
        "factory": "create_async_event_log create_async_slot_queue create_event_log create_slot_queue",
        "log.awaited": "AsyncEventLog",
        "log.blocking": "EventLog",
        "model.events": "Event",
        "model.log_values": "Gap",
        "runs.fold": "fold_stages",
        "runs.lanes": "parallel_merge",
        "runs.merge": "afollow_merged follow_merged",
        "runs.stages": "astage stage",
        "slots.awaited": "AsyncSlotQueue",
        "slots.blocking": "SlotQueue",
        "slots.policy": "Policy Rate",
        "telemetry.host": "HostMetrics",
        "telemetry.sampler": "TelemetrySampler asample_run sample_run",
    },
    {
        **dict.fromkeys(("client.awaited", "client.blocking"), "httpx"),
        **dict.fromkeys(("telemetry.host", "telemetry.sampler"), "psutil"),
    },
)

"""The telemetry that goes with a log: on the same backend, and freed with its runs."""

from ..backends.base import Backend
from ..backends.memory import MemoryBackend
from ..backends.redis import RedisBackend
from .base import TelemetryBackend
from .disabled import DisabledTelemetry
from .memory import MemoryTelemetry
from .redis import RedisTelemetry
from .terms import RingTerms


def telemetry_beside(log: Backend, terms: RingTerms) -> TelemetryBackend:
    """The rings of the runs of `log`."""
    if isinstance(log, RedisBackend):
        return RedisTelemetry(log.keys, log.retention, log.deadline_s, terms)
    if isinstance(log, MemoryBackend):
        return MemoryTelemetry(log, terms)
    return DisabledTelemetry()

"""Telemetry in this process' memory: the rings of a log in memory, under its lock and its clock."""

from ..backends.memory import MemoryBackend
from ..plan import at_once
from .base import Added, Look, Push, Refusal, Stretch
from .terms import RingTerms


class MemoryTelemetry:
    """See `TelemetryBackend` for what is guaranteed."""

    name = "memory"

    def __init__(self, log: MemoryBackend, terms: RingTerms) -> None:
        self.capacity = terms.capacity
        self._log = log
        self._terms = terms

    @at_once
    def push(self, push: Push) -> Added | Refusal:
        """See `TelemetryBackend.push`."""
        retention = self._log.retention
        return self._log.with_rings(
            push.run_id, lambda rings, run, now: rings.push(push, run, self._terms, retention, now)
        )

    @at_once
    def look(self, look: Look) -> Stretch | None:
        """See `TelemetryBackend.look`."""
        return self._log.with_rings(look.run_id, lambda rings, run, now: rings.look(look, run, now))

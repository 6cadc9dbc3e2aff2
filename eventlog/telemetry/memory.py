"""Telemetry in this process' memory: the rings of a log in memory, under its lock and its clock."""

from collections.abc import Callable
from typing import Protocol, TypeVar

from ..model.retention import Retention
from ..plan.effects import at_once
from .protocol import Added, Look, Push, Refusal, Stretch
from .ring import Rings, RunFacts
from .terms import RingTerms

T = TypeVar("T")


class RingKeeper(Protocol):
    """A log in memory, as far as its rings are concerned."""

    @property
    def retention(self) -> Retention: ...

    def with_rings(self, run_id: str, act: Callable[[Rings, RunFacts | None, int], T], /) -> T: ...


class MemoryTelemetry:
    """See `TelemetryBackend` for what is guaranteed."""

    name = "memory"

    def __init__(self, log: RingKeeper, terms: RingTerms) -> None:
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

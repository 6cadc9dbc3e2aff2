"""The rings of a log in memory: the reference that the scripts are held against. Pure; `now` is milliseconds."""

from collections import OrderedDict, deque
from dataclasses import dataclass, field
from itertools import islice
from typing import NamedTuple

from ..retention import Retention
from .base import Look, Push, Refusal, Stretch
from .sample import Kept, placed
from .terms import RingTerms

_SWEEP_MS = 1000


@dataclass(slots=True)
class RunFacts:
    """What a ring has to know of a run with a visible event: when it ended, and how many samples it ever had."""

    ended_ms: int | None = None
    samples: int = 0


@dataclass(slots=True)
class Ring:
    """The samples of one run. `given` is the run's own capacity; `until_ms` is set once the run has ended."""

    capacity: int
    grace_ms: int
    given: int | None = None
    seq: int = 0
    until_ms: int | None = None
    expires_ms: int = 0
    samples: deque[Kept] = field(default_factory=deque)

    def end(self, ms: int) -> None:
        """The run has ended; only the first end counts."""
        if self.until_ms is None:
            self.until_ms = ms + self.grace_ms
            self.expires_ms = min(self.expires_ms, self.until_ms)


class _Pushed(NamedTuple):
    until_ms: int
    first: int
    n: int
    now_ms: int


class Rings:
    """All rings of a log, and the pushes of late by their keys."""

    def __init__(self) -> None:
        self._rings: dict[str, Ring] = {}
        self._sweep_ms = 0
        self._pushes: OrderedDict[tuple[str, str], _Pushed] = OrderedDict()

    def end(self, run_id: str, ms: int) -> None:
        """A run has come to its first terminal event."""
        ring = self._rings.get(run_id)
        if ring is not None:
            ring.end(ms)

    def clear(self) -> None:
        """The log was cleared."""
        self._rings.clear()

    def push(
        self, push: Push, run: RunFacts | None, terms: RingTerms, retention: Retention, now: int
    ) -> list[Kept] | Refusal:
        """See `TelemetryBackend.push`; `run` is None if no event of the run is visible."""
        earlier = self._earlier(push, now)
        if earlier is not None:
            return placed(push.samples[: earlier.n], earlier.first, earlier.now_ms)
        ring = self._live(push.run_id, now)
        if ring is None and run is None:
            return "unknown"
        capacity = push.capacity
        if capacity is None:
            capacity = terms.capacity if ring is None or ring.given is None else ring.given
        if capacity == 0:
            if push.capacity == 0 and ring is not None:
                del self._rings[push.run_id]
                self._remember(push, _Pushed(now + retention.window_ms, 1, 0, now))
            return "disabled"
        if ring is None:
            ring = Ring(capacity, terms.grace_ms, seq=0 if run is None else run.samples)
            if run is not None and run.ended_ms is not None:
                ring.until_ms = run.ended_ms + terms.grace_ms
                if ring.until_ms <= now:
                    return "over"
        if not push.samples and push.capacity is None:
            return []
        self._rings[push.run_id] = ring
        ring.capacity, ring.grace_ms = capacity, terms.grace_ms
        ring.given = ring.given if push.capacity is None else push.capacity
        self._remember(push, _Pushed(now + retention.window_ms, ring.seq + 1, len(push.samples), now))
        kept = self._add(ring, push, now)
        expires_ms = now + retention.ttl_ms
        ring.expires_ms = expires_ms if ring.until_ms is None else min(expires_ms, ring.until_ms)
        if run is not None:
            run.samples = ring.seq
        return kept

    @staticmethod
    def _add(ring: Ring, push: Push, now: int) -> list[Kept]:
        kept = placed(push.samples, ring.seq + 1, now)
        ring.seq += len(kept)
        ring.samples.extend(kept)
        while len(ring.samples) > ring.capacity:
            ring.samples.popleft()
        return kept

    def _earlier(self, push: Push, now: int) -> _Pushed | None:
        while self._pushes and next(iter(self._pushes.values())).until_ms <= now:
            self._pushes.popitem(last=False)
        return None if push.key is None else self._pushes.get((push.run_id, push.key))

    def _remember(self, push: Push, pushed: _Pushed) -> None:
        # No reply is lost on the way to memory, so only a caller repeats.
        if push.key is not None:
            self._pushes[push.run_id, push.key] = pushed

    def look(self, look: Look, run: RunFacts | None, now: int) -> Stretch | None:
        """See `TelemetryBackend.look`; `run` is None if no event of the run is visible."""
        ring = self._live(look.run_id, now)
        if ring is None:
            if run is None:
                return None
            missed = max(run.samples - look.from_seq, 0)
            return Stretch([], look.from_seq + missed, missed, None, True)
        first = ring.samples[0].seq if ring.samples else ring.seq + 1
        missed = max(first - 1 - look.from_seq, 0)
        next_seq = look.from_seq + missed
        found: list[Kept] = []
        for kept in islice(ring.samples, max(next_seq + 1 - first, 0), None):
            if len(found) == look.most:
                return Stretch(found, next_seq, missed, ring.capacity, False)
            next_seq = kept.seq
            if look.stage_name is None or kept.stage_name == look.stage_name:
                found.append(kept)
        return Stretch(found, next_seq, missed, ring.capacity, True)

    def _live(self, run_id: str, now: int) -> Ring | None:
        """The ring of a run, unless it has expired. Now and then all that have are let go."""
        if now >= self._sweep_ms:
            self._rings = {name: ring for name, ring in self._rings.items() if ring.expires_ms > now}
            self._sweep_ms = now + _SWEEP_MS
        ring = self._rings.get(run_id)
        return None if ring is None or ring.expires_ms <= now else ring

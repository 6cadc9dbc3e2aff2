"""The rings of a log in memory: the reference that the scripts are held against. Pure; `now` is milliseconds."""

from collections import OrderedDict, deque
from dataclasses import dataclass, field
from itertools import islice
from typing import NamedTuple

from ..model.retention import Retention
from .protocol import Added, Look, Push, Refusal, Stretch
from .sample import Kept, let_go, placed
from .terms import RingTerms

_SWEEP_MS = 1000


@dataclass(slots=True)
class RunFacts:
    """What a ring has to know of a run with a visible event: whether it has ended, and when its newest event was; how
    many samples it ever had, and the capacity it was given.
    """

    ended: bool = False
    last_ms: int = 0
    samples: int = 0
    given: int | None = None

    def until_ms(self, grace_ms: int) -> int | None:
        """When its samples are freed, whatever their age: its end is no later than its newest event."""
        return self.last_ms + grace_ms if self.ended else None


@dataclass(slots=True)
class Ring:
    """The samples of one run. `given` is the run's own capacity; `until_ms` is set once the run has ended,
    `aged_ms` is when the age limit has passed since the last sample.
    """

    capacity: int
    grace_ms: int
    given: int | None = None
    seq: int = 0
    until_ms: int | None = None
    aged_ms: int = 0
    samples: deque[Kept] = field(default_factory=deque)

    @property
    def expires_ms(self) -> int:
        """When it is freed."""
        return self.aged_ms if self.until_ms is None else min(self.aged_ms, self.until_ms)


class _Pushed(NamedTuple):
    until_ms: int
    ring: Ring | None
    first: int
    n: int
    now_ms: int

    def found_in(self, ring: Ring | None) -> list[Kept]:
        """What it stored, as far as it is there; in another ring of the run the same seqs may be other samples."""
        end = self.first + self.n
        left = ring.samples if ring is not None and ring is self.ring else ()
        return let_go(self.first, self.n, self.now_ms, (one for one in left if self.first <= one.seq < end))


class Rings:
    """All rings of a log, and the pushes of late by their keys."""

    def __init__(self) -> None:
        self._rings: dict[str, Ring] = {}
        self._sweep_ms = 0
        self._pushes: OrderedDict[tuple[str, str], _Pushed] = OrderedDict()

    def outlive(self, run_id: str, ms: int, now: int) -> None:
        """A run has ended, or something came after its end: from then on the grace counts."""
        ring = self._live(run_id, now)
        if ring is not None:
            ring.until_ms = ms + ring.grace_ms

    def clear(self) -> None:
        """The log was cleared."""
        self._rings.clear()

    def push(
        self, push: Push, run: RunFacts | None, terms: RingTerms, retention: Retention, now: int
    ) -> Added | Refusal:
        """See `TelemetryBackend.push`; `run` is None if no event of the run is visible."""
        ring = self._live(push.run_id, now)
        earlier = self._earlier(push, now)
        if earlier is not None:
            return Added(earlier.found_in(ring), duplicate=True)
        if ring is None and run is None:
            return "unknown"
        given = _given(push, ring, run)
        capacity = terms.capacity if given is None else given
        if capacity == 0:
            if push.capacity == 0:
                self._rings.pop(push.run_id, None)
                self._remember(push, _Pushed(now + retention.window_ms, None, 1, 0, now))
                if run is not None:
                    run.given = 0
            return "disabled"
        until_ms = run.until_ms(terms.grace_ms) if run is not None else ring.until_ms if ring is not None else None
        if until_ms is not None and until_ms <= now:
            return "over"
        if not push.samples and push.capacity is None:
            return Added([])
        if ring is None:
            ring = self._rings[push.run_id] = Ring(capacity, terms.grace_ms, seq=0 if run is None else run.samples)
        ring.capacity, ring.given, ring.grace_ms = capacity, given, terms.grace_ms
        ring.until_ms, ring.aged_ms = until_ms, now + retention.ttl_ms
        kept = self._add(ring, push, now, now + retention.window_ms)
        if run is not None:
            run.samples, run.given = ring.seq, given
        return Added(kept)

    def _add(self, ring: Ring, push: Push, now: int, known_until_ms: int) -> list[Kept]:
        while True:
            first = ring.seq + 1
            kept = placed(push.samples, first, now)
            pushed = _Pushed(known_until_ms, ring, first, len(kept), now)
            keyed = {} if push.key is None else {(push.run_id, push.key): pushed}
            last = ring.seq + len(kept)
            if ring.seq + 1 == first:
                # No call up to the end, after which an interrupt might leave one without the other. A signal handler
                # may have pushed before.
                ring.samples += kept
                ring.seq = last
                self._pushes |= keyed
                break
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
            return Stretch([], look.from_seq + missed, missed, run.given, True)
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


def _given(push: Push, ring: Ring | None, run: RunFacts | None) -> int | None:
    """The run's own capacity: what it is given now, or was given before."""
    if push.capacity is not None:
        return push.capacity
    if ring is not None and ring.given is not None:
        return ring.given
    return None if run is None else run.given

"""A slot queue in memory: expiry, promotion, and an event for each transition.

The same, function by function and in the same order, as `lua/parts/slot_queue.lua`, whose comments give the
reasons. `memory_acts.py` has what can be done on a queue, as `slot_calls.lua` has.
"""

from collections import OrderedDict, defaultdict, deque
from collections.abc import Mapping
from copy import copy
from dataclasses import dataclass, field
from typing import Any

from ..model.events import Body
from .acts import LimitedBy, Queued, Ring
from .policy import Policy, Rate, Scope, StoredPolicy, in_force, merged, whole_ms

UNREAD_MS, CLAIM_MS = 500, 2000
SILENCE_MS = 3000
BATCH = 64
NEAR = 16
IDLE_MS, UPKEEP_MS, BELL_MS = 604_800_000, 3_600_000, 60_000
LEASE_TOMB_MS = 600_000
NEVER = (1 << 53) - 1


@dataclass(slots=True)
class Place:
    """An execution's place in the line, or its slot.

    `until_ms`: when the place or the lease expires; of a grant that may be unread (`unread`), when its bell is checked.
    `claim_end_ms`: 0, or when the slot of a holder expires that has not confirmed its grant.
    """

    execution: str
    nonce: str
    ticket: int
    deadline_ms: int
    lease_ms: int
    bell: str
    attended: bool
    owner: str
    until_ms: int
    fence: int = 0
    granted_ms: int = 0
    claim_end_ms: int = 0
    unread: bool = False

    @property
    def holds(self) -> bool:
        """False of a waiter."""
        return self.fence > 0

    @property
    def ring(self) -> Ring:
        """What its grant left at its bell."""
        return Ring(self.nonce, self.fence, self.claim_end_ms - self.granted_ms)


class Bells:
    """What was rung and not heard yet. Rings that nobody hears are forgotten."""

    def __init__(self) -> None:
        self._rung: dict[str, tuple[int, tuple[Ring, ...]]] = {}

    def copied(self) -> "Bells":
        """As they are, to be changed apart."""
        twin = Bells()
        twin._rung = self._rung.copy()
        return twin

    def ring(self, bell: str, ring: Ring, now: int) -> None:
        """Leave a ring."""
        self._drop_old(now)
        _, rings = self._rung.pop(bell, (0, ()))
        self._rung[bell] = (now + BELL_MS, (*rings, ring))

    def _drop_old(self, now: int) -> None:
        while self._rung:
            bell, (until_ms, _) = next(iter(self._rung.items()))
            if until_ms > now:
                return
            del self._rung[bell]

    def unring(self, bell: str, ring: Ring) -> None:
        """Take a ring back."""
        if self.holds(bell, ring):
            until_ms, rings = self._rung[bell]
            self._rung[bell] = (until_ms, tuple(other for other in rings if other != ring))

    def holds(self, bell: str, ring: Ring) -> bool:
        """True while nobody has heard the ring."""
        return bell in self._rung and ring in self._rung[bell][1]

    def have(self, bell: str) -> bool:
        """True if something was rung there."""
        return bell in self._rung

    def take(self, bell: str, most: int, now: int) -> list[Ring]:
        """Hear what was rung, the oldest first."""
        self._drop_old(now)
        until_ms, rings = self._rung.pop(bell, (0, ()))
        if rings[most:]:
            self._rung = {bell: (until_ms, rings[most:]), **self._rung}
        return list(rings[:most])


class Tombs:
    """What is over: acquisitions, so that a copy of an earlier call that comes late does nothing, and ended leases."""

    def __init__(self) -> None:
        self._until: OrderedDict[str, int] = OrderedDict()

    def bury(self, nonce: str, tomb_ms: int, now: int) -> None:
        """Remember what is over."""
        while self._until and next(iter(self._until.values())) <= now:
            self._until.popitem(last=False)
        if tomb_ms:
            self._until.pop(nonce, None)
            self._until[nonce] = now + tomb_ms

    def until(self, name: str) -> int:
        """Until when it is remembered; 0 if it is not."""
        return self._until.get(name, 0)


@dataclass(slots=True)
class Call:
    """One step: its time in ms and µs, its caller's inbox, the events for the log, the rings of that inbox, and the
    other bells that it rang.
    """

    now: int
    micros: int
    inbox: str
    bells: Bells
    tombs: Tombs
    policies: Mapping[Scope, StoredPolicy]
    events: list[Body] = field(default_factory=list)
    rung: list[Ring] = field(default_factory=list)
    rang: list[str] = field(default_factory=list)

    def bury(self, name: str, tomb_ms: int) -> None:
        """Remember what is over."""
        self.tombs.bury(name, tomb_ms, self.now)

    def is_over(self, nonce: str) -> bool:
        """True of an acquisition that is known to be over."""
        return self.tombs.until(nonce) > self.now

    def expired_ms(self, place: str) -> int:
        """When a lease ran out there, if that was within the last ten minutes; else 0."""
        until = self.tombs.until(place)
        return until - LEASE_TOMB_MS if until > self.now else 0

    def ring(self, bell: str, ring: Ring) -> None:
        """Leave a ring; the caller's own inbox gets it with the answer."""
        if bell == self.inbox:
            self.rung.append(ring)
        else:
            self.bells.ring(bell, ring, self.now)
            self.rang.append(bell)


class MemoryQueue:
    """One queue. `open` it before anything else is done in a call, and `close` it at the end."""

    call: Call
    limits: Policy
    terms: tuple[int, bool]

    def __init__(self, name: str) -> None:
        self.name = name
        self.action, _, self.group = name.partition("/")
        self.held: dict[str, Place] = {}
        self.waits: dict[str, Place] = {}
        self.line: list[str] = []
        self.counts: defaultdict[str, int] = defaultdict(int)
        self.fence = self.ticket = self.hold = self.reset = self.upkeep = 0
        self.next = NEVER
        self.pack = "-"
        self.caller_limit: int | None = None
        self.born: int | None = None
        self.rate: deque[int] = deque()
        self.rate_until = 0
        self.quota = (0, 0)
        self.settled = self.changed = False

    def copied(self) -> "MemoryQueue":
        """As it is, to be changed apart. Places are copied as they are changed: see `own`."""
        twin = copy(self)
        twin.held, twin.waits, twin.line = self.held.copy(), self.waits.copy(), self.line.copy()
        twin.counts = self.counts.copy()
        return twin

    def own(self, place: Place) -> Place:
        """The place as one that may be changed: what the queue was copied from keeps its own."""
        there = self.held if place.holds else self.waits
        mine = there[place.execution] = copy(place)
        return mine

    def open(self, call: Call) -> None:
        """Begin a call."""
        self.call = call
        self.changed = False
        self.limit(self.pack, self.caller_limit)

    @property
    def known(self) -> bool:
        """True once something was done to it: looking for something in a queue does not make one."""
        return self.born is not None

    @property
    def born_us(self) -> int:
        """When the queue began, in µs; what is older than that is from before a loss of data."""
        return self.call.micros if self.born is None else self.born

    def place(self, execution: str) -> Place | None:
        """Where an execution stands."""
        return self.held.get(execution) or self.waits.get(execution)

    def position(self, execution: str) -> int:
        """Of a waiter; 1 is next."""
        return self.line.index(execution) + 1

    def emit(self, transition: str, execution: str, **more: Any) -> None:
        """An event for the log, unless the policy wants none."""
        if self.limits.log_transitions is False:
            return
        given = {name: value for name, value in more.items() if value is not None}
        payload = {**self.head(), "execution_id": execution, **given}
        self.call.events.append(Body.of(f"slot.{transition}", payload, visibility="internal"))

    def head(self) -> dict[str, str]:
        """How every event about this queue begins."""
        return {"action": self.action, **({"group": self.group} if self.group else {})}

    def limit(self, pack: str, caller_limit: int | None) -> None:
        """Take up what limits the queue now: its own limit, the policies of action, pack and all, then the caller's."""
        self.pack, self.caller_limit = pack, caller_limit
        said = in_force(self.call.policies, self.name, pack)
        self.limits = merged(Policy(max_concurrent=caller_limit), said)
        # How many may hold a slot, 0 for any number, and whether a policy says so: part of many an answer.
        self.terms = self.limits.max_concurrent or 0, said.max_concurrent is not None
        self.settled = False

    def due(self, at: int) -> None:
        """Something expires then."""
        if at < self.next:
            self.next = at
            self.changed = True

    def look_again(self, bell: str, nonce: str) -> None:
        """Let the waiter at a bell look again: its place is no longer in the line."""
        if bell != "-":
            self.call.ring(bell, Ring(nonce, 0, 0))

    def limited(self) -> tuple[int | None, LimitedBy]:
        """When a rate or a quota next allows a grant, and which of them is in the way; None where neither is."""
        now, rate, quota = self.call.now, self.limits.rate_limit, self.limits.quota
        at: int | None = None
        why: LimitedBy = ""
        if rate is not None and now < self.rate_until and len(self.rate) >= rate.count:
            ends = self.rate[rate.count - 1] + whole_ms(rate.seconds)
            if ends > now:
                at, why = ends, "rate"
        if quota is not None:
            window = now // whole_ms(quota.seconds)
            in_window, used = self.quota
            if in_window == window and used >= quota.count:
                ends = (window + 1) * whole_ms(quota.seconds)
                if at is None or ends > at:
                    at, why = ends, "quota"
        return at, why

    def consume(self) -> None:
        """A grant counts against the rate and the quota."""
        now, rate, quota = self.call.now, self.limits.rate_limit, self.limits.quota
        if rate is not None:
            earlier = self.rate if now < self.rate_until else ()
            self.rate = deque([now, *earlier][: rate.count])
            self.rate_until = now + whole_ms(rate.seconds)
        if quota is not None:
            window = now // whole_ms(quota.seconds)
            in_window, used = self.quota
            self.quota = (window, used + 1 if in_window == window else 1)

    def room(self) -> tuple[bool, int | None, LimitedBy]:
        """True if a slot can be given now; else until when at least it cannot (None: until one comes free), and why."""
        most = self.limits.max_concurrent
        if most is not None and len(self.held) >= most:
            return False, None, "busy"
        if self.hold > self.call.now:
            return False, self.hold, "busy"
        at, why = self.limited()
        return at is None, at, why

    def grant(self, place: Place, promoted: bool = False, is_taken_over: bool = False) -> None:
        """Give a slot. What is promoted from the line has its bell rung."""
        now = self.call.now
        self.fence = max(self.fence + 1, self.call.micros)
        self.changed = True
        valid_ms = place.lease_ms
        place.fence, place.granted_ms, place.until_ms = self.fence, now, now + place.lease_ms
        if promoted and place.attended:
            valid_ms = min(CLAIM_MS, place.lease_ms)
            place.unread, place.claim_end_ms, place.until_ms = True, now + valid_ms, now + min(UNREAD_MS, valid_ms)
            if place.bell == self.call.inbox:
                place.unread, place.until_ms = False, now + valid_ms
        self.held[place.execution] = place
        self.due(place.until_ms)
        if not is_taken_over:
            self.consume()
        if promoted and place.bell != "-":
            self.call.ring(place.bell, Ring(place.nonce, place.fence, valid_ms))
        self.emit(
            "granted",
            place.execution,
            fencing_token=place.fence,
            waited_ms=self.waited_ms(place) if promoted else 0,
            owner=None if place.owner == "-" else place.owner,
        )

    def confirm(self, place: Place, lease_ms: int | None = None) -> Place:
        """The holder confirms its grant: from now on it has its whole lease."""
        place = self.own(place)
        if place.unread:
            self.call.bells.unring(place.bell, place.ring)
        if lease_ms is not None:
            place.lease_ms = lease_ms
        place.unread, place.claim_end_ms, place.until_ms = False, 0, self.call.now + place.lease_ms
        self.due(place.until_ms)
        return place

    def enline(self, place: Place) -> None:
        """Take a place in the line: the last, but for one that had its ticket before others that are there."""
        at = len(self.line)
        while at > 0 and self.waits[self.line[at - 1]].ticket >= place.ticket:
            at -= 1
        self.line.insert(at, place.execution)
        self.waits[place.execution] = place
        if place.ticket > self.ticket:
            self.ticket, self.changed = place.ticket, True

    def waited_ms(self, place: Place) -> int:
        """Since its ticket was drawn."""
        return max(self.call.now - place.ticket // 1000, 0)

    def leave_line(self, place: Place, how: str, reason: str | None = None) -> None:
        """A waiter goes without a slot."""
        self.line.remove(place.execution)
        del self.waits[place.execution]
        self.counts[how] += 1
        self.emit(how, place.execution, waited_ms=self.waited_ms(place), reason=reason)

    def leave_slot(self, place: Place, how: str, reason: str | None = None) -> None:
        """A holder goes."""
        del self.held[place.execution]
        self.settled = False
        if place.unread:
            self.call.bells.unring(place.bell, place.ring)
        if how == "expired":
            self.call.bury(f"{self.name}/{place.execution}", LEASE_TOMB_MS)
        self.counts[how] += 1
        held_ms = self.call.now - place.granted_ms
        self.emit(how, place.execution, fencing_token=place.fence, held_ms=held_ms, reason=reason)

    def expire_waiter(self, place: Place) -> None:
        """It waited for too long, or did not touch its place."""
        if place.deadline_ms <= self.call.now:
            self.leave_line(place, "timed_out")
        else:
            self.leave_line(place, "expired", "silent")

    def expire_holder(self, place: Place) -> None:
        """Its lease is over, or its grant was not confirmed."""
        reason = "unconfirmed" if place.claim_end_ms else "lease"
        if place.unread and place.claim_end_ms > self.call.now:
            # The reader of this inbox is the caller, so it lives and will read the ring.
            if place.bell == self.call.inbox or not self.call.bells.holds(place.bell, place.ring):
                place = self.own(place)
                place.unread, place.until_ms = False, place.claim_end_ms
                return
            reason = "unread"
        self.leave_slot(place, "expired", reason)

    def reap(self) -> None:
        """Remove what has expired."""
        if self.call.now < self.next:
            return
        for place in self._expired(self.held):
            self.expire_holder(place)
        for place in self._expired(self.waits):
            self.expire_waiter(place)
        self.next = min((place.until_ms for place in (*self.held.values(), *self.waits.values())), default=NEVER)
        self.changed = True

    def _expired(self, places: Mapping[str, Place]) -> list[Place]:
        expired = [place for place in places.values() if place.until_ms <= self.call.now]
        return sorted(expired, key=lambda place: (place.until_ms, place.execution))[:BATCH]

    def settle(self) -> None:
        """Remove what has expired, then hand out what is free, first come, first served."""
        if self.settled:
            return
        self.reap()
        self.settled = True
        dead = 0
        while self.line and dead < BATCH and self.room()[0]:
            place = self.waits[self.line[0]]
            if place.until_ms > self.call.now:
                del self.line[0], self.waits[place.execution]
                self.grant(copy(place), promoted=True)
            else:
                dead += 1
                self.expire_waiter(place)

    def look_in_ms(self, position: int) -> int:
        """How long until it pays for a waiter at `position` to look again; 0: nothing is known."""
        if position > NEAR:
            return 0
        _, again_at, _ = self.room()
        at = self.next if again_at is None else min(self.next, again_at)
        return 0 if at == NEVER else max(at - self.call.now, 1)

    def queued(self, place: Place, position: int) -> Queued:
        """How a waiter stands."""
        now = self.call.now
        _, until_ms, why = self.room()
        return Queued(
            position,
            self.look_in_ms(position),
            max(place.deadline_ms - now, 0),
            place.ticket,
            place.nonce,
            until_ms - now if until_ms else 0,
            why,
            *self.terms,
        )

    def close(self) -> None:
        """End a call."""
        self.settle()
        if not self.known and not self.changed:
            return
        if self.born is None:
            self.born = self.call.micros
        if self.call.now >= self.upkeep:
            self.upkeep = self.call.now + UPKEEP_MS

    def is_idle(self, now: int) -> bool:
        """True once nothing was done to it for so long that it is forgotten."""
        return now >= self.upkeep - UPKEEP_MS + IDLE_MS

    def clear(self) -> tuple[int, int]:
        """Take everybody out, as `slot_clear.lua` does; returns how many held a slot and how many waited."""
        holders, waiters = len(self.held), len(self.waits)
        if holders + waiters:
            for place in (*self.held.values(), *self.waits.values()):
                self._take_back(place)
            self.held, self.waits, self.line = {}, {}, []
            self.reset, self.hold = self.call.micros, 0
            payload = {**self.head(), "holders": holders, "waiters": waiters}
            self.call.events.append(Body.of("slot.cleared", payload, visibility="internal"))
        return holders, waiters

    def _take_back(self, place: Place) -> None:
        """The waiter at a bell looks again; a grant that lies there unread is taken back."""
        if place.unread:
            self.call.bells.unring(place.bell, place.ring)
        if place.unread or not place.holds:
            self.look_again(place.bell, place.nonce)


def quantised(policy: Policy) -> Policy:
    """A policy as it is kept: times in whole milliseconds."""

    def rate(given: Rate | None) -> Rate | None:
        return given and Rate(given.count, whole_ms(given.seconds) / 1000)

    timeout_s = policy.queue_timeout_seconds
    return Policy(
        policy.max_concurrent,
        rate(policy.rate_limit),
        rate(policy.quota),
        policy.max_queue_length,
        None if timeout_s is None else whole_ms(timeout_s) / 1000,
        policy.log_transitions,
    )

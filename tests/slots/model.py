"""The slot queues of a workspace as plain data: what the scripts must do, written to be read. Pure; time is given.

It follows the words of the scripts' headers, looks at everything every time, and knows nothing of keys or scores.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from eventlog.slots.acts import (
    ANY,
    Acquire,
    Act,
    Answer,
    Beat,
    Beaten,
    Busy,
    Cancel,
    Cancelled,
    Full,
    Gone,
    Granted,
    Held,
    Limited,
    Poke,
    Queued,
    Release,
    Released,
    Renew,
    Ring,
    Touch,
    Waiting,
    fence_key,
    others_key,
)
from eventlog.slots.policy import Policy, Scope

NOWHERE = "-"
BURIED_MS = 600_000
LONGEST_HOLD_MS = 60_000
BELL_MS = 60_000
# How long a grant lies unread, or unconfirmed; how long attended waiters may be silent; for how many it pays to look.
UNREAD_MS = 500
CLAIM_MS = 2000
SILENCE_MS = 3000
NEAR = 16


@dataclass
class Entry:
    """An acquisition that waits (fence 0) or holds. `until`: when it is over, or its bell is looked at."""

    nonce: str
    ticket: int
    lease: int
    bell: str
    attended: bool
    owner: str
    until: int
    deadline: int = 0
    fence: int = 0
    granted: int = 0
    claim_end: int = 0
    unread: bool = False

    @property
    def ring(self) -> Ring:
        return Ring(self.nonce, self.fence, self.claim_end - self.granted)


@dataclass
class Limits:
    """What bears on a queue."""

    most: int | None
    rate: tuple[int, int] | None = None
    quota: tuple[int, int] | None = None
    length: int | None = None
    timeout: int | None = None
    quiet: bool = False


@dataclass
class World:
    """Queues, policies, bells, tombs; what was told since somebody looked."""

    queues: dict[str, "Queue"] = field(default_factory=dict)
    policies: dict[Scope, Policy] = field(default_factory=dict)
    bells: dict[str, list[Ring]] = field(default_factory=lambda: defaultdict(list))
    bells_until: dict[str, int] = field(default_factory=dict)
    tombs: dict[str, int] = field(default_factory=dict)
    told: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    now: int = 0
    micros: int = 0
    inbox: str = ""
    rung: list[Ring] = field(default_factory=list)

    def set_clock(self, micros: int) -> None:
        """It is that time, in microseconds: bells and tombs that have expired are gone."""
        self.now, self.micros = micros // 1000, micros
        self.tombs = {nonce: until for nonce, until in self.tombs.items() if until > self.now}
        for bell in [bell for bell, until in self.bells_until.items() if until <= self.now]:
            self.bells.pop(bell, None)

    def perform(self, acts: Sequence[Act], inbox: str = "") -> list[Answer]:
        """Carry out acts at one instant. What is rung for the caller's own inbox is in `rung`."""
        self.inbox, self.rung = inbox, []
        answers: list[Answer] = []
        seen: list[Queue] = []
        for act in acts:
            queue = self.queues.setdefault(act.queue, Queue(act.queue, self))
            if queue not in seen:
                seen.append(queue)
            answers.append(queue.carry_out(act))
        for queue in sorted(seen, key=lambda one: [act.queue for act in acts].index(one.name)):
            queue.settle()
            if queue.born is None and not queue.changed:
                del self.queues[queue.name]
            elif queue.born is None:
                queue.born = self.micros
        return answers

    def clear(self, names: Sequence[str]) -> tuple[int, int]:
        """Take everybody out, the expired too."""
        self.inbox = ""
        holders = waiters = 0
        for queue in (self.queues[name] for name in names if name in self.queues):
            held, line = queue.holders(), queue.line
            if not held and not line:
                continue
            for entry in queue.book.values():
                if entry.unread:
                    self.unring(entry)
                if entry.unread or not entry.fence:
                    self.look_again(entry)
            payload = {"holders": len(held), "waiters": len(line)}
            self.told.append(("slot.cleared", queue.head() | payload))
            holders, waiters = holders + len(held), waiters + len(line)
            queue.book, queue.line, queue.hold, queue.reset = {}, [], 0, self.micros
        return holders, waiters

    def unring(self, entry: Entry) -> None:
        if entry.bell != NOWHERE:
            self.bells[entry.bell] = [ring for ring in self.bells[entry.bell] if ring != entry.ring]

    def ring(self, bell: str, ring: Ring) -> None:
        if bell == NOWHERE:
            return
        if bell == self.inbox:
            self.rung.append(ring)
        else:
            self.bells[bell].append(ring)
            self.bells_until[bell] = self.now + BELL_MS

    def look_again(self, entry: Entry) -> None:
        self.ring(entry.bell, Ring(entry.nonce, 0, 0))

    def bury(self, nonce: str, tomb_ms: int) -> None:
        if tomb_ms and nonce != ANY:
            self.tombs[nonce] = self.now + tomb_ms


class Queue:
    """One queue."""

    def __init__(self, name: str, world: World) -> None:
        self.name = name
        self.world = world
        self.born: int | None = None
        self.changed = False
        self.fence = self.ticket = self.hold = self.reset = 0
        self.pack = NOWHERE
        self.caller_limit: int | None = None
        self.line: list[str] = []
        self.book: dict[str, Entry] = {}
        self.grants: list[int] = []
        self.grants_kept_until = 0
        self.window = (0, 0)
        self.counts: dict[str, int] = defaultdict(int)

    # What is

    def holders(self) -> dict[str, Entry]:
        return {execution: entry for execution, entry in self.book.items() if entry.fence}

    def waiters(self) -> dict[str, Entry]:
        return {execution: self.book[execution] for execution in self.line}

    def head(self) -> dict[str, Any]:
        action, _, group = self.name.partition("/")
        return {"action": action, **({"group": group} if group else {})}

    def limits(self) -> Limits:
        limits = Limits(self.caller_limit)
        action = self.name.partition("/")[0]
        scopes = ("global", f"pack/{self.pack}", f"action/{action}", f"queue/{self.name}")
        for scope in scopes:
            policy = None if scope == "pack/-" else self.world.policies.get(Scope.parse(scope))
            if policy is None:
                continue
            if policy.max_concurrent is not None:
                limits.most = policy.max_concurrent
            if policy.rate_limit is not None:
                limits.rate = (policy.rate_limit.count, round(policy.rate_limit.seconds * 1000))
            if policy.quota is not None:
                limits.quota = (policy.quota.count, round(policy.quota.seconds * 1000))
            if policy.max_queue_length is not None:
                limits.length = policy.max_queue_length
            if policy.queue_timeout_seconds is not None:
                limits.timeout = round(policy.queue_timeout_seconds * 1000)
            if policy.log_transitions is not None:
                limits.quiet = not policy.log_transitions
        return limits

    def in_the_way(self) -> tuple[str, int | None]:
        """Why no slot can be given now ("" if one can), and until when, if that is known."""
        now, limits = self.world.now, self.limits()
        if limits.most is not None and len(self.holders()) >= limits.most:
            return "busy", None
        if self.hold > now:
            return "busy", self.hold
        found: list[tuple[int, str]] = []
        if limits.rate is not None:
            n, length = limits.rate
            grants = self.grants if now < self.grants_kept_until else []
            if len(grants) >= n and grants[n - 1] + length > now:
                found.append((grants[n - 1] + length, "rate"))
        if limits.quota is not None:
            n, length = limits.quota
            window, used = self.window
            if window == now // length and used >= n:
                found.append(((window + 1) * length, "quota"))
        if not found:
            return "", None
        until = max(at for at, _ in found)
        return next(why for at, why in found if at == until), until

    def falls_due(self) -> int | None:
        """When something changes by itself."""
        moments = [entry.until for entry in self.book.values()]
        until = self.in_the_way()[1]
        return min(moments + ([] if until is None else [until]), default=None)

    # What happens

    def carry_out(self, act: Act) -> Answer:
        if isinstance(act, Release | Beat):
            self.reap()
        else:
            if isinstance(act, Acquire):
                self.take_up(act)
            self.settle()
        match act:
            case Acquire():
                return self.acquire(act)
            case Touch():
                return self.touch(act)
            case Renew():
                return self.renew(act)
            case Release():
                return self.release(act)
            case Cancel():
                return self.cancel(act)
            case Beat():
                return self.beat(act)
            case Poke():
                return Gone()

    def tell(self, transition: str, execution: str, **more: Any) -> None:
        if not self.limits().quiet:
            said = {name: value for name, value in more.items() if value not in (None, NOWHERE)}
            self.world.told.append((f"slot.{transition}", self.head() | {"execution_id": execution} | said))

    def reap(self) -> None:
        now = self.world.now
        for execution, entry in sorted(self.holders().items(), key=lambda item: (item[1].until, item[0])):
            if entry.until <= now:
                self.holder_is_due(execution, entry)
        for execution, entry in sorted(self.waiters().items(), key=lambda item: (item[1].until, item[0])):
            if entry.until <= now:
                if entry.deadline <= now:
                    self.leave_line(execution, "timed_out")
                else:
                    self.leave_line(execution, "expired", reason="silent")

    def holder_is_due(self, execution: str, entry: Entry) -> None:
        now, world = self.world.now, self.world
        if entry.unread and entry.claim_end > now:
            if entry.bell == world.inbox or entry.ring not in world.bells[entry.bell]:
                entry.unread, entry.until = False, entry.claim_end
                return
            reason = "unread"
        else:
            reason = "unconfirmed" if entry.claim_end else "lease"
        self.leave_slot(execution, "expired", reason=reason)

    def settle(self) -> None:
        self.reap()
        while self.line and not self.in_the_way()[0]:
            execution = self.line.pop(0)
            self.grant(execution, self.book[execution], promoted=True)

    def grant(self, execution: str, entry: Entry, promoted: bool, uses_up: bool = True) -> None:
        now, world = self.world.now, self.world
        self.changed = True
        self.fence = max(self.fence + 1, world.micros)
        claim = promoted and entry.attended
        valid = min(CLAIM_MS, entry.lease) if claim else entry.lease
        # Who reads the inbox is calling, and has the grant in the answer: that is as good as read.
        unread = claim and entry.bell != world.inbox
        until = now + (min(UNREAD_MS, valid) if unread else valid)
        entry = replace(
            entry, fence=self.fence, granted=now, claim_end=now + valid if claim else 0, unread=unread, until=until
        )
        self.book[execution] = entry
        if promoted:
            world.ring(entry.bell, Ring(entry.nonce, entry.fence, valid))
        limits = self.limits()
        if limits.rate is not None and uses_up:
            n, length = limits.rate
            grants = self.grants if now < self.grants_kept_until else []
            self.grants = [now, *grants][:n]
            self.grants_kept_until = now + length
        if limits.quota is not None and uses_up:
            window = now // limits.quota[1]
            self.window = (window, (self.window[1] if self.window[0] == window else 0) + 1)
        waited = max(now - entry.ticket // 1000, 0) if promoted else 0
        self.tell("granted", execution, fencing_token=entry.fence, waited_ms=waited, owner=entry.owner)

    def confirm(self, execution: str, lease: int | None = None) -> Granted:
        entry, now = self.book[execution], self.world.now
        if entry.unread:
            self.world.unring(entry)
        lease = entry.lease if lease is None else lease
        entry.lease, entry.until, entry.claim_end, entry.unread = lease, now + lease, 0, False
        return Granted(entry.fence, lease, lease, entry.nonce, "same")

    def leave_line(self, execution: str, how: str, reason: str | None = None) -> Entry:
        entry = self.book.pop(execution)
        self.line.remove(execution)
        self.counts[how] += 1
        waited = max(self.world.now - entry.ticket // 1000, 0)
        self.tell(how, execution, waited_ms=waited, reason=reason)
        return entry

    def leave_slot(self, execution: str, how: str, reason: str | None = None) -> Entry:
        entry = self.book.pop(execution)
        if entry.unread:
            self.world.unring(entry)
        self.counts[how] += 1
        held = self.world.now - entry.granted
        self.tell(how, execution, fencing_token=entry.fence, held_ms=held, reason=reason)
        return entry

    # Acts

    def named(self, execution: str, key: str) -> Entry | None:
        entry = self.book.get(execution)
        if entry is not None and (
            key in (ANY, entry.nonce, others_key(entry.nonce)) or (entry.fence and key == fence_key(entry.fence))
        ):
            return entry
        return None

    def place(self, execution: str) -> Queued:
        entry, now = self.book[execution], self.world.now
        position = self.line.index(execution) + 1
        why, until = self.in_the_way()
        due = self.falls_due()
        return Queued(
            position,
            max((due or 0) - now, 1) if position <= NEAR else 0,
            max(entry.deadline - now, 0),
            entry.ticket,
            entry.nonce,
            until - now if until else 0,
            why,  # type: ignore[arg-type]
        )

    def hold_of(self, execution: str) -> Granted:
        entry = self.book[execution]
        return Granted(entry.fence, max(entry.until - self.world.now, 0), entry.lease, entry.nonce, "same")

    def keep_waiting(self, execution: str, bell: str | None, attended: bool) -> Queued:
        entry = self.book[execution]
        if bell is not None:
            entry.bell, entry.attended = bell, attended
        entry.until = self.waits_until(entry)
        return self.place(execution)

    def waits_until(self, entry: Entry) -> int:
        silent = self.world.now + SILENCE_MS
        return min(entry.deadline, silent) if entry.attended else entry.deadline

    def take_up(self, act: Acquire) -> None:
        if act.pack not in (NOWHERE, self.pack):
            self.pack, self.changed = act.pack, True
        if act.max_concurrent not in (None, self.caller_limit):
            self.caller_limit, self.changed = act.max_concurrent, True

    def acquire(self, act: Acquire) -> Answer:
        world, now, limits = self.world, self.world.now, self.limits()
        if act.execution in self.book:
            return self.meet(act)
        born = self.world.micros if self.born is None else self.born
        if act.nonce in world.tombs or (act.ticket is not None and act.ticket <= self.reset):
            return Cancelled()
        if act.ticket is not None and act.ticket < born:
            # From before the data was lost: those who held slots have a lease's time to come back.
            self.hold, self.changed = max(self.hold, born // 1000 + min(act.lease_ms, LONGEST_HOLD_MS)), True
        timeout = act.timeout_ms if limits.timeout is None else limits.timeout
        ticket = world.micros if act.ticket is None else act.ticket
        entry = Entry(act.nonce, ticket, act.lease_ms, act.bell, act.attended, act.owner, 0, deadline=now + timeout)
        why, until = self.in_the_way()
        if not why:
            self.counts["enqueued"] += 1
            self.grant(act.execution, entry, promoted=False)
            return Granted(self.fence, act.lease_ms, act.lease_ms, act.nonce, "new")
        if why in ("rate", "quota") and until is not None and (act.mode == "try" or until > now + timeout):
            return Limited(until - now, why)  # type: ignore[arg-type]
        if act.mode == "try":
            return Busy()
        longest = act.max_length if limits.length is None else limits.length
        if act.ticket is None:
            if len(self.line) >= longest:
                return Full(len(self.line), longest)
            entry.ticket = max(self.ticket + 1, world.micros)
        entry.until = self.waits_until(entry)
        self.changed = True
        self.ticket = max(self.ticket, entry.ticket)
        before = [one for one in self.line if self.book[one].ticket < entry.ticket]
        self.line.insert(len(before), act.execution)
        self.book[act.execution] = entry
        self.counts["enqueued"] += 1
        place = self.place(act.execution)
        self.tell("queued", act.execution, position=place.position, owner=act.owner)
        return place

    def meet(self, act: Acquire) -> Answer:
        """The execution is here already."""
        execution, entry, world = act.execution, self.book[act.execution], self.world
        if entry.nonce == act.nonce:
            if entry.fence:
                return self.confirm(execution)
            return self.keep_waiting(execution, act.bell, act.attended)
        if act.mode == "adopt":
            world.look_again(entry)
            world.bury(entry.nonce, BURIED_MS)
            if not entry.fence:
                entry.nonce, entry.lease, entry.owner = act.nonce, act.lease_ms, act.owner
                return self.keep_waiting(execution, act.bell, act.attended)
            self.leave_slot(execution, "released", reason="adopted")
            entry = replace(entry, nonce=act.nonce, lease=act.lease_ms, owner=act.owner, bell=NOWHERE, attended=False)
            self.grant(execution, entry, promoted=False, uses_up=False)
            return Granted(self.fence, act.lease_ms, act.lease_ms, act.nonce, "taken")
        if entry.fence:
            return Held(entry.fence, max(entry.until - world.now, 0))
        if act.attended and not entry.attended and act.mode == "line":
            return self.keep_waiting(execution, act.bell, True)
        return Waiting(self.line.index(execution) + 1)

    def touch(self, act: Touch) -> Answer:
        entry = self.named(act.execution, act.key)
        if entry is None:
            return Gone()
        if act.key == ANY:
            if entry.fence:
                return self.hold_of(act.execution)
            if act.bell is not None and not entry.attended:
                return self.keep_waiting(act.execution, act.bell, False)
            return self.place(act.execution)
        if not entry.fence:
            return self.keep_waiting(act.execution, act.bell, act.attended)
        return self.confirm(act.execution) if entry.claim_end else self.hold_of(act.execution)

    def renew(self, act: Renew) -> Answer:
        world, now = self.world, self.world.now
        entry = self.named(act.execution, act.key)
        if entry is not None:
            return self.confirm(act.execution, act.lease_ms) if entry.fence else Gone()
        born = self.world.micros if self.born is None else self.born
        fence, lease = act.fence, act.lease_ms
        known = act.execution in self.book or act.key in world.tombs
        if fence is None or lease is None or known or not self.reset < fence < born:
            return Gone()
        self.changed = True
        self.hold = max(self.hold, born // 1000 + min(lease, LONGEST_HOLD_MS))
        self.fence = max(self.fence, fence)
        self.book[act.execution] = Entry(
            act.key, fence, lease, NOWHERE, False, NOWHERE, now + lease, fence=fence, granted=now
        )
        self.tell("granted", act.execution, fencing_token=fence, restored=True)
        return Granted(fence, lease, lease, act.key, "same")

    def release(self, act: Release) -> Answer:
        entry = self.named(act.execution, act.key)
        if entry is None:
            self.world.bury(act.key, act.tomb_ms)
            return Gone()
        came = entry.granted if entry.fence else entry.ticket // 1000
        if act.not_after_ms is not None and came > act.not_after_ms:
            return Gone()
        if not entry.fence:
            return self.leave(act, entry, "cancelled")
        self.leave_slot(act.execution, "released")
        self.world.bury(entry.nonce, act.tomb_ms)
        return Released()

    def cancel(self, act: Cancel) -> Answer:
        entry = self.named(act.execution, act.key)
        if entry is None:
            self.world.bury(act.key, act.tomb_ms)
            return Gone()
        return self.hold_of(act.execution) if entry.fence else self.leave(act, entry, act.how)

    def leave(self, act: Release | Cancel, entry: Entry, how: str) -> Answer:
        self.leave_line(act.execution, how)
        if act.key == entry.nonce:
            self.world.bury(entry.nonce, act.tomb_ms)
        else:
            # By somebody else: whoever waits is told, and finds no way back.
            self.world.look_again(entry)
            self.world.bury(entry.nonce, BURIED_MS)
        return Cancelled()

    def beat(self, act: Beat) -> Answer:
        for execution in act.executions:
            if execution in self.line and self.book[execution].attended:
                self.book[execution].until = self.waits_until(self.book[execution])
        self.settle()
        due = self.falls_due()
        missing = tuple(i for i, execution in enumerate(act.executions) if execution not in self.line)
        return Beaten(0 if due is None else max(due - self.world.now, 1), missing)

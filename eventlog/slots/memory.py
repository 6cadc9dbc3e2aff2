"""Slots in this process' memory: the reference that the Redis backend is held against. Keeps nothing on disk."""

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import TypeVar

from ..errors import VersionConflict
from ..model.events import Body
from ..plan.effects import Park, Plan, at_once
from .acts import Act, Answer, Performed, Poke, Ring
from .memory_acts import carry_out
from .memory_queue import Bells, Call, MemoryQueue, Place, Tombs, quantised
from .policy import Policy, Scope, StoredPolicy
from .protocol import Cleared, Holder, QueueStats, Waiter

T = TypeVar("T")


class _Step:
    """One step on copies of what it changes."""

    def __init__(self, slots: "MemorySlots", inbox: str) -> None:
        micros = int(slots._clock() * 1_000_000)
        self.number = slots._steps
        self.queues: dict[str, MemoryQueue] = {}
        self.bells = slots._bells.copied()
        self.policies = slots._policies.copy()
        self.call = Call(micros // 1000, micros, inbox, self.bells, slots._tombs, self.policies)
        self.version = slots._version
        self._slots = slots

    def put_policy(self, scope: Scope, policy: Policy | None) -> int:
        """Store a policy, or none any more, as the next version."""
        self.version += 1
        self.policies.pop(scope, None)
        if policy is not None:
            self.policies[scope] = StoredPolicy(self.version, policy)
        return self.version

    def open(self, name: str) -> MemoryQueue:
        """The queue, to be changed; one that was never used is not kept unless something comes of it."""
        if name not in self.queues:
            queue = self.queues[name] = self._slots._queue(name, self.call.now).copied()
            queue.open(self.call)
        return self.queues[name]

    def perform(self, acts: Sequence[Act]) -> list[Answer]:
        """Carry out acts, then close the queues."""
        answers = [carry_out(self.open(act.queue), act) for act in acts]
        for queue in self.queues.values():
            queue.close()
        return answers


class MemorySlots:
    """Complete, thread-safe, with an injectable `clock` in seconds since the Unix epoch. See `SlotBackend`.

    `record` appends transitions to the log. A step works on copies, which are put in place all at once at its end: an
    interrupt changes all or nothing. A signal handler that comes in between has its own steps, and the step that it
    interrupted is done again.
    """

    name = "memory"

    def __init__(self, record: Callable[[Sequence[Body]], object], clock: Callable[[], float] = time.time) -> None:
        self._record = record
        self._clock = clock
        self._lock = threading.RLock()
        self._steps = 0
        self._wakers: dict[str, set[Callable[[], None]]] = {}
        self.forget_everything()

    def forget_everything(self) -> None:
        """Lose all queues and policies, as a wiped Redis would. The log is not touched."""
        with self._lock:
            self._queues: dict[str, MemoryQueue] = {}
            self._policies: dict[Scope, StoredPolicy] = {}
            self._version = 0
            self._tombs = Tombs()
            self._bells = Bells()
            self._unrecorded: list[Body] = []
            self._steps += 1

    def _step(self, act: Callable[[_Step], T], inbox: str = "") -> T:
        with self._lock:
            while True:
                step = _Step(self, inbox)
                result = act(step)
                kept = {name: queue for name, queue in step.queues.items() if queue.known}
                events, number = step.call.events, step.number + 1
                if self._steps == step.number:
                    # No call up to the end, after which an interrupt might leave one without the other.
                    self._queues |= kept
                    self._bells, self._policies, self._version = step.bells, step.policies, step.version
                    self._unrecorded += events
                    self._steps = number
                    break
            if self._unrecorded:
                unrecorded, self._unrecorded = self._unrecorded, []
                self._record(unrecorded)
        for bell in step.call.rang:
            for wake in list(self._wakers.get(bell, ())):
                wake()
        return result

    @at_once
    def perform(self, acts: Sequence[Act], inbox: str = "", deadline_s: float | None = None) -> Performed:
        """Carried out at once under one lock; no reply can be lost, so nothing is ever repeated."""

        def performed(step: _Step) -> Performed:
            answers = step.perform(acts)
            return Performed(step.call.now, answers, rings=step.call.rung)

        return self._step(performed, inbox)

    def _queue(self, name: str, now: int) -> MemoryQueue:
        queue = self._queues.get(name)
        return MemoryQueue(name) if queue is None or queue.is_idle(now) else queue

    def listen(self, bell: str, timeout_s: float, most: int = 1) -> Plan[list[Ring]]:
        """Parks until something is rung, unless it was already."""

        def subscribe(wake: Callable[[], None]) -> Callable[[], None]:
            with self._lock:
                self._wakers.setdefault(bell, set()).add(wake)
                was_rung = self._bells.have(bell)
            if was_rung:
                wake()
            return lambda: self._leave(bell, wake)

        yield Park(subscribe, timeout_s)
        return self._step(lambda step: step.bells.take(bell, most, step.call.now))

    def _leave(self, bell: str, wake: Callable[[], None]) -> None:
        with self._lock:
            wakers = self._wakers.get(bell, set())
            wakers.discard(wake)
            if not wakers:
                self._wakers.pop(bell, None)

    @at_once
    def stats(self, queues: Sequence[str], most: int) -> list[QueueStats]:
        """See `SlotBackend.stats`."""
        with self._lock:
            step = _Step(self, "")
            return [self._stats(step.open(name), step.call, most) for name in queues]

    def _stats(self, queue: MemoryQueue, call: Call, most: int) -> QueueStats:
        holders = sorted(_live(queue.held.values(), call), key=lambda place: (place.until_ms, place.execution))
        first = _live((queue.waits[execution] for execution in queue.line[:most]), call)
        waiters = [
            Waiter(place.execution, position, place.ticket / 1_000_000, _owner(place))
            for position, place in enumerate(first, 1)
        ]
        limits = queue.limits
        return QueueStats(
            action=queue.action,
            group_key=queue.group or None,
            queue_length=len(_live(queue.waits.values(), call)),
            active_count=len(holders),
            policy=replace(limits, log_transitions=limits.log_transitions is not False),
            oldest_enqueued_at=waiters[0].enqueued_at if waiters else None,
            total_enqueued=queue.counts["enqueued"],
            total_completed=queue.counts["released"],
            total_expired=queue.counts["expired"],
            total_timed_out=queue.counts["timed_out"],
            total_cancelled=queue.counts["cancelled"],
            holders=tuple(_holder(place) for place in holders[:most]),
            waiters=tuple(waiters),
            time=call.now / 1000,
        )

    @at_once
    def queues(self) -> list[str]:
        """See `SlotBackend.queues`."""
        with self._lock:
            return self._names()

    def _names(self) -> list[str]:
        now = _Step(self, "").call.now
        idle = [name for name in list(self._queues) if self._queues[name].is_idle(now)]
        for name in idle:
            self._queues.pop(name, None)
        return sorted(self._queues)

    @at_once
    def due(self, passed_over: int, most: int) -> tuple[int, list[str]]:
        """See `SlotBackend.due`."""
        with self._lock:
            now = _Step(self, "").call.now
            some = [self._queues[name] for name in self._names()[passed_over : passed_over + most]]
            return len(some), [queue.name for queue in some if queue.next <= now or queue.line]

    @at_once
    def find(self, execution: str, queues: Sequence[str]) -> list[str]:
        """See `SlotBackend.find`."""
        with self._lock:
            now = _Step(self, "").call.now
            return [name for name in queues if self._queue(name, now).place(execution)]

    @at_once
    def clear(self, queues: Sequence[str]) -> Cleared:
        """See `SlotBackend.clear`."""

        def cleared(step: _Step) -> Cleared:
            taken_out = [step.open(name).clear() for name in queues]
            return Cleared(sum(held for held, _ in taken_out), sum(waited for _, waited in taken_out))

        return self._step(cleared)

    @at_once
    def policies(self) -> dict[Scope, StoredPolicy]:
        """See `SlotBackend.policies`."""
        with self._lock:
            return dict(sorted(self._policies.items(), key=lambda item: str(item[0])))

    @at_once
    def put_policy(self, scope: Scope, policy: Policy | None, expected_version: int | None) -> int:
        """See `SlotBackend.put_policy`; then the queues that it bears on hand out what it frees."""
        wanted = None if policy is None else quantised(policy)

        def put(step: _Step) -> int:
            stored = step.policies.get(scope)
            version = stored.version if stored else 0
            if wanted == (stored.policy if stored else None):
                version = version or step.version
            elif expected_version is not None and expected_version != version:
                raise VersionConflict(expected_version, version)
            else:
                version = step.put_policy(scope, wanted)
            step.perform([Poke(name) for name in self._names() if scope.covers(name)])
            return version

        return self._step(put)


def _live(places: Iterable[Place], call: Call) -> list[Place]:
    # A grant whose bell is to be looked at stands until that was done, or its claim ends.
    return [place for place in places if place.until_ms > call.now or (place.unread and place.claim_end_ms > call.now)]


def _holder(place: Place) -> Holder:
    expires_ms = place.claim_end_ms or place.until_ms
    return Holder(place.execution, place.fence, place.granted_ms / 1000, expires_ms / 1000, _owner(place))


def _owner(place: Place) -> str | None:
    return None if place.owner == "-" else place.owner

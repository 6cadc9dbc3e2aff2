"""Slots in this process' memory: the reference that the Redis backend is held against. Keeps nothing on disk."""

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from ..errors import VersionConflict
from ..model.events import Body
from ..plan.effects import Park, Plan, at_once
from .acts import Act, Performed, Poke, Ring
from .memory_acts import carry_out
from .memory_queue import Bells, Call, MemoryQueue, Place, Tombs, quantised
from .policy import Policy, Scope, StoredPolicy
from .protocol import Cleared, Holder, QueueStats, Waiter


class MemorySlots:
    """Complete, thread-safe, with an injectable `clock` in seconds since the Unix epoch. See `SlotBackend`.

    `record` appends transitions to the log.
    """

    name = "memory"

    def __init__(self, record: Callable[[Sequence[Body]], object], clock: Callable[[], float] = time.time) -> None:
        self._record = record
        self._clock = clock
        self._lock = threading.Lock()
        self._bells = Bells()
        self.forget_everything()

    def forget_everything(self) -> None:
        """Lose all queues and policies, as a wiped Redis would. The log is not touched."""
        with self._lock:
            self._queues: dict[str, MemoryQueue] = {}
            self._policies: dict[Scope, StoredPolicy] = {}
            self._version = 0
            self._tombs = Tombs()
            self._bells.forget_everything()

    @at_once
    def perform(self, acts: Sequence[Act], inbox: str = "", deadline_s: float | None = None) -> Performed:
        """Carried out at once under one lock; no reply can be lost, so nothing is ever repeated."""
        with self._lock:
            return self._perform(acts, inbox)

    def _perform(self, acts: Sequence[Act], inbox: str = "") -> Performed:
        call = self._call(inbox)
        opened: dict[str, MemoryQueue] = {}
        answers = []
        for act in acts:
            if act.queue not in opened:
                opened[act.queue] = self._queue(act.queue, call.now)
                opened[act.queue].open(call)
            answers.append(carry_out(opened[act.queue], act))
        for name, queue in opened.items():
            queue.close()
            if queue.known:
                self._queues[name] = queue
        self._record_events(call)
        return Performed(call.now, answers, rings=call.rung)

    def _call(self, inbox: str = "") -> Call:
        micros = int(self._clock() * 1_000_000)
        return Call(micros // 1000, micros, inbox, self._bells, self._tombs, self._policies)

    def _queue(self, name: str, now: int) -> MemoryQueue:
        """The queue as it is, or one that was never used and is not kept unless something comes of it."""
        queue = self._queues.get(name)
        return MemoryQueue(name) if queue is None or queue.is_idle(now) else queue

    def _record_events(self, call: Call) -> None:
        if call.events:
            self._record(call.events)

    def listen(self, bell: str, timeout_s: float, most: int = 1) -> Plan[list[Ring]]:
        """Parks until something is rung, unless it was already."""

        def subscribe(wake: Callable[[], None]) -> Callable[[], None]:
            with self._lock:
                self._bells.listen(bell, wake)
            return lambda: self._leave(bell, wake)

        yield Park(subscribe, timeout_s)
        with self._lock:
            return self._bells.take(bell, most, self._call().now)

    def _leave(self, bell: str, wake: Callable[[], None]) -> None:
        with self._lock:
            self._bells.leave(bell, wake)

    @at_once
    def stats(self, queues: Sequence[str], most: int) -> list[QueueStats]:
        """See `SlotBackend.stats`."""
        with self._lock:
            call = self._call()
            return [self._stats(name, call, most) for name in queues]

    def _stats(self, name: str, call: Call, most: int) -> QueueStats:
        queue = self._queue(name, call.now)
        queue.open(call)
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
        now = self._call().now
        self._queues = {name: queue for name, queue in self._queues.items() if not queue.is_idle(now)}
        return sorted(self._queues)

    @at_once
    def due(self, passed_over: int, most: int) -> tuple[int, list[str]]:
        """See `SlotBackend.due`."""
        with self._lock:
            now = self._call().now
            some = [self._queues[name] for name in self._names()[passed_over : passed_over + most]]
            return len(some), [queue.name for queue in some if queue.next <= now or queue.line]

    @at_once
    def find(self, execution: str, queues: Sequence[str]) -> list[str]:
        """See `SlotBackend.find`."""
        with self._lock:
            now = self._call().now
            return [name for name in queues if self._queue(name, now).place(execution)]

    @at_once
    def clear(self, queues: Sequence[str]) -> Cleared:
        """See `SlotBackend.clear`."""
        with self._lock:
            call = self._call()
            holders = waiters = 0
            for name in queues:
                queue = self._queue(name, call.now)
                queue.open(call)
                held, waited = queue.clear()
                holders, waiters = holders + held, waiters + waited
            self._record_events(call)
            return Cleared(holders, waiters)

    @at_once
    def policies(self) -> dict[Scope, StoredPolicy]:
        """See `SlotBackend.policies`."""
        with self._lock:
            return dict(sorted(self._policies.items(), key=lambda item: str(item[0])))

    @at_once
    def put_policy(self, scope: Scope, policy: Policy | None, expected_version: int | None) -> int:
        """See `SlotBackend.put_policy`; then the queues that it bears on hand out what it frees."""
        with self._lock:
            stored = self._policies.get(scope)
            version = stored.version if stored else 0
            wanted = None if policy is None else quantised(policy)
            if wanted == (stored.policy if stored else None):
                version = version or self._version
            elif expected_version is not None and expected_version != version:
                raise VersionConflict(expected_version, version)
            else:
                version = self._version = self._version + 1
                if wanted is None:
                    self._policies.pop(scope, None)
                else:
                    self._policies[scope] = StoredPolicy(version, wanted)
            self._perform([Poke(name) for name in self._names() if scope.covers(name)])
            return version


def _live(places: Iterable[Place], call: Call) -> list[Place]:
    # A grant whose bell is to be looked at stands until that was done, or its claim ends.
    return [place for place in places if place.until_ms > call.now or (place.unread and place.claim_end_ms > call.now)]


def _holder(place: Place) -> Holder:
    expires_ms = place.claim_end_ms or place.until_ms
    return Holder(place.execution, place.fence, place.granted_ms / 1000, expires_ms / 1000, _owner(place))


def _owner(place: Place) -> str | None:
    return None if place.owner == "-" else place.owner

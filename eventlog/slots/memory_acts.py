"""What can be done on a slot queue in memory: the acts, in the order of `lua/slot_calls.lua`."""

from collections.abc import Callable
from typing import Any

from .acts import (
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
    Touch,
    Waiting,
    fence_key,
    others_key,
)
from .memory_queue import SILENCE_MS, MemoryQueue, Place
from .policy import whole_ms

_TOMB_MS = 600_000
_LONGEST_HOLD_MS = 60_000


def carry_out(queue: MemoryQueue, act: Act) -> Answer:
    """Do one act on an open queue."""
    return _ACTS[type(act)](queue, act)


def _record_of(queue: MemoryQueue, execution: str, key: str) -> Place | None:
    """The place of an execution, if it is of the acquisition that `key` names."""
    place = queue.place(execution)
    if place is None:
        return None
    fits = key in (ANY, place.nonce, others_key(place.nonce)) or (place.holds and key == fence_key(place.fence))
    return place if fits else None


def _holding(queue: MemoryQueue, place: Place, how: str = "same") -> Granted:
    remaining_ms = max(place.until_ms - queue.call.now, 0)
    return Granted(place.fence, remaining_ms, place.lease_ms, place.nonce, how, *queue.terms)


def _confirmed(queue: MemoryQueue, place: Place, how: str = "same", lease_ms: int | None = None) -> Granted:
    place = queue.confirm(place, lease_ms)
    return Granted(place.fence, place.lease_ms, place.lease_ms, place.nonce, how, *queue.terms)


def _wait_until(queue: MemoryQueue, place: Place) -> int:
    return min(place.deadline_ms, queue.call.now + SILENCE_MS) if place.attended else place.deadline_ms


def _keep_waiting(queue: MemoryQueue, place: Place, bell: str | None, attended: bool) -> Queued:
    """The waiter lives, and listens at this bell from now on; None leaves bell and attendance."""
    place = queue.own(place)
    if bell is not None:
        place.bell, place.attended = bell, attended
    place.until_ms = _wait_until(queue, place)
    queue.due(place.until_ms)
    return queue.queued(place, queue.position(place.execution))


def _meet(queue: MemoryQueue, place: Place, act: Acquire) -> Answer:
    """The execution has a place or a slot here already."""
    if place.nonce == act.nonce:
        return _confirmed(queue, place) if place.holds else _keep_waiting(queue, place, act.bell, act.attended)
    if act.mode == "adopt":
        return _adopt(queue, place, act)
    if place.holds:
        return Held(place.fence, max(place.until_ms - queue.call.now, 0))
    if act.attended and not place.attended and act.mode == "line":
        # That place is unattended: the execution that now waits goes on with it.
        return _keep_waiting(queue, place, act.bell, act.attended)
    return Waiting(queue.position(place.execution))


def _adopt(queue: MemoryQueue, place: Place, act: Acquire) -> Answer:
    queue.look_again(place.bell, place.nonce)
    queue.call.bury(place.nonce, _TOMB_MS)
    if not place.holds:
        place = queue.own(place)
        place.nonce, place.lease_ms, place.owner = act.nonce, act.lease_ms, act.owner
        return _keep_waiting(queue, place, act.bell, act.attended)
    # Another fence: the earlier holder may not know yet that it lost the slot.
    queue.leave_slot(place, "released", "adopted")
    queue.settled = True
    place = _new_place(queue, act, place.ticket, 0)
    place.bell, place.attended = "-", False
    queue.grant(place, is_taken_over=True)
    return _holding(queue, place, "taken")


def _new_place(queue: MemoryQueue, act: Acquire, ticket: int, timeout_ms: int) -> Place:
    deadline_ms = queue.call.now + timeout_ms
    return Place(
        *(act.execution, act.nonce, ticket, deadline_ms, act.lease_ms, act.bell, act.attended, act.owner),
        until_ms=deadline_ms,
    )


def _take_up(queue: MemoryQueue, act: Acquire) -> None:
    """The caller's pack stays with the queue until another gives another one, and the number that was named first as
    long as anybody holds a slot or waits.
    """
    if act.pack not in ("-", queue.pack):
        queue.limit(act.pack, queue.caller_limit)
        queue.changed = True
    queue.settle()
    most, first = act.max_concurrent, queue.caller_limit
    if most not in (None, first) and (first is None or not (queue.held or queue.line)):
        queue.limit(queue.pack, most)
        queue.changed = True
        queue.settle()


def _acquire(queue: MemoryQueue, act: Acquire) -> Answer:
    call = queue.call
    _take_up(queue, act)
    if place := queue.place(act.execution):
        return _meet(queue, place, act)
    if call.is_over(act.nonce) or (act.ticket and act.ticket <= queue.reset):
        return Cancelled()
    if act.ticket and act.ticket < queue.born_us:
        _await_holders(queue, act.lease_ms)
    free, until_ms, why = queue.room()
    if free and not queue.line:
        queue.counts["enqueued"] += 1
        place = _new_place(queue, act, act.ticket or call.micros, 0)
        queue.grant(place)
        return _holding(queue, place, "new")
    limits = queue.limits
    timeout_s = limits.queue_timeout_seconds
    timeout_ms = act.timeout_ms if timeout_s is None else whole_ms(timeout_s)
    if why in ("rate", "quota"):
        if until_ms is not None and (act.mode == "try" or until_ms > call.now + timeout_ms):
            return Limited(until_ms - call.now, why)
    elif act.mode == "try":
        return Busy()
    longest = act.max_length if limits.max_queue_length is None else limits.max_queue_length
    if len(queue.line) >= longest and not act.ticket:
        return Full(len(queue.line), longest)
    return _line_up(queue, _new_place(queue, act, act.ticket or max(queue.ticket + 1, call.micros), timeout_ms), act)


def _await_holders(queue: MemoryQueue, lease_ms: int) -> None:
    """The data was lost: holders come back within a lease to claim their slots."""
    until_ms = queue.born_us // 1000 + min(lease_ms, _LONGEST_HOLD_MS)
    if until_ms > queue.hold:
        queue.hold, queue.changed = until_ms, True


def _line_up(queue: MemoryQueue, place: Place, act: Acquire) -> Answer:
    place.until_ms = _wait_until(queue, place)
    queue.enline(place)
    queue.due(place.until_ms)
    queue.counts["enqueued"] += 1
    if act.ticket:
        queue.settled = False
        queue.settle()
        there = queue.place(place.execution)
        if there is None:
            return Gone()  # it came back too late to wait any longer
        place = there
        if place.holds:
            return _confirmed(queue, place, "new")
    answer = queue.queued(place, queue.position(place.execution))
    owner = None if place.owner == "-" else place.owner
    queue.emit("queued", place.execution, position=answer.position, owner=owner)
    return answer


def _touch(queue: MemoryQueue, act: Touch) -> Answer:
    queue.settle()
    place = _record_of(queue, act.execution, act.key)
    if place is None:
        return Gone(queue.call.expired_ms(f"{queue.name}/{act.execution}"))
    if act.key == ANY:
        if place.holds:
            return _holding(queue, place)
        if act.bell and not place.attended:
            return _keep_waiting(queue, place, act.bell, False)
        return queue.queued(place, queue.position(place.execution))
    if not place.holds:
        return _keep_waiting(queue, place, act.bell, act.attended)
    return _confirmed(queue, place) if place.claim_end_ms else _holding(queue, place)


def _renew(queue: MemoryQueue, act: Renew) -> Answer:
    queue.settle()
    place = _record_of(queue, act.execution, act.key)
    if place and place.holds:
        return _confirmed(queue, place, lease_ms=act.lease_ms)
    # A grant older than all that is known of this queue: the data was lost, and this holder has come back to say so.
    fence, lease_ms = act.fence, act.lease_ms
    if (
        place is None
        and fence is not None
        and lease_ms is not None
        and queue.reset < fence < queue.born_us
        and queue.call.now - queue.born_us // 1000 < lease_ms
        and queue.place(act.execution) is None
        and not queue.call.is_over(act.key)
    ):
        _await_holders(queue, lease_ms)
        queue.fence, queue.changed = max(queue.fence, fence), True
        now = queue.call.now
        place = Place(act.execution, act.key, fence, 0, lease_ms, "-", False, "-", now + lease_ms, fence, now)
        queue.held[act.execution] = place
        queue.due(place.until_ms)
        queue.emit("granted", act.execution, fencing_token=fence, restored=True)
        return _holding(queue, place)
    return Gone()


def _leave(queue: MemoryQueue, place: Place, key: str, tomb_ms: int, how: str) -> Cancelled:
    queue.leave_line(place, how)
    if key != place.nonce:
        # Released by another caller: the waiter looks, and a copy of its acquire cannot queue it again.
        queue.look_again(place.bell, place.nonce)
        tomb_ms = _TOMB_MS
    queue.call.bury(place.nonce, tomb_ms)
    return Cancelled()


def _release(queue: MemoryQueue, act: Release) -> Answer:
    queue.reap()
    place = _record_of(queue, act.execution, act.key)
    if place is None:
        return _nothing(queue, act)
    since_ms = place.granted_ms if place.holds else place.ticket // 1000
    if act.not_after_ms is not None and since_ms > act.not_after_ms:
        return Gone()
    if not place.holds:
        return _leave(queue, place, act.key, act.tomb_ms, "cancelled")
    queue.leave_slot(place, "released")
    queue.call.bury(place.nonce, act.tomb_ms)
    return Released()


def _cancel(queue: MemoryQueue, act: Cancel) -> Answer:
    queue.settle()
    place = _record_of(queue, act.execution, act.key)
    if place is None:
        return _nothing(queue, act)
    if place.holds:
        return _holding(queue, place)
    return _leave(queue, place, act.key, act.tomb_ms, act.how)


def _nothing(queue: MemoryQueue, act: Release | Cancel) -> Gone:
    if act.key != ANY:
        queue.call.bury(act.key, act.tomb_ms)
    return Gone()


def _beat(queue: MemoryQueue, act: Beat) -> Beaten:
    queue.reap()
    for execution in act.executions:
        # An unattended place needs no beat, and no beat extends a place beyond its queue time-out.
        if (place := queue.waits.get(execution)) and place.attended:
            place = queue.own(place)
            place.until_ms = _wait_until(queue, place)
    queue.settle()
    missing = (at for at, execution in enumerate(act.executions) if execution not in queue.waits)
    return Beaten(queue.look_in_ms(1), tuple(missing))


def _poke(queue: MemoryQueue, act: Poke) -> Gone:
    queue.settle()
    return Gone()


_ACTS: dict[type, Callable[[MemoryQueue, Any], Answer]] = {
    Acquire: _acquire,
    Touch: _touch,
    Renew: _renew,
    Release: _release,
    Cancel: _cancel,
    Beat: _beat,
    Poke: _poke,
}

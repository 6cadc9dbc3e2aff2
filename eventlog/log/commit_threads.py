"""Group commit among threads. The thread that finds no call in flight leads: it sends what has gathered, with its own
append first, then hands the lead to a waiting thread. There is no thread of ours, and a lone caller pays one lock."""

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence

from ..errors import BackendUnavailable, EventLogError, LogClosed, Overloaded, failure_for_each
from ..model.log_values import Append, Outcome
from ..plan.forks import call_in_child
from .commit import OVERRUN_S, Bounds, CommitStats, size_of

SendCall = Callable[[Sequence[Append], int], list[Outcome]]


class _Queued:
    """One caller's append in the queue, and the lock that its thread sleeps on until it leads or is answered."""

    __slots__ = ("append", "bytes", "events", "left", "members", "next_to_wake", "outcome", "turn", "woken")

    def __init__(self, append: Append, events: int, size: int) -> None:
        self.append = append
        self.events = events
        self.bytes = size
        self.outcome: Outcome | None = None
        self.members: list[_Queued] = []  # the others in the call that this caller leads
        self.next_to_wake: _Queued | None = None  # answers wake one another in a chain
        self.woken = False
        self.left = False
        self.turn = threading.Lock()
        self.turn.acquire()


def _failed(failure: Exception | None) -> EventLogError:
    interrupted = "the sending thread was interrupted"
    return failure_for_each(failure or BackendUnavailable(interrupted, outcome_unknown=True))


class ThreadCommitter:
    """Appends of one thread are carried out in the order in which it made them.

    A caller waits at most one deadline for its call to begin, room included, and another for that call to end. A
    signal may interrupt a caller at any line: the others still get their outcomes.
    """

    def __init__(self, send: SendCall, bounds: Bounds, deadline_s: float) -> None:
        self._send = send
        self._bounds = bounds
        self._deadline_s = deadline_s
        self._stats = CommitStats()
        self.reset()
        call_in_child(self.reset)

    def reset(self) -> None:
        """Forget what is in flight: in a forked child it is the parent's."""
        self._mutex = threading.Lock()
        self._room = threading.Condition(self._mutex)
        self._queue: deque[_Queued] = deque()
        self._leader: object | None = None  # a `_Queued`, or the token of a caller that did not queue
        self._closed = False
        self._call_number = 0
        self._awaiting_room = 0  # callers for whom there is no room yet
        self._pending_events = 0
        self._pending_bytes = 0

    def submit(self, append: Append) -> Outcome:
        """Append with others; returns this append's own outcome.

        Raises `Overloaded` if there was no room to wait in, `BackendUnavailable` if the outcome is unknown.
        """
        queued: _Queued | None = None
        me = object()
        send_until = 0.0
        try:
            with self._mutex:
                if self._closed:
                    raise LogClosed("the log was closed")
                if self._leader is not None:
                    send_until = time.monotonic() + self._deadline_s + OVERRUN_S
                    events, size = size_of(append)
                    self._await_room(events, size)
                    if self._leader is not None:
                        queued = _Queued(append, events, size)
                        self._queue.append(queued)
                        self._pending_events += events
                        self._pending_bytes += size
                if queued is None:
                    self._leader = me
            if queued is None:
                return self._lead([append], len(append.bodies), ())
            return self._await_outcome(queued, send_until)
        except BaseException:
            self._leave(me if queued is None else queued)
            raise

    def _await_room(self, events: int, size: int) -> None:
        bounds = self._bounds

        def fits() -> bool:
            return (
                self._leader is None
                or not self._queue
                or (
                    self._pending_events + events <= bounds.pending_events
                    and self._pending_bytes + size <= bounds.pending_bytes
                )
            )

        if fits():
            return
        self._awaiting_room += 1
        try:
            there_is_room = self._room.wait_for(fits, self._deadline_s)
        finally:
            self._awaiting_room -= 1
        if not there_is_room:
            self._stats.refused += 1
            raise Overloaded(
                f"{self._pending_events} events wait in this process already (limit {bounds.pending_events}); "
                f"no room within {self._deadline_s:g} s"
            )
        if self._closed:
            raise LogClosed("the log was closed")

    def _await_outcome(self, queued: _Queued, send_until: float) -> Outcome:
        self._sleep(queued, send_until)
        if self._leader is not queued:
            if queued.next_to_wake is not None:
                self._wake(queued.next_to_wake)
            assert queued.outcome is not None
            return queued.outcome
        with self._mutex:
            members = self._take(queued)
        return self._lead(
            [queued.append, *(f.append for f in members)],
            queued.events + sum(f.events for f in members),
            members,
        )

    def _sleep(self, queued: _Queued, send_until: float) -> None:
        if queued.turn.acquire(timeout=max(send_until - time.monotonic(), 0)):
            return
        with self._mutex:
            if self._leader is queued or queued in self._queue:
                raise BackendUnavailable(
                    f"the append was not sent: Redis did not answer others within {self._deadline_s:g} s"
                )
        # The call that it is part of ends by a deadline of its own.
        if not queued.turn.acquire(timeout=self._deadline_s + 1):
            raise BackendUnavailable("the append was sent and not answered", outcome_unknown=True)

    def _leave(self, caller: object) -> None:
        """A caller ends with an error, its own or a signal's: finish what other callers still depend on."""
        if isinstance(caller, _Queued):
            with self._mutex:
                caller.left = True
                if caller in self._queue:
                    self._queue.remove(caller)
                    self._dequeued(caller)
            if caller.members:
                self._answer(caller.members, None, None)
            elif caller.woken and caller.next_to_wake is not None:
                self._wake(caller.next_to_wake)
        self._pass_lead(caller)

    def _wake(self, answered: _Queued) -> None:
        """Wake the first answered caller that still waits; it wakes the next one.

        Woken all at once they would contend for the interpreter's lock, at two thread switches each.
        """
        queued: _Queued | None = answered
        with self._mutex:
            while queued is not None and queued.left:
                queued = queued.next_to_wake
            if queued is not None and not queued.woken:
                queued.woken = True
                queued.turn.release()

    def _take(self, leader: _Queued) -> list[_Queued]:
        """As many queued appends as fit into the leader's call."""
        events, size, taken = leader.events, leader.bytes, leader.members
        while self._queue:
            queued = self._queue[0]
            events += queued.events
            size += queued.bytes
            if events > self._bounds.call_events or size > self._bounds.call_bytes:
                break
            taken.append(self._queue.popleft())
            self._dequeued(queued)
        return taken

    def _dequeued(self, queued: _Queued) -> None:
        self._pending_events -= queued.events
        self._pending_bytes -= queued.bytes
        self._notify_room()

    def _notify_room(self) -> None:
        if self._awaiting_room:
            self._room.notify_all()

    def _lead(self, appends: list[Append], events: int, members: Sequence[_Queued]) -> Outcome:
        leader = self._leader
        self._call_number += 1
        outcomes: list[Outcome] | None = None
        failure: Exception | None = None
        try:
            outcomes = self._send(appends, self._call_number)
        except Exception as error:
            failure = error
        finally:
            self._stats.called(len(appends), events)
            self._pass_lead(leader)
            if members:
                self._answer(members, outcomes, failure)
        if failure is not None:
            raise failure
        assert outcomes is not None
        return outcomes[0]

    def _answer(self, members: Sequence[_Queued], outcomes: list[Outcome] | None, failure: Exception | None) -> None:
        """Give the members of a call their outcomes, unless an earlier attempt already began to."""
        if members[0].woken or (members[0].left and members[0].outcome is not None):
            return
        for i, member in enumerate(members, 1):
            if member.outcome is None:
                member.outcome = _failed(failure) if outcomes is None else outcomes[i]
            member.next_to_wake = members[i] if i < len(members) else None
        self._wake(members[0])

    def _pass_lead(self, leader: object) -> None:
        """Wake the next leader first, so that its call is under way while the others wake.

        Does nothing the second time: the interrupted caller may have passed the lead on before.
        """
        with self._mutex:
            if self._leader is not leader:
                return
            if self._queue:
                successor = self._queue.popleft()
                self._dequeued(successor)
                self._leader = successor
                successor.turn.release()
            else:
                self._leader = None
                self._notify_room()

    def close(self) -> None:
        """Refuse new appends and wait, bounded, for those under way. Idempotent."""
        with self._mutex:
            self._closed = True
            self._awaiting_room += 1
            try:
                self._room.wait_for(lambda: self._leader is None, self._deadline_s)
            finally:
                self._awaiting_room -= 1

    def stats(self) -> CommitStats:
        """Counters of this committer."""
        self._stats.pending_events = self._pending_events
        return self._stats

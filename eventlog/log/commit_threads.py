"""Group commit among threads. The thread that finds no call in flight leads: it sends what has gathered, with its own
append first, then hands the lead to a waiting thread. There is no thread of ours, and a lone caller pays one lock."""

import os
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Sequence

from ..errors import BackendUnavailable, EventLogError, LogClosed, Overloaded, failure_for_each
from ..model.log_values import Append, Outcome
from .commit import OVERRUN_S, Bounds, CommitStats, size_of

SendCall = Callable[[Sequence[Append], int], list[Outcome]]


class _Ticket:
    """One caller's append in the queue, and the lock it sleeps on."""

    __slots__ = ("append", "behind", "bytes", "called", "events", "followers", "gone", "outcome", "turn")

    def __init__(self, append: Append, events: int, size: int) -> None:
        self.append = append
        self.events = events
        self.bytes = size
        self.outcome: Outcome | None = None
        self.followers: list[_Ticket] = []  # whose appends go into the call that this ticket leads
        self.behind: _Ticket | None = None  # whom to wake next
        self.called = False
        self.gone = False
        self.turn = threading.Lock()
        self.turn.acquire()


def _failed(failure: Exception | None) -> EventLogError:
    interrupted = "the sending thread was interrupted"
    return failure_for_each(failure or BackendUnavailable(interrupted, outcome_unknown=True))


class ThreadCommitter:
    """Order: appends of one thread are carried out in the order it made them.

    A caller waits at most one deadline for its call to begin, room included, and another for that call to end. One
    that is interrupted anywhere by a signal leaves nobody waiting for it.
    """

    def __init__(self, send: SendCall, bounds: Bounds, deadline_s: float) -> None:
        self._send = send
        self._bounds = bounds
        self._deadline_s = deadline_s
        self._stats = CommitStats()
        self.reset()
        _committers.add(self)

    def reset(self) -> None:
        """Forget what is in flight, as a forked child must: it belongs to the parent."""
        self._mutex = threading.Lock()
        self._room = threading.Condition(self._mutex)
        self._queue: deque[_Ticket] = deque()
        self._leader: object | None = None  # of the call in flight: a ticket, or a token of a caller who found none
        self._closed = False
        self._call_number = 0
        self._outside = 0  # callers for whom there is no room yet
        self._pending_events = 0
        self._pending_bytes = 0

    def submit(self, append: Append) -> Outcome:
        """Append with others; returns this append's own outcome.

        Raises `Overloaded` if there was no room to wait in, `BackendUnavailable` if the outcome is unknown.
        """
        events, size = size_of(append)
        ticket: _Ticket | None = None
        me = object()
        send_until = 0.0
        try:
            with self._mutex:
                if self._closed:
                    raise LogClosed("the log was closed")
                if self._leader is not None:
                    send_until = time.monotonic() + self._deadline_s + OVERRUN_S
                    self._await_room(events, size)
                    if self._leader is not None:
                        ticket = _Ticket(append, events, size)
                        self._queue.append(ticket)
                        self._pending_events += events
                        self._pending_bytes += size
                if ticket is None:
                    self._leader = me
            if ticket is None:
                return self._lead([append], events, ())
            return self._await_turn(ticket, send_until)
        except BaseException:
            self._leave(me if ticket is None else ticket)
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
        self._outside += 1
        try:
            there_is_room = self._room.wait_for(fits, self._deadline_s)
        finally:
            self._outside -= 1
        if not there_is_room:
            self._stats.refused += 1
            raise Overloaded(
                f"{self._pending_events} events wait in this process already (limit {bounds.pending_events}); "
                f"no room within {self._deadline_s:g} s"
            )
        if self._closed:
            raise LogClosed("the log was closed")

    def _await_turn(self, ticket: _Ticket, send_until: float) -> Outcome:
        self._sleep(ticket, send_until)
        if self._leader is not ticket:
            if ticket.behind is not None:
                self._wake(ticket.behind)
            assert ticket.outcome is not None
            return ticket.outcome
        with self._mutex:
            followers = self._take(ticket)
        return self._lead(
            [ticket.append, *(f.append for f in followers)],
            ticket.events + sum(f.events for f in followers),
            followers,
        )

    def _sleep(self, ticket: _Ticket, send_until: float) -> None:
        if ticket.turn.acquire(timeout=max(send_until - time.monotonic(), 0)):
            return
        with self._mutex:
            if self._leader is ticket or ticket in self._queue:
                raise BackendUnavailable(
                    f"the append was not sent: Redis did not answer others within {self._deadline_s:g} s"
                )
        # The call that it is part of ends by a deadline of its own.
        if not ticket.turn.acquire(timeout=self._deadline_s + 1):
            raise BackendUnavailable("the append was sent and not answered", outcome_unknown=True)

    def _leave(self, who: object) -> None:
        """A caller ends with an error, its own or a signal's: do what is left of what others wait for."""
        if isinstance(who, _Ticket):
            with self._mutex:
                who.gone = True
                if who in self._queue:
                    self._queue.remove(who)
                    self._took(who)
            if who.followers:
                self._answer(who.followers, None, None)
            elif who.called and who.behind is not None:
                self._wake(who.behind)
        self._hand_over(who)

    def _wake(self, answered: _Ticket) -> None:
        """Wake the first caller in a line of answered ones who still waits; each wakes the one behind.

        Woken all at once they would stand in line for the interpreter's lock: two switches of threads for each.
        """
        ticket: _Ticket | None = answered
        with self._mutex:
            while ticket is not None and ticket.gone:
                ticket = ticket.behind
            if ticket is not None and not ticket.called:
                ticket.called = True
                ticket.turn.release()

    def _take(self, leader: _Ticket) -> list[_Ticket]:
        """As many waiting tickets as fit into the leader's call."""
        events, size, taken = leader.events, leader.bytes, leader.followers
        while self._queue:
            ticket = self._queue[0]
            events += ticket.events
            size += ticket.bytes
            if events > self._bounds.call_events or size > self._bounds.call_bytes:
                break
            taken.append(self._queue.popleft())
            self._took(ticket)
        return taken

    def _took(self, ticket: _Ticket) -> None:
        self._pending_events -= ticket.events
        self._pending_bytes -= ticket.bytes
        self._tell_outside()

    def _tell_outside(self) -> None:
        if self._outside:
            self._room.notify_all()

    def _lead(self, appends: list[Append], events: int, followers: Sequence[_Ticket]) -> Outcome:
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
            self._hand_over(leader)
            if followers:
                self._answer(followers, outcomes, failure)
        if failure is not None:
            raise failure
        assert outcomes is not None
        return outcomes[0]

    def _answer(self, followers: Sequence[_Ticket], outcomes: list[Outcome] | None, failure: Exception | None) -> None:
        """Give the followers of a call what became of their appends, unless that was begun before."""
        if followers[0].called or (followers[0].gone and followers[0].outcome is not None):
            return
        for i, follower in enumerate(followers, 1):
            if follower.outcome is None:
                follower.outcome = _failed(failure) if outcomes is None else outcomes[i]
            follower.behind = followers[i] if i < len(followers) else None
        self._wake(followers[0])

    def _hand_over(self, leader: object) -> None:
        """Wake the next leader first, so that its call is under way while the others wake. Once only a leader."""
        with self._mutex:
            if self._leader is not leader:
                return
            if self._queue:
                heir = self._queue.popleft()
                self._took(heir)
                self._leader = heir
                heir.turn.release()
            else:
                self._leader = None
                self._tell_outside()

    def close(self) -> None:
        """Refuse new appends and wait, bounded, for those under way. Idempotent."""
        with self._mutex:
            self._closed = True
            self._outside += 1
            try:
                self._room.wait_for(lambda: self._leader is None, self._deadline_s)
            finally:
                self._outside -= 1

    def stats(self) -> CommitStats:
        """Counters of this committer."""
        self._stats.pending_events = self._pending_events
        return self._stats


_committers: "weakref.WeakSet[ThreadCommitter]" = weakref.WeakSet()


def _reset_all() -> None:
    for committer in list(_committers):
        committer.reset()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_reset_all)

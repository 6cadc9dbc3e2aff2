"""Group commit among threads. The thread that finds no call in flight leads: it sends what has gathered, with its own
append first, then hands the lead to a waiting thread. There is no thread of ours, and a lone caller pays one lock."""

import threading
from collections import deque
from collections.abc import Callable, Sequence

from ..backends.base import Append, Outcome
from ..errors import BackendUnavailable, EventLogError, LogClosed, Overloaded
from .batch import Bounds, CommitStats, failure_for_each, size_of

SendCall = Callable[[Sequence[Append], int], list[Outcome]]


class _Ticket:
    """One caller's append in the queue, and the lock it sleeps on."""

    __slots__ = ("append", "behind", "bytes", "called", "events", "gone", "leads", "outcome", "turn")

    def __init__(self, append: Append, events: int, size: int) -> None:
        self.append = append
        self.events = events
        self.bytes = size
        self.outcome: Outcome | None = None
        self.leads = False
        self.behind: _Ticket | None = None  # whom to wake next
        self.called = False
        self.gone = False
        self.turn = threading.Lock()
        self.turn.acquire()


def _failed(failure: Exception | None) -> EventLogError:
    interrupted = "the sending thread was interrupted"
    return failure_for_each(failure or BackendUnavailable(interrupted, outcome_unknown=True))


class ThreadCommitter:
    """Order: appends of one thread are carried out in the order it made them."""

    def __init__(self, send: SendCall, bounds: Bounds, deadline_s: float) -> None:
        self._send = send
        self._bounds = bounds
        self._deadline_s = deadline_s
        self._stats = CommitStats()
        self.reset()

    def reset(self) -> None:
        """Forget what is in flight, as a forked child must: it belongs to the parent."""
        self._mutex = threading.Lock()
        self._room = threading.Condition(self._mutex)
        self._queue: deque[_Ticket] = deque()
        self._busy = False
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
        ticket = None
        with self._mutex:
            if self._closed:
                raise LogClosed("the log was closed")
            if self._busy:
                self._await_room(events, size)
            if self._busy:
                ticket = _Ticket(append, events, size)
                self._queue.append(ticket)
                self._pending_events += events
                self._pending_bytes += size
            else:
                self._busy = True
        if ticket is None:
            return self._lead([append], events, ())
        return self._await_turn(ticket)

    def _await_room(self, events: int, size: int) -> None:
        bounds = self._bounds

        def fits() -> bool:
            return (
                not self._busy
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

    def _await_turn(self, ticket: _Ticket) -> Outcome:
        try:
            self._sleep(ticket)
        except BaseException:
            self._leave(ticket)
            raise
        if not ticket.leads:
            if ticket.behind is not None:
                self._wake(ticket.behind)
            assert ticket.outcome is not None
            return ticket.outcome
        with self._mutex:
            followers = self._take(ticket.events, ticket.bytes)
        return self._lead(
            [ticket.append, *(f.append for f in followers)],
            ticket.events + sum(f.events for f in followers),
            followers,
        )

    def _sleep(self, ticket: _Ticket) -> None:
        # A call ends by its own deadline, and so does the one before it that the ticket may have to wait out.
        if not ticket.turn.acquire(timeout=3 * self._deadline_s + 1):
            with self._mutex:
                if ticket in self._queue:
                    raise Overloaded(f"not sent within {3 * self._deadline_s + 1:g} s")
            if not ticket.turn.acquire(timeout=2 * self._deadline_s + 1):
                raise BackendUnavailable("the append was sent and not answered", outcome_unknown=True)

    def _leave(self, ticket: _Ticket) -> None:
        """A caller gives up (a signal, a deadline): nobody may wait for it to lead."""
        with self._mutex:
            ticket.gone = True
            if ticket in self._queue:
                self._queue.remove(ticket)
                self._took(ticket)
        if ticket.leads:
            self._hand_over()
        elif ticket.called and ticket.behind is not None:
            self._wake(ticket.behind)

    def _wake(self, answered: _Ticket) -> None:
        """Wake the first caller in a line of answered ones who still waits; each wakes the one behind.

        Woken all at once they would stand in line for the interpreter's lock: two switches of threads for each.
        """
        ticket: _Ticket | None = answered
        with self._mutex:
            while ticket is not None and ticket.gone:
                ticket = ticket.behind
            if ticket is not None:
                ticket.called = True
                ticket.turn.release()

    def _take(self, events: int, size: int) -> list[_Ticket]:
        """As many waiting tickets as fit into a call that holds the leader's append already."""
        taken: list[_Ticket] = []
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
        self._call_number += 1
        outcomes: list[Outcome] | None = None
        failure: Exception | None = None
        try:
            outcomes = self._send(appends, self._call_number)
        except Exception as error:
            failure = error
        finally:
            self._stats.called(len(appends), events)
            self._hand_over()
            for i, follower in enumerate(followers, 1):
                follower.outcome = _failed(failure) if outcomes is None else outcomes[i]
                follower.behind = followers[i] if i < len(followers) else None
            if followers:
                self._wake(followers[0])
        if failure is not None:
            raise failure
        assert outcomes is not None
        return outcomes[0]

    def _hand_over(self) -> None:
        """Wake the next leader first, so that its call is under way while the others wake."""
        with self._mutex:
            if self._queue:
                heir = self._queue.popleft()
                self._took(heir)
                heir.leads = True
                heir.turn.release()
            else:
                self._busy = False
                self._tell_outside()

    def close(self) -> None:
        """Refuse new appends and wait, bounded, for those under way. Idempotent."""
        with self._mutex:
            self._closed = True
            self._outside += 1
            try:
                self._room.wait_for(lambda: not self._busy, self._deadline_s)
            finally:
                self._outside -= 1

    def stats(self) -> CommitStats:
        """Counters of this committer."""
        self._stats.pending_events = self._pending_events
        return self._stats

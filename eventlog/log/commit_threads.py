"""Group commit among threads. A caller that finds no call in flight sends its append itself, at the cost of one lock.
What comes meanwhile waits, and a thread of ours sends all that has gathered as one call.

A caller may be cut short at any line by what its signal handler raises, or made to append again from within, by a
signal handler or a finalizer. So no caller ever sends for another, and nothing that others need is left to its
clean-up: locks are held by `with` alone, and what threads share changes by single steps of the interpreter.
"""

import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from types import CodeType, FrameType

from ..errors import BackendUnavailable, LogClosed, Overloaded, failure_for_each
from ..model.log_values import Append, Outcome
from ..plan.forks import call_in_child
from ..plan.threads import Attendant, free, held_lock
from .commit import OVERRUN_S, Bounds, CommitStats, size_of

SendCall = Callable[[Sequence[Append], int], list[Outcome]]
_IDLE_S = 10.0
# The thread that wakes a caller may have been interrupted: how long a caller sleeps before it looks for itself.
_LOOK_S = 0.25
_LINGER_S = 0.002
_SHORT_S = 0.005


class _Writer:
    """Sends one call after another, each under the next number."""

    def __init__(self, send: SendCall) -> None:
        self._send = send
        self._call_number = 0
        self.stats = CommitStats()

    def send(self, appends: Sequence[Append], events: int) -> list[Outcome]:
        self._call_number += 1
        try:
            return self._send(appends, self._call_number)
        finally:
            self.stats.called(len(appends), events)


class _Waiting:
    """One caller's append, and the lock that its thread sleeps on."""

    __slots__ = (
        "append",
        "bytes",
        "claimed",
        "events",
        "left",
        "next_to_wake",
        "outcome",
        "room",
        "send_until",
        "turn",
    )

    def __init__(self, append: Append, events: int, size: int, room: bool, send_until: float) -> None:
        self.append = append
        self.events = events
        self.bytes = size
        self.room = room
        self.send_until = send_until
        self.outcome: Outcome | None = None
        self.next_to_wake: _Waiting | None = None  # answers wake one another in a chain
        self.left = False
        self.claimed = threading.Lock()  # by the one that sends it, or takes it back
        self.turn = held_lock()

    def claim(self) -> bool:
        return self.claimed.acquire(blocking=False)

    def wake_next(self) -> None:
        waiting = self.next_to_wake
        while waiting is not None and waiting.left:
            waiting = waiting.next_to_wake
        if waiting is not None:
            free(waiting.turn)


def _is_within(code: CodeType) -> bool:
    frame: FrameType | None = sys._getframe()
    while frame is not None and frame.f_code is not code:
        frame = frame.f_back
    return frame is not None


class ThreadCommitter:
    """Appends of one thread are carried out in the order in which it made them.

    A caller waits at most one deadline for its call to begin, room included, and another for that call to end.
    `new_writer` gives a function that sends calls of a writer of its own.
    """

    def __init__(self, new_writer: Callable[[], SendCall], bounds: Bounds, deadline_s: float) -> None:
        self._new_writer = new_writer
        self._bounds = bounds
        self._deadline_s = deadline_s
        self._closed = False
        self._refused = 0
        self.reset()
        call_in_child(self.reset)

    def reset(self) -> None:
        """Forget what is in flight: in a forked child it is the parent's."""
        self._writers: list[_Writer] = []
        self._spare: list[_Writer] = []
        self._alone = [(threading.Lock(), self._another_writer()) for _ in range(self._bounds.callers_alone)]
        self._gathering = False
        self._asleep = True
        self._queue: deque[_Waiting] = deque()
        self._gatherer = self._another_writer()
        self._attendant = Attendant(self._send_all, lambda: not self._queue, "eventlog-commit")
        self._together = 0
        self._most_events = self._most_bytes = 0

    def _another_writer(self) -> _Writer:
        writer = _Writer(self._new_writer())
        self._writers.append(writer)
        return writer

    def submit(self, append: Append) -> Outcome:
        """Append with others; returns this append's own outcome.

        Raises `Overloaded` if there was no room to wait in, `BackendUnavailable` if the outcome is unknown.
        """
        if self._closed:
            raise LogClosed("the log was closed")
        if not self._gathering:
            for lock, writer in self._alone:
                if not lock.locked():
                    with lock:
                        return writer.send((append,), len(append.bodies))[0]
        if sys.is_finalizing() or self._attendant.thread is threading.current_thread():
            # There are no other threads any more, or this is a finalizer that runs in ours.
            return self._send_apart(append)
        return self._send_with_others(append)

    def _send_apart(self, append: Append) -> Outcome:
        writer = self._spare.pop() if self._spare else self._another_writer()
        outcome = writer.send((append,), len(append.bodies))[0]
        self._spare.append(writer)
        return outcome

    def _send_with_others(self, append: Append) -> Outcome:
        events, size = size_of(append)
        room = self._has_room(events, size)
        send_until = time.monotonic() + self._deadline_s + (OVERRUN_S if room else 0)
        waiting = _Waiting(append, events, size, room, send_until)
        try:
            self._queue.append(waiting)
            if self._asleep:
                self._attendant.call()
                if self._attendant.thread is None and waiting.claim():
                    # None can be had (any more).
                    return self._send_apart(append)
            if self._deadline_s < _LOOK_S or not waiting.turn.acquire(timeout=_LOOK_S):
                self._await(waiting)
            if waiting.next_to_wake is not None:
                waiting.wake_next()
            assert waiting.outcome is not None
            return waiting.outcome
        except BaseException:
            waiting.left = True
            waiting.claim()
            waiting.wake_next()
            raise

    def _has_room(self, events: int, size: int) -> bool:
        """True if as much as this may wait beside what waits; how much that is is counted only where it may matter."""
        bounds = self._bounds
        if events > self._most_events:
            self._most_events = events
        if size > self._most_bytes:
            self._most_bytes = size
        callers = len(self._queue) + 1
        if callers * self._most_events <= bounds.pending_events and callers * self._most_bytes <= bounds.pending_bytes:
            return True
        waiting = self._pending()
        return not waiting or (
            events + sum(one.events for one in waiting) <= bounds.pending_events
            and size + sum(one.bytes for one in waiting) <= bounds.pending_bytes
        )

    def _await(self, waiting: _Waiting) -> None:
        while True:
            left_s = waiting.send_until - time.monotonic()
            if waiting.turn.acquire(timeout=min(max(left_s, 0.0), _LOOK_S)) or waiting.outcome is not None:
                return
            if left_s <= 0:
                break
            self._attendant.call()
        if waiting.claim():
            self._refuse(waiting.room)
        # The call that it is part of ends by a deadline of its own.
        give_up = time.monotonic() + self._deadline_s + 1
        while not waiting.turn.acquire(timeout=_LOOK_S) and waiting.outcome is None:
            if time.monotonic() > give_up:
                raise BackendUnavailable("the append was sent and not answered", outcome_unknown=True)

    def _refuse(self, room: bool) -> None:
        if room:
            raise BackendUnavailable(
                f"the append was not sent: Redis did not answer others within {self._deadline_s:g} s"
            )
        self._refused += 1
        raise Overloaded(
            f"{self._pending_events()} events wait in this process already (limit {self._bounds.pending_events}); "
            f"no room within {self._deadline_s:g} s"
        )

    def _send_all(self) -> float | None:
        """The work of our thread: call by call, until nothing waits."""
        idle = not (self._queue or self._together)
        self._together = 0
        while self._queue:
            self._gathering, self._asleep = True, False
            self._together = self._send_gathered()
        # Those that were answered together come back together, each within the time that waking it takes.
        self._gathering, self._asleep = self._together > 1, True
        if self._queue:
            return 0
        if self._gathering:
            return _LINGER_S
        return None if idle else _IDLE_S

    def _send_gathered(self) -> int:
        batch = self._take()
        if not batch:
            return 0
        outcomes: list[Outcome]
        try:
            outcomes = self._gatherer.send([one.append for one in batch], sum(one.events for one in batch))
        except Exception as error:
            outcomes = [failure_for_each(error) for _ in batch]
        chain = None
        for waiting, outcome in zip(reversed(batch), reversed(outcomes), strict=True):
            waiting.outcome = outcome
            waiting.next_to_wake = chain
            chain = waiting
        first = batch[0]
        first.wake_next() if first.left else free(first.turn)
        return len(batch)

    def _take(self) -> list[_Waiting]:
        batch: list[_Waiting] = []
        events = size = 0
        while self._queue:
            waiting = self._queue[0]
            events += waiting.events
            size += waiting.bytes
            if batch and (events > self._bounds.call_events or size > self._bounds.call_bytes):
                break
            self._queue.popleft()
            if waiting.claim():
                batch.append(waiting)
        return batch

    def close(self) -> None:
        """Refuse new appends and wait, bounded, for those under way. Idempotent."""
        self._closed = True
        until = time.monotonic() + self._deadline_s
        # What a signal handler closes in the middle of an append does not end before the handler does.
        alone = [] if _is_within(ThreadCommitter.submit.__code__) else [lock for lock, _ in self._alone]
        while (self._gathering or any(lock.locked() for lock in alone)) and time.monotonic() < until:
            time.sleep(_SHORT_S)

    def _pending(self) -> list[_Waiting]:
        return [one for one in tuple(self._queue) if one.room and not one.claimed.locked()]

    def _pending_events(self) -> int:
        return sum(one.events for one in self._pending())

    def stats(self) -> CommitStats:
        """Counters of this committer."""
        total = CommitStats(refused=self._refused, pending_events=self._pending_events())
        for writer in self._writers:
            total.add(writer.stats)
        return total

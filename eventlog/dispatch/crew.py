"""The threads of a dispatcher: a foreman, who hires, watches the clock and speaks, and the workers that he hires.

All are daemons that start with the first call and end when there was nothing to do for a while. Who hands in a call
starts no thread but the foreman, and waits for nobody. Threads sleep on a lock of their own each, which is released to
wake them: unlike a condition, that may be done from a signal handler.
"""

import atexit
import inspect
import logging
import os
import threading
import time
import weakref
from collections.abc import Callable
from functools import partial
from typing import Any

from ..plan.drive import run
from .delivery import BATCH_BYTES, Sink, Verdict, tell_failures
from .inflight import Call, DispatchStats, Inflight, Terms
from .monitor import Monitor
from .notices import Notices, named

_log = logging.getLogger("eventlog")

_IDLE_S = 10.0
"""Threads that had nothing to do for so long end."""


class _Hand:
    """A thread of the crew and how it is woken. Touched within the monitor alone, but for `nap`."""

    def __init__(self, name: str, work: "Callable[[_Hand], None]") -> None:
        self.thread = threading.Thread(target=work, args=(self,), name=name, daemon=True)
        self.calls: list[Call] = []
        self.resting = False
        self._bell = threading.Lock()
        self._bell.acquire()

    def rest(self) -> None:
        """From now on `ring` wakes it; a bell that was not heard is silenced."""
        if not self.resting:
            self._bell.acquire(blocking=False)
            self.resting = True

    def ring(self) -> None:
        """Wake it, once a rest."""
        if self.resting:
            self.resting = False
            self._bell.release()

    def nap(self, seconds: float) -> None:
        """Sleep until somebody rings, at most so long."""
        self._bell.acquire(timeout=seconds)

    @property
    def is_me(self) -> bool:
        """Whether the calling thread is this one."""
        return self.thread.ident == threading.get_ident()


class Crew:
    """Brings calls to `sink` in threads. A call whose time is up is given up: its place is free at once, and its worker
    is replaced, as a thread cannot be stopped. There are never more than twice `max_workers` workers."""

    def __init__(self, sink: Sink, terms: Terms) -> None:
        self._sink = sink
        self.terms = terms
        self._begin()
        self._at_exit = partial(_drain_at_exit, weakref.ref(self))
        # Now, and not when this module is imported: it has to run before what was registered earlier closes the sink.
        atexit.register(self._at_exit)
        _crews.add(self)

    def _begin(self) -> None:
        self._monitor = Monitor()
        self._calls = Inflight(self.terms.capacity)
        self._notices = Notices()
        self._foreman: _Hand | None = None
        self._workers: set[_Hand] = set()
        self._hanging: set[_Hand] = set()
        self._idle: list[_Hand] = []
        self._awaiting_end: list[threading.Lock] = []
        self._busy_at = time.monotonic()

    def begin_anew(self) -> None:
        """Forget threads and calls, as a forked child must: they are its parent's."""
        closed = self._calls.closed
        self._begin()
        if closed:
            self._calls.close()

    def dispatch(self, call: Call) -> None:
        """Take `call` in, or drop it. Waits for nothing."""
        self._monitor.perform(partial(self._admit, call))
        if self._calls.waiting:
            self._ensure_foreman()
        self._speak()

    def _admit(self, call: Call) -> None:
        dropped = self._calls.admit(call)
        if dropped == "shutdown":
            return
        if dropped is not None:
            self._notices.note(dropped)
        if dropped == "full":
            return
        if self._idle:
            self._idle.pop().ring()
        elif self._foreman is not None and self._may_hire():
            self._foreman.ring()

    def refuse(self, error: BaseException) -> None:
        """Count an event that the sink could never take."""
        self._monitor.perform(partial(self._count_refused, error))
        self._speak()

    def _count_refused(self, error: BaseException) -> None:
        if self._calls.refuse() != "shutdown":
            self._notices.note("failed", detail=named(error))

    def stats(self) -> DispatchStats:
        """The counters as they are."""
        return self._monitor.read(lambda: self._calls.stats(len(self._hanging)))

    def retire(self) -> None:
        """Refuse new calls; those in flight go on. Waits for nothing."""
        self._monitor.perform(self._close)

    def _close(self) -> None:
        self._calls.close()
        while self._idle:
            self._idle.pop().ring()
        self._look_for_end()

    def shutdown(self, timeout_s: float, *, wait: bool) -> bool:
        """Refuse new calls, wait until those in flight have ended, and give them up when the time is up.

        True if nothing is in flight any more, and nothing had to be given up for that.
        """
        until = time.monotonic() + timeout_s
        self.retire()
        if not wait or self._is_called_by_hand():
            return not self._calls.in_flight
        if self._calls.waiting and not self._ensure_foreman():
            until = 0.0
        bell = self._monitor.perform(self._await_end)
        if bell is None:
            # A signal handler, in the middle of an act of this thread, which goes on only after it: that one, or the
            # end of the process, sees to the rest.
            return False
        ended = bell.acquire(timeout=max(until - time.monotonic(), 0.0))
        if not ended:
            self._monitor.perform(self._give_up)
        self._speak(all_of_it=True)
        return ended

    def _is_called_by_hand(self) -> bool:
        hands = self._monitor.read(lambda: [*self._workers, *self._hanging, self._foreman])
        return any(hand is not None and hand.is_me for hand in hands)

    def _await_end(self) -> threading.Lock:
        bell = threading.Lock()
        if self._calls.in_flight:
            bell.acquire()
            self._awaiting_end.append(bell)
        return bell

    def _give_up(self) -> None:
        stuck = {worker for worker in self._workers if worker.calls}
        self._workers -= stuck
        self._hanging |= stuck
        count = sum(self._calls.give_up())
        if count:
            self._notices.note("given_up", count)
        self._look_for_end()

    def _look_for_end(self) -> None:
        if self._calls.closed and not self._calls.in_flight:
            while self._awaiting_end:
                self._awaiting_end.pop().release()
            if self._foreman is not None:
                self._foreman.ring()
            if not _exit_began:
                atexit.unregister(self._at_exit)

    def _speak(self, *, all_of_it: bool = False) -> None:
        """Tell what is due, outside the monitor: nobody knows how long a log handler takes."""
        if all_of_it or self._notices.is_due(time.monotonic()):
            text = self._monitor.perform(partial(self._notices.take, time.monotonic(), all_of_it=all_of_it))
            if text is not None:
                _log.warning("event dispatch: %s", text)

    def _may_hire(self) -> bool:
        return (
            len(self._workers) < self._sink.width
            and len(self._workers) + len(self._hanging) < 2 * self.terms.max_workers
        )

    def _ensure_foreman(self) -> bool:
        """Whether there is a foreman, if need be from now on."""
        foreman = self._foreman
        # A signal may have come between the making of a thread and its start.
        if foreman is not None and foreman.thread.is_alive():
            return True
        foreman = self._monitor.perform(partial(self._appoint, foreman))
        if foreman is not None:
            try:
                foreman.thread.start()
            except RuntimeError:
                # No thread can be had, now or, as the interpreter ends, any more. The next call tries again.
                self._monitor.perform(partial(self._resign, foreman))
                return False
        return True

    def _appoint(self, predecessor: _Hand | None) -> _Hand | None:
        if self._foreman is not predecessor:
            return None
        self._busy_at = time.monotonic()
        self._foreman = _Hand("eventlog-dispatch", self._oversee)
        return self._foreman

    def _resign(self, foreman: _Hand) -> None:
        if self._foreman is foreman:
            self._foreman = None

    def _oversee(self, me: _Hand) -> None:
        """What the foreman does."""
        while (hired := self._monitor.perform(partial(self._look_after, me))) is not None:
            for worker in hired:
                self._start(worker)
            self._speak()
            me.nap(self._nap_s())

    def _look_after(self, me: _Hand) -> list[_Hand] | None:
        """Give up what is over its time, and hire whom it takes. None if there is nothing to do any more."""
        now = time.monotonic()
        self._give_up_overdue(now)
        if self._calls.in_flight or self._workers:
            self._busy_at = now
        if self._foreman is not me:
            return None
        if not self._calls.in_flight and (self._calls.closed or now - self._busy_at > _IDLE_S):
            self._foreman = None
            return None
        me.rest()
        if self._calls.waiting and self._idle:
            # Who handed in that call was interrupted before it could wake anybody.
            self._idle.pop().ring()
        return self._hire()

    def _give_up_overdue(self, now: float) -> None:
        late = set(self._calls.overdue(now))
        if late:
            self._notices.note("timed_out", len(late), f"no end within {self.terms.call_timeout_s:g} s")
            stuck = {worker for worker in self._workers if not late.isdisjoint(worker.calls)}
            self._workers -= stuck
            self._hanging |= stuck
            self._look_for_end()

    def _hire(self) -> list[_Hand]:
        hired: list[_Hand] = []
        unmet = self._calls.waiting - sum(not worker.calls for worker in self._workers)
        while len(hired) < unmet and self._may_hire():
            hired.append(_Hand("eventlog-dispatch-worker", self._work))
            self._workers.add(hired[-1])
        return hired

    def _nap_s(self) -> float:
        """No call that begins during the nap is over its time before its end: nobody need wake the foreman for it."""
        now = time.monotonic()
        deadline, due_in = self._monitor.read(lambda: (self._calls.next_deadline, self._notices.due_in(now)))
        return min(
            self.terms.call_timeout_s,
            _IDLE_S,
            _IDLE_S if deadline is None else max(deadline - now, 0.0),
            _IDLE_S if due_in is None else due_in,
        )

    def _start(self, worker: _Hand) -> None:
        try:
            worker.thread.start()
        except RuntimeError:
            # As the interpreter ends no thread can be started, and what came just before would be lost.
            if self._monitor.perform(partial(self._is_needed, worker)):
                self._work(worker, stay=False)

    def _is_needed(self, worker: _Hand) -> bool:
        if len(self._workers) > 1:
            self._workers.discard(worker)
        return worker in self._workers

    def _work(self, me: _Hand, *, stay: bool = True) -> None:
        """What a worker does, until there is nothing to do for a while, or without `stay` until nothing waits."""
        while calls := self._next(me, stay):
            verdicts = self._made(calls)
            if not self._monitor.perform(partial(self._back, me, verdicts)):
                return
            self._speak()

    def _next(self, me: _Hand, stay: bool) -> list[Call]:
        while (calls := self._monitor.perform(partial(self._take, me, stay))) is not None:
            if calls:
                return calls
            me.nap(_IDLE_S)
        return []

    def _take(self, me: _Hand, stay: bool) -> list[Call] | None:
        """What to do next; nothing: rest; None: it is no longer needed."""
        if me not in self._workers:
            return None
        slept_in_vain, me.resting = me.resting, False
        if slept_in_vain:
            self._idle.remove(me)
        deadline = time.monotonic() + self.terms.call_timeout_s
        me.calls = self._calls.take(self._sink.batch_events, BATCH_BYTES, deadline)
        if not me.calls:
            if slept_in_vain or not stay or self._calls.closed:
                self._workers.discard(me)
                return None
            me.rest()
            self._idle.append(me)
        return me.calls

    def _made(self, calls: list[Call]) -> list[Verdict]:
        try:
            verdicts = run(self._sink.deliver(calls, calls[0].deadline), self._use)
        except BaseException as thrown:
            # A sink that asks for the end of its thread, for instance, gets no more than the end of its call.
            verdicts = [thrown] * len(calls)
        tell_failures(calls, verdicts)
        return verdicts

    def _use(self, effect: object) -> Any:
        result = self._sink.use(effect)
        if inspect.iscoroutine(result):
            result.close()
            raise TypeError("the sink is for asyncio: give it to an AsyncEventDispatcher")
        return result

    def _back(self, me: _Hand, verdicts: list[Verdict]) -> bool:
        """A worker comes back from its calls. Whether it may go on."""
        calls, me.calls = me.calls, []
        if me not in self._workers and me not in self._hanging:
            # Of a process that was forked by the sink: these calls are its parent's.
            return False
        for call, error in zip(calls, verdicts, strict=True):
            if self._calls.settle(call, delivered=error is None) and error is not None:
                self._notices.note("failed", detail=named(error))
        self._look_for_end()
        if me in self._hanging:
            self._hanging.discard(me)
            if len(self._workers) >= self._sink.width:
                return False
            self._workers.add(me)
        return True


_crews: "weakref.WeakSet[Crew]" = weakref.WeakSet()
_exit_began: list[float] = []


def _drain_at_exit(crew_ref: "weakref.ref[Crew]") -> None:
    """However many dispatchers there are, the process ends within the longest of their time-outs."""
    now = time.monotonic()
    _exit_began.append(now)
    crew = crew_ref()
    if crew is not None:
        crew.shutdown(max(crew.terms.drain_timeout_s - (now - _exit_began[0]), 0.0), wait=True)


def _begin_all_anew() -> None:
    for crew in list(_crews):
        crew.begin_anew()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_all_anew)

"""The tasks of an asyncio dispatcher: as many workers as there is work for, on the event loop that it belongs to.

Calls come in from any thread; all else happens on the loop.
"""

import asyncio
import inspect
import logging
import os
import time
import weakref
from functools import partial
from typing import Any

from ..plan.drive import arun
from .delivery import BATCH_BYTES, Sink, Verdict, tell_failures
from .inflight import Call, DispatchStats, Inflight, Terms
from .monitor import Monitor
from .notices import Notices, named

_log = logging.getLogger("eventlog")

_GRACE_S = 0.5
"""Tasks that were cancelled have so long to clean up before `shutdown` returns."""

Attempt = asyncio.Task[list[Verdict]]


class Pump:
    """Brings calls to `sink` in tasks. A call whose time is up is cancelled, and its place is free at once. One that
    does not let itself be cancelled goes on by itself; with those, there are never more than twice `max_workers`."""

    def __init__(self, sink: Sink, terms: Terms) -> None:
        self.terms = terms
        self._sink = sink
        self._begin()
        self.bind()
        _pumps.add(self)

    def _begin(self) -> None:
        self._monitor = Monitor()
        self._calls = Inflight(self.terms.capacity)
        self._notices = Notices()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._turn_is_due = False
        self._workers: set[asyncio.Task[None]] = set()
        self._attempts: dict[Attempt, list[Call]] = {}
        self._hanging: set[Attempt] = set()
        self._awaiting_end: list[asyncio.Future[None]] = []

    def begin_anew(self) -> None:
        """Forget loop and calls, as a forked child must: they are its parent's."""
        closed = self._calls.closed
        self._begin()
        if closed:
            self._calls.close()

    def bind(self) -> None:
        """Belong to the running event loop, if there is one and it belongs to none."""
        if self._loop is None:
            try:
                self._loop = asyncio.get_running_loop()
            except RuntimeError:
                return
            self._wake()

    def dispatch(self, call: Call) -> None:
        """Take `call` in, or drop it; from any thread. Waits for nothing."""
        self.bind()
        self._monitor.perform(partial(self._admit, call))
        self._wake()
        self._speak()

    def _admit(self, call: Call) -> None:
        dropped = self._calls.admit(call)
        if dropped is not None and dropped != "shutdown":
            self._notices.note(dropped)

    def refuse(self, error: BaseException) -> None:
        """Count an event that the sink could never take."""
        self._monitor.perform(partial(self._count_refused, error))
        self._speak()

    def _count_refused(self, error: BaseException) -> None:
        if self._calls.refuse() != "shutdown":
            self._notices.note("failed", detail=named(error))

    def stats(self) -> DispatchStats:
        """The counters as they are."""
        self._wake()
        return self._monitor.read(lambda: self._calls.stats(len(self._hanging)))

    def _wake(self) -> None:
        """Let the loop look after what waits, once until it has. What waits for a loop that is closed is given up."""
        loop = self._loop
        if loop is None or not self._calls.in_flight:
            return
        try:
            if loop.is_closed():
                raise RuntimeError("the loop was closed")
            if self._calls.waiting and not self._turn_is_due:
                self._turn_is_due = True
                # On the loop's own thread too: a signal handler may be calling, and the loop asleep.
                loop.call_soon_threadsafe(self._turn)
        except RuntimeError:
            self._monitor.perform(self._give_up)
            self._speak(all_of_it=True)

    def _turn(self) -> None:
        self._turn_is_due = False
        self._employ()

    def _employ(self) -> None:
        """Begin as many workers as there is work for."""
        unmet = -(-self._calls.waiting // self._sink.batch_events)
        while unmet > 0 and len(self._workers) < self._sink.width and self._may_begin:
            worker = asyncio.create_task(self._work(), name="eventlog-dispatch-worker")
            self._workers.add(worker)
            worker.add_done_callback(self._left)
            unmet -= 1

    @property
    def _may_begin(self) -> bool:
        return len(self._attempts) < 2 * self.terms.max_workers

    async def _work(self) -> None:
        """Bring calls to the sink until none waits."""
        while self._may_begin and (calls := self._monitor.perform(self._take)):
            await self._make(calls)
            self._speak()

    def _left(self, worker: asyncio.Task[None]) -> None:
        self._workers.discard(worker)
        self._look_for_end()
        self._speak()

    def _take(self) -> list[Call]:
        deadline = time.monotonic() + self.terms.call_timeout_s
        return self._calls.take(self._sink.batch_events, BATCH_BYTES, deadline)

    async def _make(self, calls: list[Call]) -> None:
        attempt: Attempt = asyncio.create_task(self._deliver(calls), name="eventlog-dispatch-call")
        self._attempts[attempt] = calls
        attempt.add_done_callback(self._ended)
        try:
            await asyncio.wait([attempt], timeout=self.terms.call_timeout_s)
        except asyncio.CancelledError:
            # The loop comes to its end: nothing new is to begin on it.
            self._monitor.perform(self._give_up)
            self._abandon(attempt)
            raise
        if not attempt.done():
            self._monitor.perform(partial(self._time_out, calls))
            self._abandon(attempt)

    def _abandon(self, attempt: Attempt) -> None:
        attempt.cancel()
        self._hanging.add(attempt)

    async def _deliver(self, calls: list[Call]) -> list[Verdict]:
        verdicts = await arun(self._sink.deliver(calls, calls[0].deadline), self._use)
        tell_failures(calls, verdicts)
        return verdicts

    async def _use(self, effect: object) -> Any:
        result = self._sink.use(effect)
        return await result if inspect.isawaitable(result) else result

    def _time_out(self, calls: list[Call]) -> None:
        late = sum(self._calls.expire(call) for call in calls)
        self._notices.note("timed_out", late, f"no end within {self.terms.call_timeout_s:g} s")

    def _ended(self, attempt: Attempt) -> None:
        """An attempt came to its end, in time or long after."""
        calls = self._attempts.pop(attempt)
        hung = attempt in self._hanging
        self._hanging.discard(attempt)
        if not (hung and attempt.cancelled()):
            self._monitor.perform(partial(self._settle, calls, _verdicts_of(attempt, calls)))
        self._look_for_end()
        if hung:
            self._wake()

    def _settle(self, calls: list[Call], verdicts: list[Verdict]) -> None:
        for call, error in zip(calls, verdicts, strict=True):
            if self._calls.settle(call, delivered=error is None) and error is not None:
                self._notices.note("failed", detail=named(error))

    def _look_for_end(self) -> None:
        if not self._calls.in_flight:
            while self._awaiting_end:
                ended = self._awaiting_end.pop()
                if not ended.done():
                    ended.set_result(None)

    async def shutdown(self, timeout_s: float, *, wait: bool) -> bool:
        """Refuse new calls, wait until those in flight have ended, and give them up when the time is up.

        True if nothing is in flight any more, and nothing had to be given up for that.
        """
        self._monitor.perform(self._calls.close)
        self.bind()
        loop = self._loop
        assert loop is not None
        if loop.is_closed():
            in_time = not self._calls.in_flight
            self._wake()
            return in_time
        if loop is not asyncio.get_running_loop():
            there = asyncio.run_coroutine_threadsafe(self.shutdown(timeout_s, wait=wait), loop)
            return await asyncio.wrap_future(there)
        self._employ()
        if not wait or asyncio.current_task() in self._attempts:
            return not self._calls.in_flight
        in_time = await self._drained(timeout_s)
        if not in_time:
            self._monitor.perform(self._give_up)
            self._look_for_end()
        await self._end_tasks()
        self._speak(all_of_it=True)
        return in_time

    async def _drained(self, timeout_s: float) -> bool:
        if self._calls.in_flight:
            ended = asyncio.get_running_loop().create_future()
            self._awaiting_end.append(ended)
            await asyncio.wait([ended], timeout=timeout_s)
        return not self._calls.in_flight

    async def _end_tasks(self) -> None:
        """Workers with nothing to do end by themselves; what still runs by now is nothing anybody waits for."""
        for attempt in list(self._attempts):
            self._abandon(attempt)
        left = [*self._workers, *self._attempts]
        if left:
            await asyncio.wait(left, timeout=_GRACE_S)

    def _give_up(self) -> None:
        count = sum(self._calls.give_up())
        if count:
            self._notices.note("given_up", count)

    def _speak(self, *, all_of_it: bool = False) -> None:
        """Tell what is due, outside the monitor: nobody knows how long a log handler takes."""
        if all_of_it or self._notices.is_due(time.monotonic()):
            text = self._monitor.perform(partial(self._notices.take, time.monotonic(), all_of_it=all_of_it))
            if text is not None:
                _log.warning("event dispatch: %s", text)


def _verdicts_of(attempt: Attempt, calls: list[Call]) -> list[Verdict]:
    error = asyncio.CancelledError() if attempt.cancelled() else attempt.exception()
    return attempt.result() if error is None else [error] * len(calls)


_pumps: "weakref.WeakSet[Pump]" = weakref.WeakSet()


def _begin_all_anew() -> None:
    for pump in list(_pumps):
        pump.begin_anew()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_all_anew)

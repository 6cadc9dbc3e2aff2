"""Keeps what is held: a thread, or a task, renews every lease, and gives back what could not be given back.

It starts with the first slot, and is woken only where something falls due before it would look anyway.
"""

import asyncio
import contextlib
import math
import threading
from collections.abc import Awaitable, Callable, Sequence

from ..errors import EventLogError
from ..plan.threads import Attendant
from .acts import Act, Answer, Release
from .holding import Holding
from .lease_schedule import LeaseSchedule
from .request import moment

# It naps no longer than this, so that a new slot, which is due after that, need not wake it, and its holder goes on at
# once. It ends when nothing was held for a while.
_NAP_S = 0.5
_IDLE_S = 10.0
_LAST_CALL_S = 1.0

Perform = Callable[[Sequence[Act], float], Sequence[Answer]]
"""Carry out acts within so many seconds."""

AsyncPerform = Callable[[Sequence[Act], float], Awaitable[Sequence[Answer]]]


class Keeper:
    """Renews `Holding`s until they are dropped. Its thread is a daemon, and ends when there is nothing to keep.

    Each call is safe in signal handlers and finalizers: they only note what the thread is to do.
    """

    def __init__(self, perform: Perform) -> None:
        self._perform = perform
        self._closed = False
        self.reset()

    def reset(self) -> None:
        """Forget everything, as a forked child must: the slots are its parent's."""
        self._schedule = LeaseSchedule()
        self.attendant = Attendant(self._work, self._is_idle, "eventlog-slots")
        self._looks_at = self._busy_at = 0.0

    def keep(self, holding: Holding) -> None:
        """Renew this slot from now on."""
        self._schedule.keep(holding)
        self._look_at(holding.renew_at)

    def drop(self, holding: Holding) -> None:
        """Renew this slot no longer."""
        self._schedule.drop(holding)

    def owe(self, release: Release) -> None:
        """Give a slot back, or leave a line, as soon as Redis can be reached; for a minute at most."""
        self._schedule.owe(release)
        self._look_at(moment())

    def _look_at(self, at: float) -> None:
        if self._closed:
            return
        if at < self._looks_at:
            self.attendant.call()
        else:
            self.attendant.see_to_it()

    def _is_idle(self) -> bool:
        return self._closed or self._schedule.is_empty

    def _work(self) -> float | None:
        now = moment()
        if not self._schedule.is_empty:
            self._busy_at = now
        if self._closed or now - self._busy_at > _IDLE_S:
            return None
        # Whatever comes from here on is seen below, or calls.
        self._looks_at = math.inf
        acts, within_s = self._schedule.due()
        for holding in self._carry_out(acts, within_s) if acts else ():
            # A notice may take its time (end a process, say): other leases do not wait for it, the process does.
            threading.Thread(target=holding.lose, name="eventlog-slots-lost", daemon=False).start()
        self._looks_at = min(self._schedule.next_at(), moment() + _NAP_S)
        return max(self._looks_at - moment(), 0.0)

    def _carry_out(self, acts: list[Act], within_s: float) -> list[Holding]:
        try:
            answers = self._perform(acts, within_s)
        except Exception as error:
            return self._schedule.failed(error)
        return self._schedule.answered(acts, answers)

    def close(self) -> None:
        """Keep nothing any more, and owe nothing: what is still held ends with its lease. Idempotent."""
        self._closed = True
        self._schedule.clear()
        if self.attendant.thread is not None:
            self.attendant.call()


class TaskKeeper:
    """The asyncio twin of `Keeper`: its task runs only while there is something to keep."""

    def __init__(self, perform: AsyncPerform) -> None:
        self._perform = perform
        self._schedule = LeaseSchedule()
        self._looks_at = 0.0
        self._look = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._closed = False

    def keep(self, holding: Holding) -> None:
        """Renew this slot until it is dropped."""
        self._schedule.keep(holding)
        self._look_at(holding.renew_at)

    def drop(self, holding: Holding) -> None:
        """Renew this slot no longer."""
        self._schedule.drop(holding)

    def owe(self, release: Release) -> None:
        """Give a slot back, or leave a line, as soon as Redis can be reached; for a minute at most."""
        self._schedule.owe(release)
        self._look_at(moment())

    def _look_at(self, at: float) -> None:
        if self._closed:
            return
        if self._task is None:
            self._looks_at = at
            self._task = asyncio.create_task(self._run(), name="eventlog-slots-keep")
        elif at < self._looks_at:
            self._looks_at = at
            self._look.set()

    async def _run(self) -> None:
        try:
            while True:
                while (left_s := self._looks_at - moment()) > 0:
                    self._look.clear()
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(left_s):
                            await self._look.wait()
                if self._schedule.is_empty:
                    return
                acts, within_s = self._schedule.due()
                for holding in await self._carry_out(acts, within_s) if acts else ():
                    holding.lose()
                self._looks_at = self._schedule.next_at()
        finally:
            self._task = None

    async def _carry_out(self, acts: list[Act], within_s: float) -> list[Holding]:
        try:
            answers = await self._perform(acts, within_s)
        except Exception as error:
            return self._schedule.failed(error)
        return self._schedule.answered(acts, answers)

    async def close(self) -> None:
        """Give back what is owed, if that can be done within a second; what is still held ends with its lease."""
        self._closed = True
        if debts := self._schedule.debts:
            with contextlib.suppress(EventLogError):
                await self._perform(debts, _LAST_CALL_S)
        self._schedule.clear()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

"""Keeps what is held: a thread, or a task, renews every lease, and gives back what could not be given back.

It starts with the first slot, and is woken only where something falls due before it would look anyway.
"""

import asyncio
import contextlib
import threading
from collections.abc import Awaitable, Callable, Sequence

from ..errors import EventLogError
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
    """Renews `Holding`s until they are dropped. Its thread is a daemon, and ends when there is nothing to keep."""

    def __init__(self, perform: Perform) -> None:
        self._perform = perform
        self._closed = False
        self.reset()

    def reset(self) -> None:
        """Forget everything, as a forked child must: the slots are its parent's."""
        self._changed = threading.Condition()
        self._schedule = LeaseSchedule()
        self._thread: threading.Thread | None = None
        self._looks_at = 0.0

    def keep(self, holding: Holding) -> None:
        """Renew this slot from now on."""
        with self._changed:
            self._schedule.keep(holding)
            self._look_at(holding.renew_at)

    def drop(self, holding: Holding) -> None:
        """Renew this slot no longer."""
        with self._changed:
            self._schedule.drop(holding)

    def owe(self, release: Release) -> None:
        """Give a slot back, or leave a line, as soon as Redis can be reached; for a minute at most."""
        with self._changed:
            self._schedule.owe(release)
            self._look_at(moment())

    def _look_at(self, at: float) -> None:
        if self._closed:
            return
        # A signal may have come between the making of a thread and its start.
        if self._thread is None or not self._thread.is_alive():
            self._looks_at = at
            self._thread = threading.Thread(target=self._run, name="eventlog-slots", daemon=True)
            self._thread.start()
        elif at < self._looks_at:
            self._looks_at = at
            self._changed.notify_all()

    def _run(self) -> None:
        busy_at = moment()
        while True:
            with self._changed:
                while (left_s := self._looks_at - moment()) > 0:
                    self._changed.wait(left_s)
                now = moment()
                if not self._schedule.is_empty:
                    busy_at = now
                if self._closed or now - busy_at > _IDLE_S:
                    self._thread = None
                    return
                acts, within_s = self._schedule.due()
            for holding in self._carry_out(acts, within_s) if acts else ():
                # A notice may take its time (end a process, say): other leases do not wait for it, the process does.
                threading.Thread(target=holding.lose, name="eventlog-slots-lost", daemon=False).start()
            with self._changed:
                self._looks_at = min(self._schedule.next_at(), moment() + _NAP_S)

    def _carry_out(self, acts: list[Act], within_s: float) -> list[Holding]:
        try:
            answers = self._perform(acts, within_s)
        except Exception as error:
            with self._changed:
                return self._schedule.failed(error)
        with self._changed:
            return self._schedule.answered(acts, answers)

    def close(self) -> None:
        """Keep nothing any more, and owe nothing: what is still held ends with its lease. Idempotent."""
        with self._changed:
            self._closed = True
            self._schedule.clear()
            self._looks_at = 0.0
            self._changed.notify_all()


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

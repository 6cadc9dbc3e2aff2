"""Keeps the slots of blocking callers: one thread renews every lease, and gives back what could not be given back.

It starts with the first slot, and is woken only where something falls due before it would look anyway.
"""

import threading
from collections.abc import Callable, Sequence

from .acts import Act, Answer, Release
from .holding import Holding
from .roster import Roster, tell_lost
from .terms import moment

# It naps no longer than this, so that a new slot, which is due after that, need not wake it, and whoever has waited for
# the slot goes on at once. It ends when nothing was held for a while.
_NAP_S = 0.5
_IDLE_S = 10.0

Perform = Callable[[Sequence[Act], float], list[Answer]]
"""Carry out acts within so many seconds."""


class Keeper:
    """Renews `Holding`s until they are dropped. Its thread is a daemon, and ends when there is nothing to keep."""

    def __init__(self, perform: Perform) -> None:
        self._perform = perform
        self._closed = False
        self.reset()

    def reset(self) -> None:
        """Forget everything, as a forked child must: the slots are its parent's."""
        self._changed = threading.Condition()
        self._roster = Roster()
        self._thread: threading.Thread | None = None
        self._looks_at = 0.0

    def keep(self, holding: Holding) -> None:
        """Renew this slot from now on."""
        with self._changed:
            self._roster.keep(holding)
            self._look_at(holding.renew_at)

    def drop(self, holding: Holding) -> None:
        """Renew this slot no longer."""
        with self._changed:
            self._roster.drop(holding)

    def owe(self, release: Release) -> None:
        """Give a slot back, or leave a line, as soon as Redis can be reached; for a minute at most."""
        with self._changed:
            self._roster.owe(release)
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
                if not self._roster.is_empty:
                    busy_at = now
                if self._closed or now - busy_at > _IDLE_S:
                    self._thread = None
                    return
                acts, within_s = self._roster.due()
            for holding in self._carry_out(acts, within_s) if acts else ():
                # A notice may take its time (end a process, say): other leases do not wait for it, the process does.
                threading.Thread(target=tell_lost, args=([holding],), name="eventlog-slots-lost", daemon=False).start()
            with self._changed:
                self._looks_at = min(self._roster.next_at(), moment() + _NAP_S)

    def _carry_out(self, acts: list[Act], within_s: float) -> list[Holding]:
        try:
            answers = self._perform(acts, within_s)
        except Exception as error:
            with self._changed:
                return self._roster.failed(error)
        with self._changed:
            return self._roster.answered(acts, answers)

    def close(self) -> None:
        """Keep nothing any more, and owe nothing: what is still held ends with its lease. Idempotent."""
        with self._changed:
            self._closed = True
            self._roster.clear()
            self._looks_at = 0.0
            self._changed.notify_all()

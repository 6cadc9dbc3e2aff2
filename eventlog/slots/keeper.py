"""Keeps the slots of a process alive: one thread renews every lease, and gives back what could not be given back.

It starts with the first slot and is woken only where something falls due earlier than it would look anyway.
"""

import logging
import threading
from collections.abc import Callable, Sequence

from ..errors import EventLogError
from .acts import Act, Answer, Release
from .holding import Holding
from .terms import moment

_log = logging.getLogger("eventlog")

Perform = Callable[[Sequence[Act], float], list[Answer]]
"""Carry out acts within so many seconds."""

_RETRY_S = 0.2
_LONGEST_CALL_S = 2.0
_DEBT_S = 60.0


class Keeper:
    """Renews `Holding`s until they are dropped. Its thread is a daemon, and ends when there is nothing to keep."""

    def __init__(self, perform: Perform) -> None:
        self._perform = perform
        self.reset()

    def reset(self) -> None:
        """Forget everything, as a forked child must: the slots are its parent's."""
        self._changed = threading.Condition()
        self._holdings: set[Holding] = set()
        self._debts: dict[Release, float] = {}
        self._thread: threading.Thread | None = None
        self._looks_at = 0.0

    def keep(self, holding: Holding) -> None:
        """Renew this slot from now on."""
        with self._changed:
            self._holdings.add(holding)
            self._due(holding.renew_at)

    def drop(self, holding: Holding) -> None:
        """Renew this slot no longer."""
        with self._changed:
            self._holdings.discard(holding)

    def owe(self, release: Release) -> None:
        """Give a slot back, or leave a line, as soon as Redis can be reached; for a minute at most."""
        with self._changed:
            self._debts[release] = moment() + _DEBT_S
            self._due(moment())

    def _due(self, at: float) -> None:
        if self._thread is None:
            self._looks_at = at
            self._thread = threading.Thread(target=self._run, name="eventlog-slots", daemon=True)
            self._thread.start()
        elif at < self._looks_at:
            self._looks_at = at
            self._changed.notify_all()

    def _run(self) -> None:
        while True:
            with self._changed:
                while (left_s := self._looks_at - moment()) > 0:
                    self._changed.wait(left_s)
                if not self._holdings and not self._debts:
                    self._thread = None
                    return
                now = moment()
                due = [holding for holding in self._holdings if holding.renew_at <= now]
                debts = [release for release, until in self._debts.items() if until > now]
                self._debts = {release: self._debts[release] for release in debts}
            try:
                self._look(due, debts)
            except Exception:
                # What is kept must stay kept, whatever a caller's notice did.
                _log.exception("keeping slots failed; it goes on")
            with self._changed:
                ats = [holding.renew_at for holding in self._holdings] + [now + _RETRY_S for _ in self._debts]
                self._looks_at = min(ats, default=now + _DEBT_S)

    def _look(self, due: list[Holding], debts: list[Release]) -> None:
        if not due and not debts:
            return
        asked_at = moment()
        ends = min((holding.valid_until for holding in due), default=asked_at + _LONGEST_CALL_S)
        acts: list[Act] = [*(holding.renewal() for holding in due), *debts]
        try:
            answers = self._perform(acts, min(max(ends - asked_at, 0.05), _LONGEST_CALL_S))
        except EventLogError as error:
            _log.warning("slots cannot be renewed right now: %s", error)
            self._put_off(due)
            return
        for holding, answer in zip(due, answers, strict=False):
            if not holding.renewed(answer, asked_at):
                self.drop(holding)
        with self._changed:
            for release in debts:
                self._debts.pop(release, None)

    def _put_off(self, due: list[Holding]) -> None:
        for holding in due:
            if moment() >= holding.valid_until:
                self.drop(holding)
                holding.lose()
            else:
                holding.renew_at = min(moment() + _RETRY_S, holding.valid_until)

    def close(self) -> None:
        """Keep nothing any more. Idempotent."""
        with self._changed:
            self._holdings.clear()
            self._debts.clear()
            if self._thread is not None:
                self._looks_at = 0.0
                self._changed.notify_all()

"""Which leases to renew, and which slots to give back, next. Pure bookkeeping; a thread or a task acts upon it."""

import logging
from collections.abc import Sequence

from .acts import Act, Answer, Release
from .holding import Holding
from .request import moment

_log = logging.getLogger("eventlog")

_RETRY_S = 0.2
_LONGEST_CALL_S = 2.0
_DEBT_S = 60.0
_IDLE_S = 60.0


class LeaseSchedule:
    """What is held, and what is owed: releases that could not be made yet.

    `keep`, `drop` and `owe` may come in the middle of anything else here, from another thread or a signal handler.
    """

    def __init__(self) -> None:
        self._holdings: set[Holding] = set()
        self._debts: dict[Release, float] = {}
        self._due: list[Holding] = []
        self._asked_at = 0.0
        self._retry_at = 0.0

    @property
    def is_empty(self) -> bool:
        """True if there is nothing to do, now or later."""
        return not self._holdings and not self._debts

    @property
    def debts(self) -> list[Act]:
        """The releases that are owed."""
        return list(self._debts)

    def keep(self, holding: Holding) -> None:
        """Renew this slot from now on."""
        self._holdings.add(holding)

    def drop(self, holding: Holding) -> None:
        """Renew this slot no longer."""
        self._holdings.discard(holding)
        if holding in self._due:
            # Its renewal is under way, and may come after the release, to a Redis that has lost its data before.
            holding.acquisition.doubtful = True

    def owe(self, release: Release) -> None:
        """Give a slot back, or leave a line, as soon as Redis can be reached; for a minute at most."""
        self._debts[release] = moment() + _DEBT_S

    def clear(self) -> None:
        """Forget everything."""
        self._holdings.clear()
        self._debts.clear()

    def next_at(self) -> float:
        """When there is something to do."""
        ats = [holding.renew_at for holding in list(self._holdings)]
        if self._debts:
            ats.append(self._retry_at)
        return min(ats, default=moment() + _IDLE_S)

    def due(self) -> tuple[list[Act], float]:
        """What to do now, and within how many seconds. Then `answered` or `failed` is to be called."""
        now = self._asked_at = moment()
        self._due = [holding for holding in list(self._holdings) if holding.renew_at <= now]
        self._due = [holding for holding in self._due if holding in self._holdings]  # none that is dropped just now
        for release in list(self._debts):
            if self._debts.get(release, 0.0) <= now:
                self._debts.pop(release, None)
        ends = min((holding.valid_until for holding in self._due), default=now + _LONGEST_CALL_S)
        acts: list[Act] = [*(holding.renewal() for holding in self._due), *self._debts]
        return acts, min(max(ends - now, 0.05), _LONGEST_CALL_S)

    def answered(self, acts: Sequence[Act], answers: Sequence[Answer]) -> list[Holding]:
        """Take up the answers; returns what was lost."""
        lost = []
        due, self._due = self._due, []
        for holding, answer in zip(due, answers, strict=False):
            if not holding.renewed(answer, self._asked_at):
                self.drop(holding)
                lost.append(holding)
        for act in acts:
            if isinstance(act, Release):
                self._debts.pop(act, None)
        return lost

    def failed(self, error: Exception) -> list[Holding]:
        """Nobody answered: try again soon. Returns what has run out meanwhile."""
        _log.warning("slots cannot be renewed right now: %s", error)
        now = moment()
        self._retry_at = now + _RETRY_S
        lost = []
        due, self._due = self._due, []
        for holding in due:
            # A copy of the renewal may come late: after the release, to a Redis that has lost its data meanwhile.
            holding.acquisition.doubtful = True
            if now >= holding.valid_until:
                self.drop(holding)
                lost.append(holding)
            else:
                holding.renew_at = min(now + _RETRY_S, holding.valid_until)
        return lost

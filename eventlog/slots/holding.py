"""What a holder knows of its slot, whatever the colour, and how the slot is renewed and given back: plans."""

import logging
import os
import threading
from collections.abc import Callable
from typing import Any, Protocol

from ..errors import LeaseLost
from ..plan.effects import Plan
from ..plan.forks import OfOneProcess
from .acts import Granted, Release, Released, Renew
from .operations import SlotOperations
from .request import Acquisition, checked_lease, moment
from .waiting import Grant, valid_until

_log = logging.getLogger("eventlog")
# The thread that keeps a slot and the one that uses it may find out at the same time.
_losing = threading.Lock()


class Renewing(Protocol):
    """Renews leases until they are dropped, and gives back what is owed (`keeper.py`)."""

    def drop(self, holding: "Holding", /) -> None: ...

    def owe(self, release: Release, /) -> None: ...


class Queues(Protocol):
    """What a slot needs of the queues that it is from."""

    @property
    def operations(self) -> SlotOperations: ...

    @property
    def keeper(self) -> Renewing: ...


class Holding(OfOneProcess):
    """A slot in the hands of its holder: the token, and until when it is certain to be held.

    `valid` is a promise on this side alone: False the moment the lease could have ended, even if nobody could be asked.
    What the slot protects should all the same refuse a fencing token that is lower than one it has seen.
    """

    def __init__(
        self, queues: Queues, acquisition: Acquisition, grant: Grant, on_lost: Callable[[Any], None] | None
    ) -> None:
        self._operations = queues.operations
        self._keeper = queues.keeper
        self.acquisition = acquisition
        self.fencing_token = grant.fence
        self.waited_s = grant.waited_s
        self.lease_s = grant.lease_s
        self.valid_until = grant.valid_until
        self.released = False
        self._on_lost = on_lost
        self._lost = False
        self._pid = os.getpid()
        self.renew_next(moment())
        queues.operations.log_limit(acquisition)

    @property
    def action(self) -> str:
        """The action whose slot it is."""
        return self.acquisition.queue.partition("/")[0]

    @property
    def group_key(self) -> str | None:
        """The group, if the slot is of one."""
        return self.acquisition.queue.partition("/")[2] or None

    @property
    def execution_id(self) -> str:
        """The holder's name."""
        return self.acquisition.execution_id

    @property
    def max_concurrent(self) -> int | None:
        """How many may hold a slot, as it was when this one was asked for; None: any number."""
        return self.acquisition.limit

    @property
    def warning(self) -> str | None:
        """Why the number that was asked for does not count, None if it does: another was named before."""
        return self.acquisition.warning

    @property
    def expires_in_s(self) -> float:
        """For how long the slot is certain to be held if nothing renews it; 0 if it is not."""
        return 0.0 if self.released or self._lost else max(0.0, self.valid_until - moment())

    @property
    def valid(self) -> bool:
        """True while the slot is certain to be held."""
        return self.expires_in_s > 0

    @property
    def lost(self) -> bool:
        """True once the lease has ended without a release of ours."""
        return self._lost or (not self.released and moment() >= self.valid_until)

    def raise_if_lost(self) -> None:
        """Raise `LeaseLost` if the slot is no longer held."""
        if self.lost:
            raise LeaseLost(self.acquisition.queue, self.execution_id)

    @property
    def is_ours(self) -> bool:
        """False in a forked child: the slot is its parent's."""
        return self._pid == os.getpid()

    def _renewing(self, lease_s: float | None) -> Plan[None]:
        asked_at = moment()
        try:
            reply = yield from self._operations.carry_out(self.renewal(lease_s))
        except BaseException:
            self.acquisition.doubtful = True
            raise
        if not self.renewed(reply.answer, asked_at):
            self._keeper.drop(self)
            self.lose()
            raise LeaseLost(self.acquisition.queue, self.execution_id)

    def _releasing(self) -> Plan[bool]:
        if self.released or not self.is_ours:
            return False
        lost = self.lost
        if lost:
            self.lose()
        self.released = True
        try:
            self._keeper.drop(self)
            if lost:
                # Where only its renewals went unanswered, the lease may run on: nobody has to wait here for its end.
                self._keeper.owe(self.release_act())
                return False
            reply = yield from self._operations.carry_out(self.release_act())
            # Where the reply was lost, the first copy of the call did it.
            return isinstance(reply.answer, Released) or reply.repeated
        except BaseException:
            # Also where a signal or a cancellation cut it short: it will be given back, and not be renewed until then.
            self.acquisition.doubtful = True
            self.abandon()
            raise

    def abandon(self) -> None:
        """Have the slot given back in the background, now or as soon as that can be done."""
        self.released = True
        self._keeper.drop(self)
        self._keeper.owe(self.release_act())

    def renewal(self, lease_s: float | None = None) -> Renew:
        """The act that renews the lease; checks a new length."""
        if lease_s is not None:
            self.lease_s = checked_lease(lease_s)
        place = self.acquisition
        return Renew(place.queue, place.execution_id, place.nonce, round(self.lease_s * 1000), self.fencing_token)

    def release_act(self) -> Release:
        """The act that gives the slot back."""
        return self._operations.release_act(self.acquisition, self.fencing_token)

    def renewed(self, answer: object, asked_at: float) -> bool:
        """Take up the answer to a renewal; False if the slot is lost."""
        if not isinstance(answer, Granted):
            return False
        self.valid_until = valid_until(asked_at, answer.remaining_ms)
        self.renew_next(asked_at)
        return True

    def renew_next(self, asked_at: float) -> None:
        """Plan the next renewal, when a third of what is left has passed."""
        self.renew_at = asked_at + (self.valid_until - asked_at) / 3

    def lose(self) -> None:
        """The slot is lost: notify its holder, once. An error of the holder's own callback is logged."""
        with _losing:
            is_news = not self._lost and not self.released
            self._lost = self._lost or is_news
        if is_news and self._on_lost is not None:
            try:
                self._on_lost(self)
            except Exception:
                _log.exception("the notice of a lost lease failed")

"""What a caller asks for, checked: names, lease, patience. Also the clock that leases are measured by on this side."""

import os
import re
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Self, TypedDict

from ..model.numbers import checked_seconds
from ..model.texts import plain
from .acts import Acquire, Mode
from .policy import LONGEST_WAIT_S, checked_count, checked_name, checked_pack, queue_name

DEFAULT_LEASE_S = 30.0
SHORTEST_LEASE_S = 0.2
LONGEST_LEASE_S = 86_400.0
DEFAULT_QUEUE_TIMEOUT_S = 3600.0
DEFAULT_QUEUE_LENGTH = 10_000

_UNSAFE = re.compile(r"[^A-Za-z0-9_.:@-]", re.ASCII)


def _moment() -> Callable[[], float]:
    # A lease runs on while the machine sleeps, and so does this clock, where there is one.
    boot = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic if boot is None else lambda: time.clock_gettime(boot)


moment = _moment()
"""Seconds on a clock that only goes forward, also while the machine is suspended."""


class SlotOptions(TypedDict, total=False):
    """Options that every way of asking for a slot has in common.

    `max_concurrent`: how many may hold a slot of the action at once, unless a policy says it (None: any number).
    `lease_s` (0.2 to 86,400; default 30): how long a slot stays held without being renewed. `group_key`: an independent
    queue of the action. `pack`: whose policies bear on the action. `max_queue_length`: default 10,000.
    `owner`: what operators see; default `host:pid`.
    """

    max_concurrent: int | None
    lease_s: float
    group_key: str | None
    pack: str | None
    max_queue_length: int | None
    owner: str | None


@cache
def _owner_of(pid: int) -> str:
    return _UNSAFE.sub("_", f"{socket.gethostname()}:{pid}")[:128]


@dataclass(slots=True)
class Acquisition:
    """One execution's way through one queue. `nonce` names it; `doubtful`: a copy of a call may still be under way.

    `heard_at`: when it was last known to be waiting, by `moment`. `limit`: how many may hold a slot, as far as is known
    (None: any number); `warning`: why its own number does not count, if it does not.
    """

    queue: str
    execution_id: str
    nonce: str
    lease_s: float
    queue_timeout_s: float
    max_concurrent: int | None
    max_length: int
    pack: str
    owner: str
    doubtful: bool = False
    ticket: int | None = None
    heard_at: float = 0.0
    limit: int | None = None
    warning: str | None = None

    @classmethod
    def of(
        cls,
        action: str,
        execution_id: str | None,
        queue_timeout_s: float | None,
        *,
        max_concurrent: int | None = None,
        lease_s: float = DEFAULT_LEASE_S,
        group_key: str | None = None,
        pack: str | None = None,
        max_queue_length: int | None = None,
        owner: str | None = None,
    ) -> Self:
        """Check what a caller asks for; raises `InvalidInput`. Without an `execution_id` it gets one of its own."""
        nonce = "n" + os.urandom(8).hex()
        return cls(
            queue=queue_name(action, group_key),
            execution_id=nonce if execution_id is None else checked_name("execution_id", execution_id),
            nonce=nonce,
            lease_s=checked_lease(lease_s),
            queue_timeout_s=checked_timeout(queue_timeout_s),
            max_concurrent=None if max_concurrent is None else checked_count("max_concurrent", max_concurrent),
            max_length=(
                DEFAULT_QUEUE_LENGTH
                if max_queue_length is None
                else checked_count("max_queue_length", max_queue_length)
            ),
            pack="-" if pack is None else checked_pack(pack),
            owner=_owner_of(os.getpid()) if owner is None else (_UNSAFE.sub("_", plain(owner))[:128] or "-"),
        )

    @classmethod
    def existing(cls, action: str, execution_id: str, group_key: str | None) -> Self:
        """For calls on an execution that is in the queue already; raises `InvalidInput`."""
        return cls.of(action, checked_name("execution_id", execution_id), 0, group_key=group_key)

    def ask(self, mode: Mode, bell: str = "-", attended: bool = False, left_s: float | None = None) -> Acquire:
        """The act that asks for the slot, or for the old place in the line again."""
        return Acquire(
            self.queue,
            self.execution_id,
            self.nonce,
            round(self.lease_s * 1000),
            round((self.queue_timeout_s if left_s is None else left_s) * 1000),
            self.max_concurrent,
            self.max_length,
            self.pack,
            mode,
            bell,
            attended,
            self.owner,
            self.ticket,
        )

    def take_up_limit(self, limit: int, by_policy: bool) -> None:
        """Note how many may hold a slot, 0 for any number. Against a policy no caller expects to have its number."""
        self.limit = limit or None
        asked = self.max_concurrent
        if asked not in (None, self.limit) and limit and not by_policy:
            self.warning = (
                f"max_concurrent {asked} does not count: {limit} was named first, and stands as long as anybody holds "
                f"a slot of {self.queue} or waits for one. A policy, or the queue's own limit, changes it."
            )

    @property
    def tomb_ms(self) -> int:
        """How long a copy of an earlier call has to find that the acquisition is over."""
        return 600_000 if self.doubtful else 0


def checked_lease(lease_s: object) -> float:
    """A lease in seconds as a float; raises `InvalidInput`."""
    return checked_seconds("lease_s", lease_s, SHORTEST_LEASE_S, LONGEST_LEASE_S)


def checked_timeout(timeout_s: object, field: str = "timeout_s") -> float:
    """A patience in seconds, None for the default; raises `InvalidInput`."""
    if timeout_s is None:
        return DEFAULT_QUEUE_TIMEOUT_S
    return checked_seconds(field, timeout_s, 0, LONGEST_WAIT_S)

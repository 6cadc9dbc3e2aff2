"""What the execution of a command asks of a slot. Queues and leases are none of its business."""

from collections.abc import Callable
from typing import Protocol


class HeldSlot(Protocol):
    """A slot that is ours under a lease, which renews itself until `release`."""

    @property
    def fencing_token(self) -> int:
        """Greater than that of every grant before."""

    @property
    def waited_s(self) -> float:
        """How long the grant took."""

    @property
    def valid(self) -> bool:
        """False from the moment that the lease may have run out, by our own monotonic clock."""

    @property
    def expires_in_s(self) -> float:
        """For how long the lease is certain without another renewal."""

    def release(self) -> object:
        """Give it back. Raises an `EventLogError` where Redis does not answer."""


Acquire = Callable[[Callable[..., None]], HeldSlot]
"""Blocks until the slot is ours, and then calls what it was given, from any thread, once the lease is lost.

Raises an `EventLogError` where there is no slot to be had. Interrupted by an exception, it gives up its place.
"""

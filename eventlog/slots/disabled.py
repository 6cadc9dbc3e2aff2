"""Slots in this process' memory: the reference that Redis is held against."""

from collections.abc import Sequence

from ..plan import Plan
from .acts import Act, Performed, Ring
from .base import Cleared, QueueStats
from .policy import Policy, Scope, StoredPolicy


class DisabledSlots:
    """See `SlotBackend` for what is guaranteed. (The author of the contract suite is writing this module.)"""

    name = "disabled"

    def __init__(self) -> None:
        pass

    def perform(self, acts: Sequence[Act], inbox: str = "", deadline_s: float | None = None) -> Plan[Performed]:
        raise NotImplementedError

    def listen(self, bell: str, timeout_s: float, most: int = 1) -> Plan[list[Ring]]:
        raise NotImplementedError

    def stats(self, queues: Sequence[str], most: int) -> Plan[list[QueueStats]]:
        raise NotImplementedError

    def queues(self) -> Plan[list[str]]:
        raise NotImplementedError

    def find(self, execution: str, queues: Sequence[str]) -> Plan[list[str]]:
        raise NotImplementedError

    def clear(self, queues: Sequence[str]) -> Plan[Cleared]:
        raise NotImplementedError

    def policies(self) -> Plan[dict[Scope, StoredPolicy]]:
        raise NotImplementedError

    def put_policy(self, scope: Scope, policy: Policy | None, expected_version: int | None) -> Plan[int]:
        raise NotImplementedError

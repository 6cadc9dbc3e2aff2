"""The slots that go with a log: on the same backend, and told in the same log."""

from ..backends.base import Backend
from ..backends.memory import MemoryBackend
from ..backends.redis import RedisBackend
from .base import SlotBackend
from .disabled import DisabledSlots
from .memory import MemorySlots
from .redis import RedisSlots


def slots_beside(log: Backend) -> SlotBackend:
    """The slot backend whose transitions land in `log`."""
    if isinstance(log, RedisBackend):
        return RedisSlots(log.keys, log.retention, log.deadline_s)
    if isinstance(log, MemoryBackend):
        return MemorySlots(log, log.clock)
    return DisabledSlots()

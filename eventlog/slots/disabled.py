"""No slots at all: everybody is granted one at once, and nothing is kept."""

import time
from collections.abc import Sequence

from ..plan.effects import at_once
from .acts import Acquire, Act, Answer, Beat, Beaten, Gone, Granted, Performed, Release, Released, Renew
from .memory import MemorySlots
from .policy import Policy, Scope
from .request import DEFAULT_LEASE_S


class DisabledSlots(MemorySlots):
    """Fencing tokens grow as in a real queue; every release and renewal is accepted; every look finds nobody."""

    name = "disabled"

    def __init__(self) -> None:
        super().__init__(lambda events: None)
        self._fence = 0

    @at_once
    def perform(self, acts: Sequence[Act], inbox: str = "", deadline_s: float | None = None) -> Performed:
        """Every acquisition is granted, every release and renewal is right."""
        now_us = time.time_ns() // 1000
        return Performed(now_us // 1000, [self._answer(act, now_us) for act in acts])

    def _answer(self, act: Act, now_us: int) -> Answer:
        match act:
            case Acquire():
                with self._lock:
                    # No call in between, after which a signal handler might come.
                    self._fence += 1
                    if self._fence < now_us:
                        self._fence = now_us
                    return Granted(self._fence, act.lease_ms, act.lease_ms, act.nonce, "new")
            case Renew():
                lease_ms = act.lease_ms or round(DEFAULT_LEASE_S * 1000)
                return Granted(self._fence_of(act), lease_ms, lease_ms, act.key, "same")
            case Release():
                return Released()
            case Beat():
                return Beaten(0, ())
        return Gone()

    def _fence_of(self, act: Renew) -> int:
        """The token that the holder gives, in whatever way; the latest if it gives none."""
        named = act.key.removeprefix("f")
        return act.fence or (int(named) if act.key == f"f{named}" and named.isdecimal() else self._fence)

    @at_once
    def put_policy(self, scope: Scope, policy: Policy | None, expected_version: int | None) -> int:
        """Nothing is kept, so nothing has a version."""
        return 0

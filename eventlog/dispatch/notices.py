"""What is told about calls that came to nothing, without flooding whoever reads it. Pure."""

import math
from collections import Counter

EVERY_S = 5.0
_TEXTS = {
    "full": "dropped, too many in flight",
    "displaced": "dropped for terminal events",
    "failed": "failed",
    "timed_out": "timed out",
    "given_up": "given up at shutdown",
}
_LONGEST_DETAIL = 300


class Notices:
    """The first is told at once, what comes after it at most every `EVERY_S` seconds, added up."""

    def __init__(self) -> None:
        self._untold: Counter[str] = Counter()
        self._detail = ""
        self._next_at = -math.inf

    def note(self, what: str, count: int = 1, detail: str = "") -> None:
        """Something to tell; `detail` of the latest is told with it."""
        self._untold[what] += count
        self._detail = detail[:_LONGEST_DETAIL] or self._detail

    def is_due(self, now: float) -> bool:
        """Whether there is something to tell, and it is time for it."""
        return bool(self._untold) and now >= self._next_at

    def due_in(self, now: float) -> float | None:
        """Seconds until there is something to tell; None if there is nothing."""
        return max(self._next_at - now, 0.0) if self._untold else None

    def take(self, now: float, *, all_of_it: bool = False) -> str | None:
        """What is to be told now, if anything is. With `all_of_it` it need not be due."""
        if not self._untold or not (all_of_it or self.is_due(now)):
            return None
        self._next_at = now + EVERY_S
        text = ", ".join(f"{self._untold[what]} {words}" for what, words in _TEXTS.items() if self._untold[what])
        detail, self._detail = self._detail, ""
        self._untold.clear()
        return f"{text} (last: {detail})" if detail else text


def named(error: BaseException) -> str:
    """An error in a few words."""
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__

"""What is told about calls that came to nothing, without flooding whoever reads it. Pure."""

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
        self._told_at: float | None = None

    @property
    def untold(self) -> bool:
        """Whether there is anything to tell."""
        return bool(self._untold)

    def note(self, what: str, count: int = 1, detail: str = "") -> None:
        """Something to tell; `detail` of the latest is told with it."""
        self._untold[what] += count
        self._detail = detail[:_LONGEST_DETAIL] or self._detail

    def due_in(self, now: float) -> float | None:
        """Seconds until there is something to tell; None if there is nothing."""
        if not self._untold:
            return None
        return 0.0 if self._told_at is None else max(self._told_at + EVERY_S - now, 0.0)

    def take(self, now: float, *, all_of_it: bool = False) -> str | None:
        """What is to be told now, if anything is. With `all_of_it` it need not be due."""
        due_in = self.due_in(now)
        if due_in is None or (due_in > 0 and not all_of_it):
            return None
        self._told_at = now
        text = ", ".join(f"{self._untold[what]} {words}" for what, words in _TEXTS.items() if self._untold[what])
        detail, self._detail = self._detail, ""
        self._untold.clear()
        return f"{text} (last: {detail})" if detail else text


def named(error: BaseException) -> str:
    """An error in a few words."""
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__

"""How long and how many events a log keeps, with the defaults that nonsense falls back to. Pure."""

import logging
from collections.abc import Callable
from typing import Any, NamedTuple

from ..errors import InvalidInput

DEFAULT_TTL_S = 3600.0
DEFAULT_MAX_ENTRIES = 10_000
DEFAULT_WINDOW_S = 600.0
LONGEST_TTL_S = 366 * 24 * 3600.0
LARGEST_MAX_ENTRIES = 100_000_000
Report = Callable[[str, str], None]
"""Takes the name of a setting, and what is wrong with its value."""


def warn(name: str, problem: str) -> None:
    """Log what is wrong with a value."""
    logging.getLogger("eventlog").warning("%s: %s", name, problem)


class Retention(NamedTuple):
    """`ttl_ms` by age, `max_entries` by count, `window_ms` for idempotency keys."""

    ttl_ms: int
    max_entries: int
    window_ms: int

    def with_terms(self, ttl_ms: int | None, max_entries: int | None) -> "Retention":
        """With these in their place; None leaves one as it is."""
        return Retention(ttl_ms or self.ttl_ms, max_entries or self.max_entries, self.window_ms)

    def differs(self, ttl_ms: int, max_entries: int) -> bool:
        """True if one of these is another than it is here, where that is no default."""
        asked = (self.ttl_ms, ttl_ms, DEFAULT_TTL_S * 1000), (self.max_entries, max_entries, DEFAULT_MAX_ENTRIES)
        return any(mine not in (theirs, default) for mine, theirs, default in asked)

    @classmethod
    def of(
        cls,
        ttl_seconds: object = DEFAULT_TTL_S,
        max_entries: object = DEFAULT_MAX_ENTRIES,
        idempotency_window_seconds: object = DEFAULT_WINDOW_S,
        *,
        report: Report = warn,
    ) -> "Retention":
        """Non-positive, absurd or non-numeric values are reported, and the defaults count in their place."""
        window_s = idempotency_window_seconds
        return cls(
            round(1000 * sane("ttl_seconds", ttl_seconds, DEFAULT_TTL_S, 0.001, LONGEST_TTL_S, report)),
            int(sane("max_entries", max_entries, DEFAULT_MAX_ENTRIES, 1, LARGEST_MAX_ENTRIES, report)),
            round(1000 * sane("idempotency_window_seconds", window_s, DEFAULT_WINDOW_S, 0.001, LONGEST_TTL_S, report)),
        )


def checked_retention(ttl_seconds: float | None, max_entries: int | None) -> tuple[int | None, int | None]:
    """Milliseconds and events, None for what stays as it is; raises `InvalidInput` for nonsense, and for neither."""
    if ttl_seconds is None and max_entries is None:
        raise InvalidInput("ttl_seconds", "give it, or max_entries, or both")
    if ttl_seconds is not None and not _is_between(ttl_seconds, 0.001, LONGEST_TTL_S):
        raise InvalidInput("ttl_seconds", f"{ttl_seconds!r} is not a number from 0.001 to {LONGEST_TTL_S:.0f}")
    if max_entries is not None and not (_is_between(max_entries, 1, LARGEST_MAX_ENTRIES) and max_entries % 1 == 0):
        raise InvalidInput("max_entries", f"{max_entries!r} is not an integer from 1 to {LARGEST_MAX_ENTRIES}")
    return None if ttl_seconds is None else round(ttl_seconds * 1000), None if max_entries is None else int(max_entries)


def _is_between(value: Any, least: float, largest: float) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and least <= value <= largest


def sane(name: str, value: Any, default: float, least: float, largest: float, report: Report) -> float:
    """The value, or the default for one out of bounds, which is reported by name and problem."""
    if _is_between(value, least, largest):
        return value  # type: ignore[no-any-return]
    report(name, f"{value!r} is not from {least:g} to {largest:.0f}; the default {default:g} counts")
    return default

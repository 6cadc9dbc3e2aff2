"""How long and how many events a log keeps, with the defaults that nonsense falls back to. Pure."""

import logging
import math
from typing import NamedTuple

_log = logging.getLogger("eventlog")

DEFAULT_TTL_S = 3600.0
DEFAULT_MAX_ENTRIES = 10_000
DEFAULT_WINDOW_S = 600.0
LONGEST_TTL_S = 366 * 24 * 3600.0
LARGEST_MAX_ENTRIES = 100_000_000


class Retention(NamedTuple):
    """`ttl_ms` by age, `max_entries` by count, `window_ms` for idempotency keys."""

    ttl_ms: int
    max_entries: int
    window_ms: int

    @classmethod
    def of(
        cls,
        ttl_seconds: object = DEFAULT_TTL_S,
        max_entries: object = DEFAULT_MAX_ENTRIES,
        idempotency_window_seconds: object = DEFAULT_WINDOW_S,
    ) -> "Retention":
        """Non-positive, absurd or non-numeric values fall back to the defaults with a warning."""
        ttl_s = _sane("ttl_seconds", ttl_seconds, DEFAULT_TTL_S, LONGEST_TTL_S)
        entries = _sane("max_entries", max_entries, DEFAULT_MAX_ENTRIES, LARGEST_MAX_ENTRIES)
        window_s = _sane("idempotency_window_seconds", idempotency_window_seconds, DEFAULT_WINDOW_S, LONGEST_TTL_S)
        return cls(max(1, round(ttl_s * 1000)), max(1, int(entries)), max(1, round(window_s * 1000)))


def _sane(name: str, value: object, default: float, largest: float) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and 0 < value <= largest:
        return value
    _log.warning("%s=%r is not between 0 and %g; using %g", name, value, largest, default)
    return default

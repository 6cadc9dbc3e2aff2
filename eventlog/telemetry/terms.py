"""How many samples a run keeps, and for how long after its end, with the defaults that nonsense falls back to. Pure."""

import logging
from typing import NamedTuple

from ..model.retention import LONGEST_TTL_S

_log = logging.getLogger("eventlog")

DEFAULT_SAMPLES = 5000
DEFAULT_GRACE_S = 300.0
MOST_SAMPLES = 1_000_000


class RingTerms(NamedTuple):
    """`capacity` samples a run unless the run was given a number of its own; 0 keeps none. `grace_ms` after its end."""

    capacity: int = DEFAULT_SAMPLES
    grace_ms: int = round(DEFAULT_GRACE_S * 1000)

    @classmethod
    def of(cls, samples: object = DEFAULT_SAMPLES, grace_seconds: object = DEFAULT_GRACE_S) -> "RingTerms":
        """Negative, absurd or non-numeric values fall back to the defaults with a warning."""
        capacity = _sane("telemetry_samples", samples, DEFAULT_SAMPLES, MOST_SAMPLES)
        grace_s = _sane("telemetry_grace_seconds", grace_seconds, DEFAULT_GRACE_S, LONGEST_TTL_S)
        return cls(int(capacity), round(grace_s * 1000))


def _sane(name: str, value: object, default: float, largest: float) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= largest:
        return value
    _log.warning("%s=%r is not between 0 and %g; using %g", name, value, largest, default)
    return default

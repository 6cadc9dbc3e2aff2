"""How many samples a run keeps, and for how long after its end, with the defaults that nonsense falls back to. Pure."""

from typing import NamedTuple

from ..model.retention import LONGEST_TTL_S, Report, sane, warn

DEFAULT_SAMPLES = 5000
DEFAULT_GRACE_S = 300.0
MOST_SAMPLES = 1_000_000


class RingTerms(NamedTuple):
    """`capacity` samples a run unless the run was given a number of its own; 0 keeps none. `grace_ms` after its end."""

    capacity: int = DEFAULT_SAMPLES
    grace_ms: int = round(DEFAULT_GRACE_S * 1000)

    @classmethod
    def of(
        cls, samples: object = DEFAULT_SAMPLES, grace_seconds: object = DEFAULT_GRACE_S, *, report: Report = warn
    ) -> "RingTerms":
        """Negative, absurd or non-numeric values are reported, and the defaults count in their place."""
        capacity = sane("telemetry_samples", samples, DEFAULT_SAMPLES, 0, MOST_SAMPLES, report)
        grace_s = sane("telemetry_grace_seconds", grace_seconds, DEFAULT_GRACE_S, 0, LONGEST_TTL_S, report)
        return cls(int(capacity), round(grace_s * 1000))

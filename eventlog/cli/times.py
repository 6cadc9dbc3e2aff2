"""Points in time as people type them. Pure: `now` is passed in."""

import re
from collections.abc import Callable
from datetime import datetime

from ..errors import InvalidInput

_AGO = re.compile(r"(\d{1,9}(?:\.\d{1,3})?)\s*(ms|s|m|h|d)", re.ASCII)
_NUMBER = re.compile(r"\d{1,13}(\.\d{1,9})?", re.ASCII)
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def parse_time(text: str, now: Callable[[], float], field: str = "since_time") -> float:
    """Seconds since the Unix epoch from `5m` (that long ago), ISO 8601 (local unless it names a zone), or a number.

    `now` is asked only where it matters. Raises `InvalidInput` naming `field`.
    """
    ago = _AGO.fullmatch(text)
    if ago is not None:
        return max(0.0, now() - float(ago[1]) * _SECONDS[ago[2]])
    if _NUMBER.fullmatch(text):
        return float(text)
    try:
        return datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError, OSError):
        raise InvalidInput(
            field, f"{text[:40]!r} is neither a time ago (5m, 2h, 1d), nor ISO 8601, nor seconds since the Unix epoch"
        ) from None

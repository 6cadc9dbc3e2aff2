"""Numbers that callers give: whole ones and times, checked against bounds. Pure."""

from ..errors import InvalidInput

_MOST_SHOWN = 80


def shown(value: object) -> str:
    """A wrong value as an error shows it: in short, whatever it is."""
    try:
        text = repr(value)
    except ValueError:  # an integer of thousands of digits
        text = "a huge number"
    return text if len(text) <= _MOST_SHOWN else text[:_MOST_SHOWN] + "…"


def checked_integer(field: str, value: object, least: int, most: int) -> int:
    """A whole number, by value; raises `InvalidInput` outside `least` to `most`."""
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise InvalidInput(field, f"{shown(value)} is not an integer from {least} to {most}")
    return int(value)


def checked_seconds(field: str, value: object, least: float, most: float) -> float:
    """A time as a float; raises `InvalidInput` outside `least` to `most` seconds."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
        raise InvalidInput(field, f"{shown(value)} is not a number of seconds from {least:g} to {most:g}")
    return float(value)

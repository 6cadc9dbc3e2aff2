"""Durations and sizes as people read them: never rounded up, so that nothing seems to be longer or larger. Pure."""

_PARTS = ((86_400, "d", 3600, "h"), (3600, "h", 60, "m"), (60, "m", 1, "s"))
_UNITS = ("KiB", "MiB", "GiB", "TiB")


def shown_ms(ms: float) -> str:
    """Milliseconds as `340 ms`, `3.2 s`, `2 m 05 s`, `1 h 02 m` or `3 d 04 h`."""
    if ms < 1000:
        return f"{int(ms)} ms"
    for length, name, part, part_name in _PARTS:
        if ms >= length * 1000:
            whole, rest = divmod(int(ms / 1000), length)
            return f"{whole} {name} {rest // part:02} {part_name}"
    return f"{int(ms / 100) / 10} s"


def shown_bytes(count: float) -> str:
    """Bytes as `512 B`, `1.5 KiB`, `123.4 MiB`."""
    if count < 1024:
        return f"{int(count)} B"
    power = 1
    while power < len(_UNITS) and count >= 1024 ** (power + 1):
        power += 1
    return f"{int(10 * count / 1024**power) / 10} {_UNITS[power - 1]}"

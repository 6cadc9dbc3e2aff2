"""The embedded server's configuration file."""

import os
import re

from ..errors import EmbeddedRedisError
from .binary import ServerBinary
from .layout import Layout

APPENDFSYNC = ("always", "everysec", "no")
SIZE = re.compile(r"\d+([kmg]b?|b)?", re.IGNORECASE)


def check(appendfsync: str, maxmemory: str | None) -> None:
    """EmbeddedRedisError naming the setting that has a value Redis would not take."""
    if appendfsync not in APPENDFSYNC:
        raise EmbeddedRedisError(f"appendfsync must be one of {', '.join(APPENDFSYNC)}, not {appendfsync!r}")
    if maxmemory is not None and SIZE.fullmatch(maxmemory) is None:
        raise EmbeddedRedisError(f'maxmemory must be a size such as "256mb", not {maxmemory!r}')


def write(layout: Layout, binary: ServerBinary, *, appendfsync: str, maxmemory: str | None) -> None:
    """Write the configuration for the next start of the server."""
    settings = {
        "port": "0",
        "unixsocket": _quoted(layout.socket),
        "unixsocketperm": "700",
        "protected-mode": "yes",
        "daemonize": "no",
        "supervised": "no",
        "dir": _quoted(layout.data_dir),
        "logfile": _quoted(layout.log),
        "databases": "1",
        "save": '""',
        "appendonly": "yes",
        "appendfsync": appendfsync,
        # Evicting would silently lose events: a full server refuses writes instead.
        "maxmemory-policy": "noeviction",
    }
    if maxmemory is not None:
        settings["maxmemory"] = maxmemory
    lines = [f"# Written at each start, for {binary.name} {binary.version_text}; changes here are lost."]
    lines += [f"{name} {value}" for name, value in settings.items()]
    half_done = layout.config.with_suffix(".new")
    half_done.write_text("\n".join(lines) + "\n")
    half_done.replace(layout.config)


def _quoted(path: os.PathLike[str]) -> str:
    """A path as Redis reads it from its configuration file, with any bytes in it."""
    plain = b"/._-+=,@%~"
    parts = (chr(b) if bytes([b]).isalnum() or b in plain else f"\\x{b:02x}" for b in os.fsencode(path))
    return f'"{"".join(parts)}"'

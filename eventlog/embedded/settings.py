"""The embedded server's configuration file."""

import contextlib
import os
import re
from pathlib import Path

from ..errors import EmbeddedRedisError
from .binary import ServerBinary
from .layout import Layout
from .supervisor import HALF_DONE

APPENDFSYNC = ("always", "everysec", "no")
SIZE = re.compile(r"\d+([kmg]b?|b)?", re.IGNORECASE)


def check(appendfsync: str, maxmemory: str | None) -> None:
    """EmbeddedRedisError naming the setting that has a value Redis would not take."""
    if appendfsync not in APPENDFSYNC:
        raise EmbeddedRedisError(f"appendfsync must be one of {', '.join(APPENDFSYNC)}, not {appendfsync!r}")
    if maxmemory is not None and SIZE.fullmatch(maxmemory) is None:
        raise EmbeddedRedisError(f'maxmemory must be a size such as "256mb", not {maxmemory!r}')


def default_maxmemory() -> int:
    """Half of the memory that there is for this process, in bytes: a rewrite of the file may need as much again."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    with contextlib.suppress(OSError, ValueError):
        memory = min(memory, int(Path("/sys/fs/cgroup/memory.max").read_text()))
    return memory // 2


def write(layout: Layout, binary: ServerBinary, *, appendfsync: str, maxmemory: str | None) -> None:
    """Write the configuration for the next start of the server. Without a `maxmemory` that is `default_maxmemory`."""
    settings = {
        "port": "0",
        "unixsocket": _quoted(layout.socket),
        "unixsocketperm": "600",
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
        "maxmemory": default_maxmemory() if maxmemory is None else maxmemory,
    }
    lines = [f"# Written at each start, for {binary.name} {binary.version_text}; changes here are lost."]
    lines += [f"{name} {value}" for name, value in settings.items()]
    text = "\n".join(lines) + "\n"
    with contextlib.suppress(OSError, ValueError):
        if layout.config.read_text() == text:
            return  # also on a full disk
    half_done = layout.config.with_name(f"{layout.config.name}{HALF_DONE}")
    half_done.write_text(text)
    half_done.replace(layout.config)


def _quoted(path: os.PathLike[str]) -> str:
    """A path as Redis reads it from its configuration file, with any bytes in it."""
    plain = b"/._-+=,@%~"
    parts = (chr(b) if bytes([b]).isalnum() or b in plain else f"\\x{b:02x}" for b in os.fsencode(path))
    return f'"{"".join(parts)}"'

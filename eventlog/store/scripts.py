"""The Lua scripts by name, with the SHA1 by which Redis knows them.

A script lies in the `lua/` of the room that calls it, what several scripts share in `lua/parts/` there. A line
`-- include <room>/<part>` stands for that part's text: every script is whole when Redis sees it.
"""

import re
from dataclasses import dataclass
from functools import cache
from hashlib import sha1
from pathlib import Path

_INCLUDE = re.compile(rb"^-- include (\w+)/(\w+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Script:
    """A script's source and its SHA1 in hex."""

    name: str
    source: bytes
    sha: str


@cache
def script(path: str) -> Script:
    """Load the script `<room>/<name>`, with the parts it includes, once a process."""
    room, _, name = path.partition("/")
    source = _INCLUDE.sub(lambda found: _read(found[1].decode(), "parts", found[2].decode()), _read(room, name))
    return Script(name, source, sha1(source, usedforsecurity=False).hexdigest())


def _read(room: str, *path: str) -> bytes:
    # Not by `importlib.resources`: it imports more when it is first used, which a finalizer must not come between.
    return Path(__file__).parents[1].joinpath(room, "lua", *path[:-1], f"{path[-1]}.lua").read_bytes()

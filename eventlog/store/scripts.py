"""The Lua scripts by name, with the SHA1 by which Redis knows them.

What several scripts share is in `lua/parts/`. A line `-- include <part>` stands for that part's text: every script is
whole when Redis sees it.
"""

import re
from dataclasses import dataclass
from functools import cache
from hashlib import sha1
from importlib.resources import files

_INCLUDE = re.compile(rb"^-- include (\w+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Script:
    """A script's source and its SHA1 in hex."""

    name: str
    source: bytes
    sha: str


@cache
def script(name: str) -> Script:
    """Load `lua/<name>.lua`, with the parts it includes, once a process."""
    source = _INCLUDE.sub(lambda found: _read("parts", f"{found[1].decode()}.lua"), _read(f"{name}.lua"))
    return Script(name, source, sha1(source, usedforsecurity=False).hexdigest())


def _read(*path: str) -> bytes:
    return files(__package__).joinpath("lua", *path).read_bytes()

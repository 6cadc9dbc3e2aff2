"""The Lua scripts by name, with the SHA1 by which Redis knows them."""

from dataclasses import dataclass
from functools import cache
from hashlib import sha1
from importlib.resources import files


@dataclass(frozen=True, slots=True)
class Script:
    """A script's source and its SHA1 in hex."""

    name: str
    source: bytes
    sha: str


@cache
def script(name: str) -> Script:
    """Load `lua/<name>.lua` once a process."""
    source = files(__package__).joinpath("lua", f"{name}.lua").read_bytes()
    return Script(name, source, sha1(source, usedforsecurity=False).hexdigest())

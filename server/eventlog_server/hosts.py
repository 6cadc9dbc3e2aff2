"""Which names this server goes by: a request whose `Host` is another one is refused.

A web page can have a name of its own resolve to this server's address (DNS rebinding). To the browser the two are then
one site, and the page may read and write; but the name stays in `Host`. An address cannot be had that way, nor a name
without a dot, which only the own network resolves.
"""

import ipaddress
import re
from functools import lru_cache

from starlette.types import Scope

from eventlog.errors import InvalidInput

from .problems import ForeignHost

_MOST_REMEMBERED = 1000
_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[a-z0-9_.-]*)(?::[0-9]*)?")
_ALLOWED = re.compile(r"\*|(\*\.)?[A-Za-z0-9_-][A-Za-z0-9_.-]*")


class Hosts:
    """The names of a server that is bound to `bound`: loopback, that address, and those that are `allowed`."""

    def __init__(self, bound: str, allowed: tuple[str, ...]) -> None:
        names = [name.lower().removesuffix(".") for name in allowed]
        self._names = frozenset([bound.lower(), "localhost", *names])
        self._endings = (".localhost", *(name[1:] for name in names if name.startswith("*.")))
        self._any = "*" in names
        self._only_local = is_loopback(bound)
        self._has = lru_cache(_MOST_REMEMBERED)(self._look)

    def check(self, scope: Scope) -> None:
        """Raises `ForeignHost`, or `InvalidInput` for a request with several hosts or none. HTTP/1.0 needs none."""
        hosts = [value for name, value in scope["headers"] if name == b"host"]
        if len(hosts) > 1:
            raise InvalidInput("Host", "was given more than once")
        if not hosts and scope["http_version"] == "1.1":
            raise InvalidInput("Host", "is required")
        if hosts and not self._has(hosts[0]):
            raise ForeignHost(hosts[0].decode("latin-1"))

    def _look(self, host: bytes) -> bool:
        found = _HOST.fullmatch(host.decode("latin-1").strip(" \t").lower())
        if self._any or found is None:
            return self._any
        name = found[1].strip("[]").removesuffix(".")
        if name in self._names:
            return True
        try:
            address = ipaddress.ip_address(name)
        except ValueError:
            return name.endswith(self._endings) or "." not in found[1]
        address = getattr(address, "ipv4_mapped", None) or address
        return not self._only_local or address.is_loopback or address.is_unspecified


def is_loopback(host: str) -> bool:
    """True if only this machine can reach a server that is bound to this host."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def checked_hosts(names: tuple[str, ...]) -> None:
    """Raises `InvalidInput` for what is not the name of a host, `*.` before the end of names, or `*` for any."""
    for name in names:
        if _ALLOWED.fullmatch(name) is None:
            raise InvalidInput(
                "allowed_hosts", f"{name!r} is not a host such as log.example.com, *.example.com or *, without port"
            )

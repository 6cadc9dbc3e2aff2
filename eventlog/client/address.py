"""Where a server is, and what of the environment concerns the way to it: its proxy, its certificates."""

import math
import os
import re
import ssl
from dataclasses import dataclass
from functools import cache
from typing import TypeVar
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from ..errors import InvalidInput
from ..extras import imports_of
from ..model.ids import checked_workspace
from ..model.texts import shown_url
from . import wire

with imports_of("client", "the HTTP client"):
    import httpx

C = TypeVar("C", bound=httpx.Client | httpx.AsyncClient)
AT_ONCE = 32
"""How many requests a client has under way at a time."""
_LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})
# A follower or a waiter for a slot occupies a connection for as long; only other requests are limited.
_LIMITS = httpx.Limits(max_connections=None, max_keepalive_connections=AT_ONCE)
# Trusts nobody: for connections that are not encrypted.
_NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
_TLS_FILES = ("SSL_CERT_FILE", "SSL_CERT_DIR", "SSLKEYLOGFILE")


@dataclass(frozen=True, slots=True)
class ServerAddress:
    """A workspace behind a server."""

    base_url: str
    origin: str
    workspace: str
    deadline_s: float

    @classmethod
    def of(cls, url: str, workspace: str, deadline_s: float) -> "ServerAddress":
        """Check what a caller gives; raises `InvalidInput` naming what is wrong."""
        name = checked_workspace(workspace)
        base = checked_url(url)
        return cls(
            base_url=str(base).rstrip("/") + wire.prefix(name),
            origin=f"{base.scheme}://{base.netloc.decode('ascii')}",
            workspace=name,
            deadline_s=_checked_deadline(deadline_s),
        )


def checked_url(url: object) -> httpx.URL:
    """The URL of a server; raises `InvalidInput`, which never shows a password."""
    if not isinstance(url, str):
        raise InvalidInput("url", f"must be a string, not a {type(url).__name__}")
    shown = shown_url(url)[:80]
    try:
        # Each of the two accepts something that the other refuses.
        port = urlsplit(url).port
        found = httpx.URL(url)
    except (ValueError, httpx.InvalidURL) as error:
        raise InvalidInput("url", f"{shown!r} is not a URL: {error}") from error
    if found.scheme not in ("http", "https") or not found.host or port == 0:
        raise InvalidInput("url", f"{shown!r} is not the http:// or https:// URL of a server")
    if (wrong := re.search(r"[\s?#]", url)) is not None:
        raise InvalidInput("url", f"{shown!r} has {wrong[0]!r}; a server has a host, a port and perhaps a path")
    return found


def _checked_deadline(deadline_s: object) -> float:
    if isinstance(deadline_s, bool) or not isinstance(deadline_s, int | float) or not 0 < deadline_s < math.inf:
        raise InvalidInput("deadline_s", f"{deadline_s!r} is not a number of seconds above 0")
    return float(deadline_s)


def opened(kind: type[C], url: str) -> C:
    """A client of httpx for the server at `url`, with what of the environment concerns that: its proxy, certificates.

    Left to itself httpx would read all of it, and fail at a proxy of others or at certificates that no plain http
    needs. Raises `InvalidInput` naming the variable that is wrong.
    """
    variable, proxy = _proxy(httpx.URL(url))
    encrypted = "https://" in (url[:8].lower(), (proxy or "")[:8].lower())
    try:
        return kind(base_url=url, limits=_LIMITS, trust_env=False, proxy=proxy, verify=_tls() if encrypted else _NO_TLS)
    except (ImportError, ValueError, httpx.InvalidURL) as error:
        if isinstance(error, InvalidInput):
            raise
        raise InvalidInput(variable, f"names a proxy that cannot be used: {error}") from error


def _proxy(url: httpx.URL) -> tuple[str, str | None]:
    """The variable that names a proxy for the address, and the proxy."""
    # A proxy is meant for other machines.
    if url.host not in _LOOPBACK and not proxy_bypass(url.netloc.decode("ascii")):
        proxies = getproxies()
        for scheme in (url.scheme, "all"):
            if found := proxies.get(scheme):
                return f"{scheme.upper()}_PROXY", found if "://" in found else f"http://{found}"
    return "", None


@cache
def _tls() -> ssl.SSLContext:
    # Reading the certificates takes longer than most requests do.
    for name in _TLS_FILES:
        path = os.environ.get(name)
        if path and not os.path.exists(os.path.dirname(path) or "." if name == "SSLKEYLOGFILE" else path):
            raise InvalidInput(name, f"names {path!r}, which does not exist")
    try:
        return httpx.create_ssl_context()
    except OSError as error:
        names = " or ".join(name for name in _TLS_FILES if os.environ.get(name)) or "certificates"
        raise InvalidInput(names, f"cannot be read: {error}") from error

"""One workspace behind a server: requests that are bounded, and asked again where the server or its Redis is away."""

import time
from collections.abc import Callable
from typing import Any, TypeVar
from urllib.parse import urlsplit

import httpx
import orjson

from ..config import checked_workspace
from ..errors import BackendUnavailable, EventLogError, InvalidInput, LogClosed
from . import wire

T = TypeVar("T")
_FIRST_PAUSE_S = 0.05
_LONGEST_PAUSE_S = 1.0
_SHORTEST_TRY_S = 0.25
_LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})


class Server:
    """Connections to one server, for what is of one workspace. Safe under threads."""

    def __init__(self, url: str, workspace: str, deadline_s: float) -> None:
        self.workspace = checked_workspace(workspace)
        self.deadline_s = deadline_s
        base = _checked_url(url)
        self.origin = f"{base.scheme}://{base.netloc.decode('ascii')}"
        self.client = httpx.Client(
            base_url=str(base).rstrip("/") + wire.prefix(self.workspace),
            # Who follows, or waits for a slot, keeps a connection for as long.
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=20),
            # A proxy of the environment is for the world outside, not for a server on this machine.
            trust_env=base.host not in _LOOPBACK,
        )

    def ask(
        self,
        request: wire.Request,
        read: Callable[[Any], T],
        *,
        deadline_s: float | None = None,
        wait_s: float = 0.0,
        on_repeat: Callable[[], None] | None = None,
    ) -> T:
        """The answer, asked for again until the deadline (ours unless given) where the server or its Redis is away.

        `wait_s` is how long the server may wait with it. `on_repeat` is told when a request is repeated that may have
        been carried out. Raises what the answer's problem says, or `BackendUnavailable`.
        """
        deadline = time.monotonic() + (self.deadline_s if deadline_s is None else deadline_s)
        pause = _FIRST_PAUSE_S
        while True:
            answer = self._try(request, max(deadline - time.monotonic(), _SHORTEST_TRY_S) + wait_s)
            if isinstance(answer, bytes):
                return self._understood(answer, read)
            if not request.repeatable or time.monotonic() + pause >= deadline:
                raise answer
            if answer.outcome_unknown and on_repeat is not None:
                on_repeat()
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE_S)

    def _try(self, request: wire.Request, timeout_s: float) -> bytes | BackendUnavailable:
        """The answer, or the `BackendUnavailable` that stood in its place; raises all other errors."""
        if self.client.is_closed:
            raise LogClosed("the connection to the server was closed")
        try:
            answer = self.client.request(
                request.method,
                request.path,
                params=request.params,
                content=request.content,
                headers=request.headers,
                timeout=timeout_s,
            )
        except httpx.TransportError as error:
            lost = _unreachable(self.origin, error, wrote=request.method != "GET")
            lost.__cause__ = error
            return lost
        if answer.is_success:
            return answer.content
        problem = wire.problem(answer.status_code, answer.content, answer.headers.get("Retry-After"))
        if isinstance(problem, BackendUnavailable):
            return problem
        raise problem

    def _understood(self, answer: bytes, read: Callable[[Any], T]) -> T:
        try:
            return read(orjson.loads(answer))
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            raise EventLogError(f"{self.origin} did not answer as an eventlog server does") from error

    def close(self) -> None:
        """Close all connections. Idempotent."""
        self.client.close()


def _checked_url(url: str) -> httpx.URL:
    try:
        # Each of the two takes something for a URL that the other knows to be none.
        urlsplit(url)
        found = httpx.URL(url)
    except (ValueError, httpx.InvalidURL) as error:
        raise InvalidInput("url", f"{url[:80]!r} is no URL: {error}") from error
    if found.scheme not in ("http", "https") or not found.host:
        raise InvalidInput("url", f"{url[:80]!r} is not the http:// or https:// URL of a server")
    return found


def _unreachable(origin: str, error: httpx.TransportError, *, wrote: bool) -> BackendUnavailable:
    """The library's error for a server that cannot be reached."""
    reason = str(error) or type(error).__name__
    sent = not isinstance(error, httpx.ConnectError | httpx.ConnectTimeout)
    return BackendUnavailable(f"no answer from {origin}: {reason}", outcome_unknown=wrote and sent)

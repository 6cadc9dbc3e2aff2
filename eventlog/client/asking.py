"""Requests to a server, as plans: the effects that a connection carries out, and the rules for retries. No I/O here.

`connection.py` carries the effects out, blocking and on asyncio; it raises `BackendUnavailable` where no answer came.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar

import orjson

from ..errors import BackendFull, BackendRefused, BackendUnavailable, EventLogError, LogClosed
from ..plan.effects import Pause, Plan
from .wire import Request

T = TypeVar("T")
_FIRST_PAUSE_S = 0.05
_LONGEST_PAUSE_S = 1.0
_SHORTEST_TRY_S = 0.25


@dataclass(frozen=True, slots=True)
class Effect:
    """What a connection carries out."""


@dataclass(frozen=True, slots=True)
class Exchange(Effect):
    """Send a request; the body of its answer is the reply. No piece of either may take longer than `timeout_s`.

    `waits`: the server may hold the answer back, so the request does not count against the limit of requests.
    """

    request: Request
    timeout_s: float
    waits: bool = False


@dataclass(frozen=True, slots=True)
class OpenStream(Effect):
    """Send a request whose answer does not end; the reply is a handle on it.

    The answer must begin within `timeout_s` and may never be silent for longer than `silence_s`.
    """

    request: Request
    timeout_s: float
    silence_s: float


@dataclass(frozen=True, slots=True)
class ReadStream(Effect):
    """The next piece of a stream; the reply is empty at its end."""

    stream: Any


@dataclass(frozen=True, slots=True)
class CloseStream(Effect):
    """Close a stream."""

    stream: Any


Asking: TypeAlias = Plan[T]
"""A plan that asks a server."""


def understood(answer: bytes, read: Callable[[Any], T], origin: str) -> T:
    """The answer, read by `read`; raises `EventLogError` if it is not that of an eventlog server."""
    try:
        return read(orjson.loads(answer))
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise EventLogError(f"{origin} did not answer as an eventlog server does") from error


class Asker:
    """Asks the server at `origin`, and retries until a deadline while the server or its Redis is away."""

    def __init__(self, origin: str, deadline_s: float) -> None:
        self.origin = origin
        self.deadline_s = deadline_s

    def ask(
        self,
        request: Request,
        read: Callable[[Any], T],
        *,
        deadline_s: float | None = None,
        wait_s: float = 0.0,
        on_repeat: Callable[[], None] | None = None,
        renewed: Callable[[], Request] | None = None,
    ) -> Asking[T]:
        """The answer; the request is retried until the deadline (the asker's own unless given).

        `wait_s` is how long the server may hold the answer back. `on_repeat` is called before the retry of a request
        that may have been carried out; `renewed` makes the request to retry with, where it depends on the time. Raises
        the error that the answer's problem names, or `BackendUnavailable`.
        """
        deadline = time.monotonic() + (self.deadline_s if deadline_s is None else deadline_s)
        pause_s = _FIRST_PAUSE_S
        doubt: BackendUnavailable | None = None
        while True:
            left_s = max(deadline - time.monotonic(), _SHORTEST_TRY_S)
            try:
                answer: bytes = yield Exchange(request, left_s + wait_s, wait_s > 0)
                return understood(answer, read, self.origin)
            except LogClosed as closed:
                if doubt is not None:
                    # Closed between two tries: the first one may have been carried out.
                    raise doubt from closed
                raise
            except BackendUnavailable as away:
                if away.outcome_unknown:
                    doubt = away
                certain = request.repeatable or not away.outcome_unknown
                lasting = isinstance(away, BackendFull | BackendRefused)
                if lasting or not certain or time.monotonic() + pause_s >= deadline:
                    away.outcome_unknown = doubt is not None
                    raise away from away.__cause__
                if away.outcome_unknown and on_repeat is not None:
                    on_repeat()
            yield Pause(pause_s)
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
            request = request if renewed is None else renewed()

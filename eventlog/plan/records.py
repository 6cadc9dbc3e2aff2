"""Log records that come of our own work: a logging handler that ships records must not be fed by its own shipping.

What the HTTP library logs of our requests is left out at its loggers; others' requests are logged as ever. What we
say of events that came to nothing is said `aside`: an event made of it would come to nothing as well, and so on.
"""

import logging
from collections.abc import Callable
from contextvars import ContextVar, copy_context
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

is_ours: ContextVar[bool] = ContextVar("eventlog_request", default=False)
"""True within a request of ours."""

is_aside: ContextVar[bool] = ContextVar("eventlog_aside", default=False)
"""True within the logging handlers of what is said aside."""

_HTTP = ["httpx", "httpcore.connection", "httpcore.http11", "httpcore.http2", "httpcore.proxy", "httpcore.socks"]


class _LeftOut(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        return not is_ours.get()


def leave_out_requests() -> None:
    """From now on the loggers of the HTTP library leave out our requests."""
    left_out = _LeftOut()
    for name in _HTTP:
        # A filter sees only what is logged at its own logger.
        logging.getLogger(name).addFilter(left_out)


def within(mark: ContextVar[bool], act: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call `act` with a mark set, in a context of its own: no interrupt can leave the mark set."""
    context = copy_context()
    context.run(mark.set, True)
    return context.run(act, *args, **kwargs)


def say_aside(log: Callable[..., None], message: str, *args: object, **more: object) -> None:
    """Log about an event that came to nothing; no dispatcher and no bus takes what handlers make of it."""
    within(is_aside, log, message, *args, stacklevel=3, **more)

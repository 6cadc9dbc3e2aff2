"""What a signal handler raises in the middle of a call is the caller's, whatever libraries make of it on its way."""

from types import TracebackType

# Where errors of the network come from: ours, redis-py's, httpx's, and what gevent and eventlet put in their place.
_NETWORK = frozenset(
    {"eventlog", "redis", "hiredis", "httpx", "httpcore", "h11", "anyio", "socket", "ssl", "asyncio", "selectors"}
    | {"encodings", "uvloop", "gevent", "eventlet"}
)


def raised_by_a_handler(error: BaseException | None) -> BaseException | None:
    """The `TimeoutError`, say, that a signal handler raised and a library turned into `error`; None if there is none.

    It went up from the handler's code, which is nobody's here, to where a library caught it.
    """
    while error is not None:
        trace = error.__traceback__
        if trace is None or not _is_of_the_network(trace):
            return None  # it was under way before the call
        while trace.tb_next is not None:
            trace = trace.tb_next
        if not _is_of_the_network(trace):
            return error
        error = error.__cause__ or error.__context__
    return None


def _is_of_the_network(trace: TracebackType) -> bool:
    name: str = trace.tb_frame.f_globals.get("__name__", "")
    return name.partition(".")[0] in _NETWORK

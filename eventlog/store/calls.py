"""One call of a script or command, with its deadline, retries and errors: the plan under all others.

A failed reply means *unknown*, not *failed*. A call may be repeated because every script is safe to repeat:
reads by nature, appends by the number that their writer gives each call.
"""

import time
from collections.abc import Callable, Sequence
from typing import Any

from ..errors import BackendFull, BackendUnavailable, EventLogError
from ..plan.effects import Command, Pause, Plan
from .links import LinkLost, Refused
from .scripts import Script

_PASSING = frozenset({"LOADING", "TRYAGAIN", "CLUSTERDOWN", "MASTERDOWN", "READONLY", "BUSY", "UNBLOCKED"})
_FULL = frozenset({"OOM", "MISCONF", "NOREPLICAS"})
_FIRST_PAUSE_S = 0.02
_LONGEST_PAUSE_S = 0.5
_SHORTEST_TRY_S = 0.25


def call_script(
    script: Script,
    keys: Sequence[str],
    args: Sequence[bytes | str | int],
    *,
    deadline_s: float,
    writes: bool = False,
    on_repeat: Callable[[], None] | None = None,
    last: Callable[[], int] | None = None,
) -> Plan[Any]:
    """Run `script`, loading it where Redis does not have it (any more). `last` gives one more argument for each try.

    `on_repeat` is called before a call is repeated that may have been carried out: a copy may still be under way.
    """
    tail = (len(keys), *keys, *args)
    return _call(("EVALSHA", script.sha, *tail), ("EVAL", script.source, *tail), deadline_s, writes, on_repeat, last)


def call_command(*args: bytes | str | int, deadline_s: float) -> Plan[Any]:
    """Run one command that may be repeated."""
    return _call(args, args, deadline_s, False)


def _call(
    args: tuple[bytes | str | int, ...],
    loading: tuple[bytes | str | int, ...],
    deadline_s: float,
    writes: bool,
    on_repeat: Callable[[], None] | None = None,
    last: Callable[[], int] | None = None,
) -> Plan[Any]:
    deadline = time.monotonic() + deadline_s
    pause = _FIRST_PAUSE_S
    left = deadline_s
    unknown = False
    while True:
        try:
            # Not all of the time for one try: a connection that hangs leaves room for another.
            return (yield Command(args if last is None else (*args, last()), max(left * 0.6, _SHORTEST_TRY_S)))
        except Refused as error:
            if error.code == "NOSCRIPT":
                args = loading
                continue
            if error.code in _FULL:
                raise BackendFull(f"Redis refuses writes: {error.code}", outcome_unknown=unknown) from error
            if error.code not in _PASSING:
                raise _unexpected(error) from error
            failure: Exception = error
        except LinkLost as error:
            unknown = writes
            failure = error
            if on_repeat is not None:
                on_repeat()
        left = deadline - time.monotonic()
        if left <= pause:
            raise _given_up(failure, deadline_s, unknown) from failure
        yield Pause(pause)
        pause = min(pause * 2, _LONGEST_PAUSE_S)
        left = deadline - time.monotonic()


def _given_up(failure: Exception, deadline_s: float, unknown: bool) -> BackendUnavailable:
    if isinstance(failure, Refused):
        if failure.code == "READONLY":
            return BackendFull("Redis refuses writes: it is a read-only replica", outcome_unknown=unknown)
        return BackendUnavailable(
            f"Redis did not serve within {deadline_s:g} s: {failure.code}", outcome_unknown=unknown
        )
    return BackendUnavailable(f"Redis did not answer within {deadline_s:g} s", outcome_unknown=unknown)


def _unexpected(error: Refused) -> EventLogError:
    if error.code in {"NOAUTH", "WRONGPASS", "NOPERM"}:
        return BackendUnavailable(f"Redis refused the credentials: {error.code}")
    return EventLogError(f"Redis refused a command: {error}")

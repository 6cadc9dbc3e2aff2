"""One call of a script or command, with its deadline, retries and errors: the plan under all others.

A failed reply means *unknown*, not *failed*. A call may be repeated because every script is safe to repeat:
reads by nature, appends by the number that their writer gives each call.
"""

import logging
import re
import time
from collections.abc import Callable, Sequence
from typing import Any

from ..errors import BackendFull, BackendRefused, BackendUnavailable, EventLogError
from ..plan.effects import Command, Pause, Plan
from .links import LinkLost, Refused
from .scripts import Script

_PASSING = frozenset({"LOADING", "TRYAGAIN", "CLUSTERDOWN", "MASTERDOWN", "READONLY", "BUSY", "UNBLOCKED"})
_FULL = frozenset({"OOM", "MISCONF", "NOREPLICAS"})
_CREDENTIALS = frozenset({"NOAUTH", "WRONGPASS"})
_AUTH_PROBLEMS = ("AUTH ", "Client sent AUTH")
_CLUSTER = frozenset({"MOVED", "ASK", "CROSSSLOT"})
_log = logging.getLogger("eventlog")
_warned: set[str] = set()
_FIRST_PAUSE_S = 0.02
_LONGEST_PAUSE_S = 0.5
_SHORTEST_TRY_S = 0.25
_LOOK_S = 0.25


def call_script(
    script: Script,
    keys: Sequence[str],
    args: Sequence[bytes | str | int],
    more: Sequence[bytes | str] = (),
    *,
    deadline_s: float,
    writes: bool = False,
    on_repeat: Callable[[], None] | None = None,
    last: Callable[[], int] | None = None,
) -> Plan[Any]:
    """Run `script`, loading it where Redis does not have it (any more). `last` gives one more argument for each try.
    `more` are further arguments, text already: there may be thousands.

    `on_repeat` is called before a call is repeated that may have been carried out: a copy may still be under way.
    """
    tail = (str(len(keys)), *keys, *map(_text, args), *more)
    return _call(("EVALSHA", script.sha, *tail), ("EVAL", script.source, *tail), deadline_s, writes, on_repeat, last)


def call_command(*args: bytes | str | int, deadline_s: float) -> Plan[Any]:
    """Run one command that may be repeated."""
    texts = tuple(map(_text, args))
    return _call(texts, texts, deadline_s, False)


def _text(arg: bytes | str | int) -> bytes | str:
    return str(arg) if type(arg) is int else arg  # type: ignore[return-value]


def _call(
    args: tuple[bytes | str, ...],
    loading: tuple[bytes | str, ...],
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
            return (yield Command(args if last is None else (*args, str(last())), max(left * 0.6, _SHORTEST_TRY_S)))
        except Refused as error:
            if error.code == "NOSCRIPT":
                args = loading
                continue
            if error.code not in _PASSING:
                source = loading[1] if loading[0] == "EVAL" and isinstance(loading[1], bytes) else b""
                raise failure_of(error, args, source=source, unknown=unknown) from error
            failure: Exception = error
        except LinkLost as error:
            unknown = unknown or (writes and error.sent)
            failure = error
            if error.sent and on_repeat is not None:
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


def failure_of(
    error: Refused, args: tuple[bytes | str | int, ...], *, source: bytes = b"", unknown: bool = False
) -> EventLogError:
    """The library's error for a refusal that another try will not overcome, in words that show no address.

    `args` are the refused command, `source` that of its script. `unknown`: an earlier try may have been carried out.
    """
    code = error.code
    if code in _FULL:
        return BackendFull(f"Redis refuses writes: {code}", outcome_unknown=unknown)
    if code in _CREDENTIALS or error.problem.startswith(_AUTH_PROBLEMS):
        return BackendRefused(f"Redis refuses the user name or the password ({code})", outcome_unknown=unknown)
    if not error.sent and code != "NOPERM":
        return BackendRefused(f"Redis refuses the connection: {error}", outcome_unknown=unknown)
    if error.lacks_right:
        lacks = _command_named(error.problem, source)
        keys = _keys(args)
        if lacks is None and keys is not None and "command" not in error.problem:
            lacks = keys
            problem = f"Redis does not let its user use the keys {lacks} (NOPERM)"
        else:
            lacks = lacks or str(args[0])
            forbidden = code == "NOPERM" or error.problem.startswith("ACL ")
            problem = f"Redis does not let its user run {lacks} (NOPERM)"
            if not forbidden:
                problem = f"Redis does not have the command {lacks}"
        return BackendRefused(problem, lacks=lacks, outcome_unknown=unknown)
    if code in _CLUSTER:
        problem = f"Redis is a node of a cluster ({code}); what is supported is one Redis, or a primary with replicas"
        return BackendRefused(problem, outcome_unknown=unknown)
    if code == "WRONGTYPE":
        problem = f"Redis holds another kind of value under one of the keys {_keys(args)} (WRONGTYPE)"
        return BackendRefused(problem, outcome_unknown=unknown)
    return EventLogError(f"Redis refused a command: {error}")


def _keys(args: tuple[bytes | str | int, ...]) -> str | None:
    """The pattern of the keys that a command is about: those of one workspace."""
    key = next((arg for arg in args[1:] if isinstance(arg, str) and "}:" in arg), None)
    return None if key is None else key.partition("}:")[0] + "}:*"


def done_without(error: Refused, args: tuple[bytes | str | int, ...], instead: str) -> bool:
    """True, with one warning a process, if Redis does not give its user the command that is done without."""
    if not error.lacks_right:
        return False
    problem = f"{failure_of(error, args)}; {instead}"
    if problem not in _warned:
        _warned.add(problem)
        _log.warning("%s", problem)
    return True


def failed_wait(error: LinkLost | Refused, args: tuple[bytes | str | int, ...], timeout_s: float) -> Plan[None]:
    """Pause where a blocking read failed. The next look has the deadline, the retries and the words for it."""
    looks = isinstance(error, Refused) and done_without(error, args, f"looking every {_LOOK_S:g} s instead")
    yield Pause(min(timeout_s, _LOOK_S if looks else 0.02))


def _command_named(problem: str, source: bytes) -> str | None:
    """The command that a refusal is about; where only the line of the script is named, the one that stands there."""
    named = re.search(r"(?:run the|command|available:) ['`]([^'`]+)['`]", problem)
    if named is not None:
        return named[1].upper().replace("|", " ")
    line = re.search(r"user_script:(\d+)", problem)
    lines = source.decode().splitlines()
    if line is None or "command called" not in problem or int(line[1]) > len(lines):
        return None
    called = re.search(r"call\('(\w+)'", lines[int(line[1]) - 1])
    return None if called is None else called[1]

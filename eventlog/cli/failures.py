"""How a failure is reported on the command line: its exit code and its one line. Pure."""

import os
from typing import Any

from ..embedded import EmbeddedRedisError
from ..errors import BackendUnavailable, EventLogError, InvalidInput, SlotRefused
from ..printing.escape import escaped

REFUSED = 1
BAD_INPUT = 2
UNAVAILABLE = 3
NO_SLOT = 75
DEFECT = 70


def exit_code_of(error: BaseException) -> int:
    """The exit code for this kind of failure."""
    if _is_usage(error):
        return BAD_INPUT
    match error:
        case InvalidInput():
            return BAD_INPUT
        case BackendUnavailable() | EmbeddedRedisError():
            return UNAVAILABLE
        case SlotRefused():
            return NO_SLOT
        case EventLogError() | OSError():
            return REFUSED
    return DEFECT


def explain(error: BaseException) -> str:
    """One line for a person: what was wrong, and where. Empty where the help was printed in its place."""
    if _is_usage(error):
        usage: Any = error
        if type(error).__name__ == "NoArgsIsHelpError":
            # The help itself, unless rich has printed it.
            return str(usage.format_message())
        command = usage.ctx.command_path if getattr(usage, "ctx", None) is not None else "eventlog"
        return escaped(f"{command}: {usage.format_message()} (see {command} --help)")
    if isinstance(error, EmbeddedRedisError):
        # The end of the server's log follows on lines of its own.
        return "\n".join(escaped(line) for line in f"eventlog: {error}".splitlines())
    if isinstance(error, EventLogError):
        # Why Redis did not answer is what a person can act on.
        why = f": {error.__cause__}" if isinstance(error, BackendUnavailable) and error.__cause__ else ""
        return escaped(f"eventlog: {error}{why if why not in str(error) else ''}")
    if isinstance(error, OSError):
        where = f"{os.fsdecode(error.filename)}: " if isinstance(error.filename, str | bytes) else ""
        return escaped(f"eventlog: {where}{error.strerror or error}")
    return escaped(f"eventlog: defect: {type(error).__name__}: {error} (EVENTLOG_DEBUG=1 shows where)")


def _is_usage(error: BaseException) -> bool:
    # By its method: the class lies in click for some versions of typer, and within typer for others.
    return hasattr(error, "format_message") and hasattr(error, "exit_code")

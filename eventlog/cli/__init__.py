"""The command line. One module a command; `target` finds the log, `output` writes, `failures` names what went wrong.

Exit codes: 0 done; 1 refused, not found, or a check that found problems; 2 bad input or usage; 3 Redis or the server
is unavailable; 70 a defect of ours; 130 interrupted.
"""

import contextlib
import logging
import os
import sys

from ..extras import imports_of
from ..printing.output import PipeClosed, drop_stdout
from .failures import exit_code_of, explain

_STDERR = 2


def main(argv: list[str] | None = None) -> None:
    """Run the command that `argv` (by default the process's arguments) names, then exit with its code."""
    _open_standard_streams()
    logging.basicConfig(format="eventlog: %(message)s", level=logging.WARNING)
    sys.exit(run(argv))


def _open_standard_streams() -> None:
    """A stream that was closed before the start (`>&-`) is the null device: else the next file would take its place."""
    while (opened := os.open(os.devnull, os.O_RDWR)) <= _STDERR:
        os.set_inheritable(opened, True)
    os.close(opened)
    sys.stdin = sys.stdin or os.fdopen(0, closefd=False)
    sys.stdout = sys.stdout or os.fdopen(1, "w", closefd=False)
    sys.stderr = sys.stderr or os.fdopen(_STDERR, "w", closefd=False)


def run(argv: list[str] | None = None) -> int:
    """Run a command and return its exit code; failures become one line on stderr."""
    # Inside, so that an interrupt while everything is still being imported is quiet too.
    try:
        with imports_of("cli", "the command line"):
            from .app import app

        code = app(args=argv, prog_name="eventlog", standalone_mode=False)
        _flush()
    except KeyboardInterrupt:
        return 130
    except (PipeClosed, SystemExit):
        # The second is click's, for the reader of a help text that has gone away.
        drop_stdout()
        return 0
    except Exception as error:
        if os.environ.get("EVENTLOG_DEBUG"):
            raise
        if isinstance(error, OSError):
            # A full disk under stdout, for one: what is still buffered would fail again at exit.
            drop_stdout()
        line = explain(error)
        # A reader of stderr that has gone away is no reason for another error.
        with contextlib.suppress(OSError):
            sys.stderr.write(line and line + "\n")
            sys.stderr.flush()
        return exit_code_of(error)
    return code if isinstance(code, int) else 0


def _flush() -> None:
    try:
        sys.stdout.flush()
    except BrokenPipeError as error:
        raise PipeClosed from error

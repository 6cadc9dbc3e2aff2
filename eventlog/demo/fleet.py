"""The demo's processes: started on a tether, watched, and stopped in order within a bound."""

import contextlib
import subprocess
import sys
import time
from collections.abc import Sequence

_TETHER = "eventlog.demo.tether"
_GRACE_S = 3.0


class Process:
    """One process on a tether. It ends when `stop` is called, and when the process that started it is gone."""

    def __init__(self, name: str, module: str, args: Sequence[str]) -> None:
        self.name = name
        self._popen = subprocess.Popen(
            [sys.executable, "-m", _TETHER, module, *args],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            # Ctrl-C in the terminal is for the demo, which stops its processes in order.
            start_new_session=True,
        )
        self._reported = False

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._popen.pid

    @property
    def exit_code(self) -> int | None:
        """None while it runs."""
        return self._popen.poll()

    def ended_unexpectedly(self) -> bool:
        """True once, after it ended without having been asked to."""
        unexpected = self.exit_code is not None and not self._reported
        self._reported = self._reported or unexpected
        return unexpected

    def ask_to_stop(self) -> None:
        """Ask it to end, without waiting."""
        self._reported = True
        with contextlib.suppress(ProcessLookupError):
            self._popen.terminate()

    def await_end(self, deadline: float) -> None:
        """Wait until it has ended; it is killed at `deadline` (monotonic seconds)."""
        try:
            self._popen.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            self._popen.kill()
            self._popen.wait()
        if self._popen.stdin is not None:
            self._popen.stdin.close()


def stop(processes: Sequence[Process]) -> None:
    """Stop processes all at once, within a few seconds."""
    for process in processes:
        process.ask_to_stop()
    deadline = time.monotonic() + _GRACE_S
    for process in processes:
        process.await_end(deadline)

"""A process of its own, started as a script: leads a process group, and ends it should the starter be gone or frozen.

    guardian.py GRACE_SECONDS

Standard input is the tether: a pipe whose other end the starter holds, and the kernel closes however the starter dies.
On it come lines: `until T`, up to when the group may run without hearing more (by `moment`, which all processes
share); and `done`, with which the guardian leaves and the group is on its own. It writes `ready` once it leads, and
`ending` before it ends the group. It imports small modules only, so as to start in a few milliseconds.
"""

# ruff: noqa: SIM105  (contextlib would take longer to import than all else)

import os
import select
import signal
import sys
import time
from collections.abc import Callable

# A message that was sent in time may still be on its way.
_SLACK_S = 0.3
_LONGEST_WAIT_S = 1.0


def _clock() -> Callable[[], float]:
    # A lease runs on while the machine sleeps, and so does this clock, where there is one.
    boot = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic if boot is None else lambda: time.clock_gettime(boot)


moment = _clock()


def main() -> None:
    """Guard the group until the message that it is done."""
    # Signals to the group are for the command. Only SIGKILL ends the guardian, and then all of the group is gone.
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP, signal.SIGCHLD}:
        signal.signal(number, signal.SIG_IGN)
    os.write(1, b"ready\n")
    left_s = _guard(float(sys.argv[1]))
    if left_s is None:
        return
    try:
        os.write(1, b"ending\n")
    except BrokenPipeError:
        pass  # the reader is gone
    os.killpg(0, signal.SIGTERM)
    # What is stopped does not hear SIGTERM otherwise.
    os.killpg(0, signal.SIGCONT)
    time.sleep(left_s)
    os.killpg(0, signal.SIGKILL)


def _guard(grace_s: float) -> float | None:
    """Wait until the group is done (None) or is to be ended; then in how many seconds, at the latest."""
    until: float | None = None
    rest = b""
    while True:
        # Never long at once: time spent asleep does not count in a wait.
        left_s = _LONGEST_WAIT_S if until is None else min(until + _SLACK_S - moment(), _LONGEST_WAIT_S)
        if not select.select([0], [], [], max(0.0, left_s))[0]:
            if until is not None and moment() >= until + _SLACK_S:
                return grace_s
            continue
        news = os.read(0, 4096)
        if not news:
            # A starter that is gone renews nothing: what is left of the lease is all there is.
            return grace_s if until is None else min(grace_s, max(0.0, until - moment()))
        *lines, rest = (rest + news).split(b"\n")
        for line in lines:
            if line == b"done":
                return None
            until = float(line.removeprefix(b"until "))


if __name__ == "__main__":
    main()

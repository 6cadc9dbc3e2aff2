"""A command in a process group of its own, which does not outlive us."""

import contextlib
import os
import resource
import select
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from .guardian import moment

_GUARDIAN = Path(__file__).with_name("guardian.py")
_PATIENCE_S = 5.0
# Linux counts the largest resident set in KiB, macOS in bytes.
_RSS_UNIT = 1 if sys.platform == "darwin" else 1024


class Stopped(NamedTuple):
    """The command was stopped by a signal, and may go on later."""

    signal: int


class Ended(NamedTuple):
    """The command has ended: by itself with `status`, or by `signal`. `usage` is what it and its children used."""

    status: int
    signal: int | None
    usage: Mapping[str, int]

    @property
    def exit_code(self) -> int:
        """As a shell counts: 128 and the number for a signal."""
        return self.status if self.signal is None else 128 + self.signal


class Pipes(NamedTuple):
    """Where to read what the command writes."""

    stdout: int
    stderr: int


class CommandGroup:
    """A process group, led by a guardian from the start, and at most one command in it. Close it.

    If our process dies, or is frozen past the time given to `allow`, the guardian ends the group: SIGTERM, and after
    `grace_s` SIGKILL; if we died, no later than at the end of that time. As long as the guardian is not reaped, the id
    of the group cannot become another's.
    """

    def __init__(self, grace_s: float) -> None:
        self._guardian = subprocess.Popen(
            [sys.executable, "-I", "-S", "-B", str(_GUARDIAN), str(grace_s)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            process_group=0,
        )
        assert self._guardian.stdin is not None
        assert self._guardian.stdout is not None
        self._tether = self._guardian.stdin
        self._replies = self._guardian.stdout
        # A guardian that is stopped must not hold us up.
        os.set_blocking(self._tether.fileno(), False)
        self._command: subprocess.Popen[bytes] | None = None
        self._own_maxrss = 0

    @property
    def id(self) -> int:
        """The process group's id."""
        return self._guardian.pid

    def start(self, command: Sequence[str], environ: Mapping[str, str]) -> Pipes:
        """Start the command. Raises `OSError` with the command as `filename` if it cannot be carried out."""
        if self._replies.readline() != b"ready\n":
            raise ChildProcessError("the guardian of the process group did not start")
        self._own_maxrss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        with contextlib.ExitStack() as ours:
            stdout, stderr = _pipe(ours), _pipe(ours)
            try:
                self._command = subprocess.Popen(
                    command,
                    stdout=stdout[1],
                    stderr=stderr[1],
                    env=environ,
                    # Other descriptors that we inherited, such as a job server's pipe, are meant for the command.
                    close_fds=False,
                    process_group=self.id,
                )
            except BaseException:
                os.close(stdout[0])
                os.close(stderr[0])
                raise
        return Pipes(stdout[0], stderr[0])

    @property
    def command_id(self) -> int:
        """The process id of the command, once that was started."""
        assert self._command is not None
        return self._command.pid

    def poll(self, last_look: Callable[[], object] = lambda: None) -> Stopped | Ended | None:
        """What became of the command since the last call; after its end, None.

        `last_look` is called once it has ended, and the system still knows what it used, where there is such a moment.
        """
        command = self._command
        if command is None or command.returncode is not None:
            return None
        if _has_ended(command.pid):
            last_look()
        pid, status, used = os.wait4(command.pid, os.WNOHANG | os.WUNTRACED)
        if pid == 0:
            return None
        if os.WIFSTOPPED(status):
            return Stopped(os.WSTOPSIG(status))
        code = command.returncode = os.waitstatus_to_exitcode(status)
        usage = {"cpu_user_ms": round(used.ru_utime * 1000), "cpu_system_ms": round(used.ru_stime * 1000)}
        # A process begins with the maximum of the one that forked it: below that of ours, its own is not known.
        if used.ru_maxrss > self._own_maxrss:
            usage["max_rss_bytes"] = used.ru_maxrss * _RSS_UNIT
        return Ended(max(0, code), -code if code < 0 else None, usage)

    def signal(self, number: int) -> None:
        """Send the group a signal."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.id, number)

    def end(self) -> None:
        """Ask the group to end, what is stopped in it too."""
        self.signal(signal.SIGTERM)
        self.signal(signal.SIGCONT)

    def allow(self, seconds: float) -> None:
        """The group may run for so long without another message. Does not wait."""
        self._send(f"until {moment() + seconds:.3f}")

    def _send(self, line: str) -> None:
        # A guardian that is gone was killed with the group. One that is stopped may miss a message.
        with contextlib.suppress(OSError):
            os.write(self._tether.fileno(), line.encode() + b"\n")

    @property
    def ended_by_guardian(self) -> bool:
        """True once the guardian has set about to end the group."""
        poll = select.poll()
        poll.register(self._replies, select.POLLIN)
        return any(state & select.POLLIN for _, state in poll.poll(0))

    def close(self) -> None:
        """Let the guardian go. A command that has not ended is killed, with all of its group. Idempotent."""
        if self._guardian.returncode is not None:
            return
        if self._command is not None and self._command.returncode is None:
            self.signal(signal.SIGKILL)
            self._command.wait()
        self._send("done")
        try:
            self._guardian.wait(_PATIENCE_S)
        except subprocess.TimeoutExpired:
            self._guardian.kill()
            self._guardian.wait()
        self._tether.close()
        self._replies.close()


def _has_ended(pid: int) -> bool:
    """Whether a child has ended; it is not reaped. False too where the system cannot say so without reaping it."""
    if not hasattr(os, "waitid"):
        return False
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def _pipe(ours: contextlib.ExitStack) -> tuple[int, int]:
    """Both ends of a pipe; the end to write to is closed with `ours`, so that the command alone has it."""
    read, write = os.pipe()
    ours.callback(os.close, write)
    return read, write

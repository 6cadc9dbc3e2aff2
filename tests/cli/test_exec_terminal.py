"""A command at a terminal, started by a real shell with job control: reading, Ctrl-C, Ctrl-Z and fg."""

import fcntl
import os
import pty
import re
import select
import shlex
import shutil
import signal
import subprocess
import termios
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from eventlog import EventLog

from .exec_stage import Stage, python
from .program import PATIENCE_S, Program

SHELL = shutil.which("bash") or "/bin/sh"


class Shell:
    """An interactive shell on a terminal of its own."""

    def __init__(self, environ: dict[str, str]) -> None:
        self._ours, theirs = pty.openpty()
        self.process = subprocess.Popen(
            [SHELL, "-i"],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env={**environ, "PS1": "", "ENV": "", "HOME": "/nonexistent", "TERM": "dumb"},
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )
        os.close(theirs)
        self.seen = ""

    def type(self, text: str) -> None:
        """Type, control characters too."""
        os.write(self._ours, text.encode())

    def until(self, pattern: str) -> str:
        """Wait for output that was not matched before."""
        deadline = time.monotonic() + PATIENCE_S
        while not (found := re.search(pattern, self.seen)):
            assert time.monotonic() < deadline, f"not seen: {pattern}\n{self.seen[-2000:]}"
            if select.select([self._ours], [], [], 0.1)[0]:
                self.seen += os.read(self._ours, 4096).decode(errors="replace")
        self.seen = self.seen[found.end() :]
        return found[0]

    def close(self) -> None:
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(PATIENCE_S)
        os.close(self._ours)


@pytest.fixture
def stage(tmp_path: Path, program: Program, log: EventLog) -> Stage:
    found = Stage(tmp_path, program.environ, log)
    found.grant()
    return found


@pytest.fixture
def shell(stage: Stage) -> Iterator[Shell]:
    opened = Shell(dict(stage.environ))
    yield opened
    opened.close()


def _typed(stage: Stage, *command: str) -> str:
    return shlex.join(stage.command(*command, lease_s=60.0)) + "; echo code=$?.\n"


def test_a_command_reads_from_the_terminal_and_the_shell_has_it_back_after(stage: Stage, shell: Shell) -> None:
    shell.type(_typed(stage, *python("print('now' + ':'); print('heard', input())")))
    shell.until("now:")
    shell.type("some words\n")
    shell.until("heard some words")
    shell.until(r"code=0\.")
    shell.type("echo $((6 * 7)).\n")
    shell.until(r"42\.")


@pytest.mark.parametrize("reads", [False, True])
def test_ctrl_c_ends_the_command_whether_it_has_the_terminal_or_not(stage: Stage, shell: Shell, reads: bool) -> None:
    wait = "input()" if reads else "signal.pause()"
    shell.type(_typed(stage, *python(f"import signal; signal.signal(2, signal.SIG_DFL); print('now' + ':'); {wait}")))
    shell.until("now:")
    shell.type("line\n\x03" if reads else "\x03")
    if not reads:
        shell.until(r"code=130\.")
        assert stage.payload("run.cancelled")["reason"] == "SIGINT"


@pytest.mark.parametrize("reads", [False, True])
def test_ctrl_z_stops_the_job_and_fg_goes_on_with_it(stage: Stage, shell: Shell, reads: bool) -> None:
    """In the second case the command has the terminal when it is stopped; in the first it asks for it afterwards."""
    # Were it about to ask, the signal that lets it go on would take back the one that stops it.
    first = "input()" if reads else "signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCONT})"
    then = "None" if reads else "signal.sigwait({signal.SIGCONT})"
    source = f"""
        import signal, sys
        {first}
        print("now" + ":")
        {then}
        for line in sys.stdin: print("heard", line)
    """
    shell.type(shlex.join(stage.command(*python(source), lease_s=60.0)) + "\n")
    if reads:
        shell.type("first\n")
    shell.until("now:")
    shell.type("\x1a")
    shell.until("(?i)stopped")
    shell.type("echo $((6 * 7)).\n")
    shell.until(r"42\.")
    shell.type("fg\n")
    shell.type("words\n")
    shell.until("heard words")
    shell.type("\x04")
    shell.type("echo code=$?.\n")
    shell.until(r"code=0\.")


def test_a_pipeline_keeps_its_terminal_while_the_command_does_not_read(stage: Stage, shell: Shell) -> None:
    line = shlex.join(stage.command(*python("print('through')"), lease_s=60.0))
    shell.type(line + " | { cat; read word < /dev/tty; echo got $word.; }\n")
    shell.until("through")
    shell.type("it\n")
    shell.until(r"got it\.")

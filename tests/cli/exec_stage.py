"""A stage for `eventlog exec`: the process under test, the slot it waits for, and what came of it."""

import json
import sys
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil

from eventlog import EventLog
from tests.support.redis_process import eventually

from .program import Running

_UNDER_SLOT = Path(__file__).with_name("under_slot.py")


def python(source: str, *args: str) -> list[str]:
    """A command that runs these lines of Python."""
    return [sys.executable, "-u", "-S", "-c", textwrap.dedent(source), *args]


class Stage:
    """Runs commands under a slot whose grant and loss the test decides."""

    def __init__(self, where: Path, environ: Mapping[str, str], log: EventLog) -> None:
        self.where = where
        self.environ = environ
        self.log = log

    def command(self, *command: str, **options: Any) -> list[str]:
        """The command line that performs `command`."""
        return [sys.executable, str(_UNDER_SLOT), str(self.where), json.dumps(options), *command]

    def start(self, *command: str, granted: bool = True, **options: Any) -> Running:
        """Start it; use the result with `with`."""
        if granted:
            self.grant()
        return Running(self.command(*command, **options), self.environ)

    def grant(self) -> None:
        """The slot is given."""
        (self.where / "grant").touch()

    def lose(self) -> None:
        """The lease is lost."""
        (self.where / "lost").touch()

    @property
    def released(self) -> bool:
        """Whether the slot was given back."""
        return (self.where / "released").exists()

    def until_queued(self) -> None:
        """Wait until it waits for its slot."""
        eventually((self.where / "queued").exists, "it queues")

    def kinds(self) -> list[str]:
        """The kinds of all events, in order."""
        return [event.kind for event in self.log.query()]

    def payload(self, kind: str) -> dict[str, Any]:
        """The payload of the only event of a kind."""
        [event] = self.log.query(kind=kind)
        return event.payload

    def lines(self) -> list[str]:
        """The recorded output."""
        return [event.payload["line"] for event in self.log.query(kind="exec.output")]


def gone(pid: int) -> bool:
    """Whether a process has ended."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def until_gone(*pids: int) -> None:
    """Wait until these processes have ended."""
    eventually(lambda: all(gone(pid) for pid in pids), f"{pids} end")


def stopped(pid: int) -> bool:
    """Whether a process is stopped."""
    return psutil.Process(pid).status() == psutil.STATUS_STOPPED


def pids_said(running: Running, count: int = 1) -> list[int]:
    """The pids that the command printed first, one a line."""
    return [int(line) for line in running.lines(count)[:count]]

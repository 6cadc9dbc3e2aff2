"""What the end of an execution is called, in events and as an exit code. Pure."""

import errno
import signal
from collections.abc import Mapping
from enum import StrEnum
from typing import Any, NamedTuple

NOT_FOUND = 127
NOT_EXECUTABLE = 126
LEASE_LOST = 69


class Status(StrEnum):
    """How an execution ended."""

    succeeded = "succeeded"
    failed = "failed"
    cancelled = "cancelled"
    lease_lost = "lease_lost"


class Outcome(NamedTuple):
    """`command_code` is the command's own exit code, or the one of a command that could not be started."""

    status: Status
    command_code: int
    reason: str = ""
    ran: bool = True

    @property
    def exit_code(self) -> int:
        """What we exit with: the command's code, unless it was ended because its slot was gone."""
        return LEASE_LOST if self.status is Status.lease_lost else self.command_code

    @property
    def worth_repeating(self) -> bool:
        """The command itself failed; it was not ended by us, nor by a signal that asked us to end it."""
        return self.status is Status.failed and self.ran

    @property
    def stage_kind(self) -> str:
        """The kind of the event that ends the stage."""
        return "stage.succeeded" if self.status is Status.succeeded else "stage.failed"

    @property
    def run_kind(self) -> str:
        """The kind of the event that ends the run."""
        kinds = {Status.succeeded: "run.finished", Status.cancelled: "run.cancelled"}
        return kinds.get(self.status, "run.failed")

    @property
    def facts(self) -> Mapping[str, Any]:
        """What the payload of every event of the end has."""
        return {"exit_code": self.command_code, **({"reason": self.reason} if self.reason else {})}


def outcome_of(exit_code: int, ended_by: int | None, *, asked_by: int | None, taken: bool) -> Outcome:
    """The end of a command: `ended_by` a signal, after we were `asked_by` one to end it, or as its slot was `taken`."""
    if taken:
        return Outcome(Status.lease_lost, exit_code, "its lease was lost")
    if exit_code == 0:
        return Outcome(Status.succeeded, 0)
    # A terminal's Ctrl-C may reach the command without passing by us.
    cancelled_by = asked_by if asked_by is not None else (ended_by if ended_by == signal.SIGINT else None)
    if cancelled_by is not None:
        return Outcome(Status.cancelled, exit_code, signal_name(cancelled_by))
    return Outcome(Status.failed, exit_code, "" if ended_by is None else f"ended by {signal_name(ended_by)}")


def not_started(error: OSError) -> Outcome:
    """A command that could not be carried out, with the exit code that shells give."""
    code = NOT_FOUND if error.errno in (errno.ENOENT, errno.ENOTDIR) else NOT_EXECUTABLE
    return Outcome(Status.failed, code, error.strerror or str(error), ran=False)


def signal_name(number: int) -> str:
    """`SIGTERM`; for a real-time signal, its number."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"

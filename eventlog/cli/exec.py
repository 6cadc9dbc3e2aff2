"""`eventlog exec`: a real command under a slot, with its output and its end in the log. See `eventlog/execution`."""

import math
import os
import uuid
from collections.abc import Callable
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import InvalidInput
from ..events import Body
from ..slots.policy import checked_name
from .options import DataDir, Url, Workspace
from .output import note
from .target import open_log_and_slots

if TYPE_CHECKING:
    from ..execution.slot import HeldSlot

_LONGEST_GRACE_S = 3600.0

# Options end where the command begins, with or without `--`.
SETTINGS = {"allow_interspersed_args": False}


class OnLost(StrEnum):
    """What becomes of the command when the lease on its slot is lost."""

    kill = "kill"
    continue_ = "continue"


def execute(
    command: Annotated[list[str], typer.Argument(metavar="-- COMMAND [ARGS]...", help="The command to run.")],
    action: Annotated[str, typer.Option(help="What it competes for.")],
    max_concurrent: Annotated[
        int | None,
        typer.Option(help="How many may hold a slot of the action at once, where no policy says. [default: no limit]"),
    ] = None,
    lease: Annotated[
        float, typer.Option(help="Seconds after which the slot is free should this process be gone; it renews itself.")
    ] = 30.0,
    group: Annotated[str | None, typer.Option(help="A queue of its own within the action.")] = None,
    pack: Annotated[str | None, typer.Option(help="Whose policy counts if the action has none.")] = None,
    timeout: Annotated[float | None, typer.Option(help="Wait at most so many seconds for the slot.")] = None,
    execution_id: Annotated[str | None, typer.Option(help="Its name in the queue. [default: a new one]")] = None,
    run: Annotated[str | None, typer.Option(help="The run it is recorded as. [default: the execution id]")] = None,
    stage: Annotated[str | None, typer.Option(help="The stage it is recorded as. [default: the action]")] = None,
    stage_only: Annotated[
        bool, typer.Option("--stage-only", help="The run has other stages: do not record its beginning and end.")
    ] = False,
    source: Annotated[str, typer.Option(help="Who is said to have produced its events.")] = "exec",
    record_output: Annotated[bool, typer.Option(help="Append its output to the log, a line an event.")] = True,
    on_lost: Annotated[
        OnLost, typer.Option(help="When the lease is lost: end the command, or let it go on.")
    ] = OnLost.kill,
    grace: Annotated[float, typer.Option(help="Seconds from SIGTERM to SIGKILL when the lease is lost.")] = 5.0,
    workspace: Workspace = None,
    url: Url = None,
    data_dir: DataDir = None,
) -> None:
    """Queue for a slot, run COMMAND under it, record it in the log, and exit with its exit code.

    Its output is passed through as it is. Signals go to all of its process group. When the lease on the slot is lost,
    or this process dies, the process group is ended. Where there is no slot to be had, nothing is run: exit code 75.
    """
    if not (math.isfinite(grace) and 0 <= grace <= _LONGEST_GRACE_S):
        raise InvalidInput("grace", f"{grace} is not 0 to {_LONGEST_GRACE_S:g} seconds")
    if not hasattr(os, "killpg"):
        raise InvalidInput("command", "exec needs a system with process groups: Linux, macOS or another POSIX one")
    from ..execution.performance import Task, perform

    name = uuid.uuid4().hex if execution_id is None else checked_name("execution_id", execution_id)
    task = Task(
        command=command,
        action=action,
        execution_id=name,
        run_id=name if run is None else run,
        stage_name=action if stage is None else stage,
        group_key=group,
        ends_when_lost=on_lost is OnLost.kill,
        grace_s=grace,
        whole_run=not stage_only,
        record_output=record_output,
        source=source,
    )
    # What is wrong with a name is said before anything is opened.
    Body.of("run.started", run_id=task.run_id, stage_name=task.stage_name, source=source)
    with open_log_and_slots(url, workspace, data_dir) as (log, slots):

        def acquire(tell: Callable[..., None]) -> "HeldSlot":
            return slots.acquire(
                action,
                name,
                max_concurrent=max_concurrent,
                lease_s=lease,
                group_key=group,
                pack=pack,
                timeout_s=timeout,
                on_lost=tell,
            )

        code = perform(task, acquire, log, lambda text: note(f"eventlog: {text}"))
    raise typer.Exit(code)

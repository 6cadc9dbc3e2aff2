"""`eventlog exec`: a real command under a slot, with its output and its end in the log. See `eventlog/execution`."""

import logging
import math
import os
import uuid
from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import InvalidInput
from ..log.blocking import EventLog
from ..model.events import DEFAULT_LANE
from ..printing.output import note
from ..runs.fold import DEFAULT_GROUP
from ..runs.stages import AttemptClaim, StageParts, claim_attempt, stage_queued
from ..slots.blocking import SlotQueue
from ..slots.policy import checked_name, in_force, queue_name
from ..slots.request import Acquisition, SlotOptions
from ..telemetry.terms import MOST_SAMPLES
from .failures import exit_code_of
from .options import with_options
from .target import Target

if TYPE_CHECKING:
    from ..execution.slot import HeldSlot
    from ..execution.task import Task
    from ..execution.watch import Watch, Watching

_LONGEST_GRACE_S = 3600.0
_SHORTEST_INTERVAL_S = 0.01
_LONGEST_INTERVAL_S = 3600.0
_SAMPLE_INTERVAL_S = 1.0
_MOST_RETRIES = 1000

# Options end where the command begins, with or without `--`.
SETTINGS = {"allow_interspersed_args": False}


class OnLost(StrEnum):
    """What happens to the command when the lease on its slot is lost."""

    kill = "kill"
    continue_ = "continue"


@with_options
def execute(
    target: Target,
    command: Annotated[list[str], typer.Argument(metavar="-- COMMAND [ARGS]...", help="The command to run.")],
    action: Annotated[str, typer.Option(help="The action that the slot is for.")],
    max_concurrent: Annotated[
        int | None,
        typer.Option(
            help="How many may hold a slot of the action at once. [default: what a policy says; it goes before this]"
        ),
    ] = None,
    no_limit: Annotated[
        bool, typer.Option("--no-limit", help="Any number may run at once, if no policy says otherwise.")
    ] = False,
    lease: Annotated[
        float, typer.Option(help="Seconds until the slot is free if this process dies. It renews itself.")
    ] = 30.0,
    group: Annotated[str | None, typer.Option(help="A queue of its own within the action.")] = None,
    pack: Annotated[str | None, typer.Option(help="The pack whose policy counts if the action has none.")] = None,
    timeout: Annotated[float | None, typer.Option(help="Wait at most so many seconds for the slot.")] = None,
    execution_id: Annotated[str | None, typer.Option(help="Its name in the queue. [default: a new one]")] = None,
    run: Annotated[str | None, typer.Option(help="The run it is recorded as. [default: the execution id]")] = None,
    lane: Annotated[str, typer.Option(help="The lane of the run that its events are on.")] = DEFAULT_LANE,
    stage: Annotated[str | None, typer.Option(help="The stage it is recorded as. [default: the action]")] = None,
    stage_only: Annotated[
        bool, typer.Option("--stage-only", help="The run has other stages: do not record its beginning and end.")
    ] = False,
    source: Annotated[str, typer.Option(help="The source of its events.")] = "exec",
    record_output: Annotated[bool, typer.Option(help="Append its output to the log, a line an event.")] = True,
    depends_on: Annotated[
        list[str] | None, typer.Option(metavar="STAGE", help="A stage that it comes after, for readers. Repeatable.")
    ] = None,
    stage_group: Annotated[str, typer.Option(help="The group of stages that it is recorded in.")] = DEFAULT_GROUP,
    retries: Annotated[
        int, typer.Option(help="Run it again when it fails, up to so many times, each time from the end of the queue.")
    ] = 0,
    sample_interval: Annotated[
        float, typer.Option(help="Seconds between samples of what it uses; 0 takes none.")
    ] = _SAMPLE_INTERVAL_S,
    telemetry_samples: Annotated[
        int | None,
        typer.Option(help="How many samples the run keeps, the newest; 0 takes none. [default: the log's setting]"),
    ] = None,
    on_lost: Annotated[
        OnLost, typer.Option(help="When the lease is lost: end the command, or let it go on.")
    ] = OnLost.kill,
    grace: Annotated[float, typer.Option(help="Seconds from SIGTERM to SIGKILL when the lease is lost.")] = 5.0,
) -> None:
    """Queue for a slot, run COMMAND under it, record it in the log, and exit with its exit code.

    Its output is passed through as it is. Signals go to all of its process group. When the lease on the slot is lost,
    or this process dies, the process group is ended. Without a slot nothing is run, and the exit code is 75.
    """
    _check_range("grace", grace, _LONGEST_GRACE_S, "seconds")
    if sample_interval != 0:
        _check_range("sample_interval", sample_interval, _LONGEST_INTERVAL_S, "seconds, or 0", _SHORTEST_INTERVAL_S)
    _check_range("retries", retries, _MOST_RETRIES, "times")
    _check_range("telemetry_samples", telemetry_samples or 0, MOST_SAMPLES, "samples")
    if no_limit and max_concurrent is not None:
        raise InvalidInput("no_limit", "cannot be combined with --max-concurrent")
    if not hasattr(os, "killpg"):
        raise InvalidInput("command", "exec needs a system with process groups: Linux, macOS or another POSIX one")
    from ..execution.attempts import perform
    from ..execution.task import Task

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
        lane_id=lane,
        stage_group=stage_group,
        depends_on=depends_on or (),
        max_concurrent=max_concurrent,
        retries=retries,
        environ=_environ(target),
    )
    # Wrong names and numbers are refused before anything is opened.
    parts = _parts(task)
    stage_queued(task.stage_name, run_id=task.run_id, depends_on=task.depends_on, **parts)
    wanted: SlotOptions = {"max_concurrent": max_concurrent, "lease_s": lease, "group_key": group, "pack": pack}
    Acquisition.of(action, name, timeout, **wanted)
    if no_limit:
        logging.getLogger("eventlog.slots").setLevel(logging.ERROR)  # it need not be said once more
    with target.open_log() as log, log.slots() as slots:
        if max_concurrent is None and not no_limit:
            _check_limited(slots, queue_name(action, group), pack)

        def acquire(report_loss: Callable[..., None]) -> "HeldSlot":
            return slots.acquire(action, name, timeout_s=timeout, on_lost=report_loss, **wanted)

        code = perform(
            task,
            acquire,
            log,
            lambda facts: _claim(log, task, facts),
            lambda text: note(f"eventlog: {text}"),
            _watch(log, task, sample_interval, telemetry_samples),
            exit_code_of,
        )
    raise typer.Exit(code)


def _check_limited(slots: SlotQueue, queue: str, pack: str | None) -> None:
    """Without any limit as many would run as come: that is to be said, not forgotten."""
    if in_force(slots.policies(), queue, pack or "-").max_concurrent is None:
        raise InvalidInput(
            "max_concurrent",
            f"is needed, as no policy limits {queue}: give --max-concurrent N, set a policy (eventlog slots policy "
            f"action/{queue.partition('/')[0]} --max-concurrent N), or let any number run with --no-limit",
        )


def _check_range(name: str, value: float, most: float, unit: str, least: float = 0) -> None:
    if not (math.isfinite(value) and least <= value <= most):
        raise InvalidInput(name, f"{value} is not {least:g} to {most:g} {unit}")


def _environ(target: Target) -> dict[str, str]:
    """Our environment, with variables that lead the command to the same log, however it was named to us."""
    environ = {**os.environ, "EVENTLOG_WORKSPACE": target.config.workspace}
    if target.server is not None:
        return {**environ, "EVENTLOG_URL": target.server}
    environ.pop("EVENTLOG_URL", None)
    if target.config.redis_url is not None:
        return {**environ, "EVENTLOG_REDIS_URL": target.config.redis_url}
    environ.pop("EVENTLOG_REDIS_URL", None)
    return {**environ, "EVENTLOG_DATA_DIR": os.path.abspath(os.path.expanduser(target.config.data_dir))}


def _parts(task: "Task") -> StageParts:
    return {"lane_id": task.lane_id, "group_id": task.stage_group, "source": task.source}


def _claim(log: EventLog, task: "Task", facts: Mapping[str, Any]) -> Callable[[], int]:
    claim = AttemptClaim(task.stage_name, task.run_id, facts, _parts(task))
    return lambda: claim_attempt(log, claim)


def _watch(log: EventLog, task: "Task", interval_s: float, capacity: int | None) -> "Watch":
    """Takes samples of a command and of its children, unless none are wanted or kept."""
    from ..execution.watch import unwatched

    kept = log.telemetry_capacity if capacity is None else capacity
    if interval_s == 0 or kept == 0:
        return unwatched
    from ..telemetry.host import HostMetrics
    from ..telemetry.sampler import TelemetrySampler

    def watch(pid: int) -> "Watching":
        metrics = HostMetrics(pid)
        sampler = TelemetrySampler(
            log.push_telemetry,
            task.run_id,
            metrics=lambda: _what_counts(metrics.sample()),
            interval_s=interval_s,
            stage=task.stage_name,
            source=task.source,
            capacity=capacity,
        )
        sampler.start()
        return sampler

    return watch


def _what_counts(sample: Mapping[str, int | float] | None) -> Mapping[str, int | float] | None:
    """A sample without the memory of a command that has ended: it would be 0, whatever it used before."""
    if sample is None or sample.get("rss_bytes"):
        return sample
    return {name: value for name, value in sample.items() if name != "rss_bytes"}

"""The builder of the demo: runs real commands as stages of a run, and appends their output line by line."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from .worker import Steps, Stopping, Task, runs, task

_SOURCES = Path(__file__).resolve().parents[1] / "store"
_BETWEEN_BUILDS = 6


class Command(NamedTuple):
    """A stage and the arguments to Python that carry it out."""

    stage: str
    args: tuple[str, ...]


def main() -> None:
    """Build until told to stop."""
    stopping = Stopping()
    work = task(__doc__ or "")
    with work.log, tempfile.TemporaryDirectory(prefix="eventlog-demo-") as scratch:
        for run_id in runs(work.name, stopping, work.pace_s * _BETWEEN_BUILDS):
            _build(work, stopping, run_id, Path(scratch))


def _build(work: Task, stopping: Stopping, run_id: str, scratch: Path) -> None:
    steps = Steps(work, stopping, run_id)
    steps.say("run.started", {"goal": "build"})
    archive = str(scratch / "store.zip")
    for command in (
        Command("compile", ("-m", "compileall", "-f", str(_SOURCES))),
        Command("check", ("-m", "tabnanny", "-v", str(_SOURCES))),
        Command("measure", ("-m", "timeit", "-n", "20000", "sum(range(100))")),
        Command("package", ("-m", "zipfile", "-c", archive, str(_SOURCES))),
        Command("contents", ("-m", "zipfile", "-l", archive)),
    ):
        exit_code = _stage(steps, stopping, command, scratch)
        if stopping:
            steps.say("run.cancelled", {"reason": "the demo ends"})
            return
        if exit_code != 0:
            steps.say("run.failed", {"stage": command.stage, "exit_code": exit_code})
            return
    steps.say("run.finished", {"archive_bytes": Path(archive).stat().st_size})


def _stage(steps: Steps, stopping: Stopping, command: Command, scratch: Path) -> int:
    shown = " ".join(("python", *command.args))
    steps.say("stage.started", {"stage_attempt": 1, "command": shown}, stage_name=command.stage, group_id="g0")
    began = time.monotonic()
    with subprocess.Popen(
        [sys.executable, *command.args],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        # Nothing is written beside the sources.
        env={**os.environ, "PYTHONPYCACHEPREFIX": str(scratch)},
    ) as running:
        stopping.react = lambda: running.send_signal(signal.SIGTERM)
        for line in running.stdout or ():
            steps.say("build.output", {"line": line.rstrip("\n")}, stage_name=command.stage, group_id="g0")
    stopping.react = lambda: None
    exit_code = running.returncode
    told = {"stage_attempt": 1, "duration_ms": round((time.monotonic() - began) * 1000), "exit_code": exit_code}
    kind = "stage.succeeded" if exit_code == 0 else "stage.failed"
    steps.say(kind, told, stage_name=command.stage, group_id="g0")
    return exit_code


if __name__ == "__main__":
    main()

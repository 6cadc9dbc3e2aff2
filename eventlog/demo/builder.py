"""A builder of the demo: runs with real commands as stages, each under a slot that all builders compete for.

`eventlog exec` queues, runs the command and records it, as in any script; the run around that is the builder's.
"""

import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

from .worker import Steps, Stopping, Task, runs, task

_SOURCES = Path(__file__).resolve().parents[1] / "store"
_BETWEEN_BUILDS = 6
_AT_ONCE = 1


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
        Command("check", ("-m", "tabnanny", str(_SOURCES))),
        Command("measure", ("-m", "timeit", "-n", "200000", "sum(range(100))")),
        Command("package", ("-m", "zipfile", "-c", archive, str(_SOURCES))),
    ):
        exit_code = _stage(work, stopping, run_id, command)
        if stopping:
            steps.say("run.cancelled", {"reason": "the demo ends"})
            return
        if exit_code != 0:
            steps.say("run.failed", {"stage": command.stage, "exit_code": exit_code})
            return
    steps.say("run.finished", {"archive_bytes": Path(archive).stat().st_size})


def _stage(work: Task, stopping: Stopping, run_id: str, command: Command) -> int:
    """Run one command under a slot of `build`, and return its exit code."""
    options = {
        "action": "build",
        "max-concurrent": str(_AT_ONCE),
        # In the log and in `eventlog slots` this tells who waits for whom.
        "execution-id": f"{run_id}.{command.stage}",
        "run": run_id,
        "stage": command.stage,
        "source": work.name,
        "url": work.url,
        "workspace": work.log.workspace,
    }
    given = [f"--{name}={value}" for name, value in options.items()]
    with subprocess.Popen(
        [sys.executable, "-m", "eventlog", "exec", *given, "--stage-only", "--", sys.executable, *command.args],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as running:
        stopping.react = lambda: running.send_signal(signal.SIGTERM)
        if stopping:
            running.send_signal(signal.SIGTERM)
        exit_code = running.wait()
    stopping.react = lambda: None
    stopping.pause(work.pace_s)
    return exit_code


if __name__ == "__main__":
    main()

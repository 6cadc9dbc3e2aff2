"""A builder of the demo: runs with real commands as stages, each under a slot that all builders compete for.

`eventlog exec` queues, runs the command, samples it and records it, as in any script; the run around that is the
builder's, and so is the plan: which stages there are, and what each comes after.
"""

import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

from .worker import RunWriter, Stopping, Worker, runs, start_worker

_SOURCES = Path(__file__).resolve().parents[1] / "store"
_BETWEEN_BUILDS = 6
_AT_ONCE = 1


# One start in four goes wrong, as things do: that is how stages of the demo come to a second attempt.
_FLAKY = "import os; os.getpid() % 4 or os._exit(3)"


class Command(NamedTuple):
    """A stage, the arguments to Python that carry it out, and the stage that it comes after."""

    stage: str
    args: tuple[str, ...]
    after: str | None = None


def main() -> None:
    """Build until asked to stop."""
    stopping = Stopping()
    worker = start_worker(__doc__ or "")
    with worker.log, tempfile.TemporaryDirectory(prefix="eventlog-demo-") as scratch:
        for run_id in runs(worker.name, stopping, worker.pace_s * _BETWEEN_BUILDS):
            _build(worker, stopping, run_id, Path(scratch))


def _build(worker: Worker, stopping: Stopping, run_id: str, scratch: Path) -> None:
    run = RunWriter(worker, stopping, run_id)
    run.append("run.started", {"goal": "build"})
    archive = str(scratch / "store.zip")
    commands = (
        Command("check", ("-m", "tabnanny", str(_SOURCES))),
        Command("measure", ("-m", "timeit", "-n", "200000", "-s", _FLAKY, "sum(range(100))"), after="check"),
        Command("package", ("-m", "zipfile", "-c", archive, str(_SOURCES)), after="measure"),
    )
    run.plan({command.stage: [command.after] if command.after else [] for command in commands})
    for command in commands:
        exit_code = _stage(worker, stopping, run_id, command)
        if stopping:
            run.append("run.cancelled", {"reason": "the demo ends"})
            return
        if exit_code != 0:
            run.append("run.failed", {"stage": command.stage, "exit_code": exit_code})
            return
    run.append("run.finished", {"archive_bytes": Path(archive).stat().st_size})


def _stage(worker: Worker, stopping: Stopping, run_id: str, command: Command) -> int:
    """Run one command under a slot of `build`, and return its exit code."""
    options = {
        "action": "build",
        "max-concurrent": str(_AT_ONCE),
        # By this name the stage is found in the log and in `eventlog slots`.
        "execution-id": f"{run_id}.{command.stage}",
        "run": run_id,
        "stage": command.stage,
        "retries": "1",
        "sample-interval": "0.25",
        "source": worker.name,
        "url": worker.url,
        "workspace": worker.log.workspace,
    }
    if command.after is not None:
        options["depends-on"] = command.after
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
    stopping.pause(worker.pace_s)
    return exit_code


if __name__ == "__main__":
    main()

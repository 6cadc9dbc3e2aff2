"""An agent of the demo: runs with turns and tools, each tool doing something real with the project's own files."""

import hashlib
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .worker import RunWriter, Stopping, Worker, runs, start_worker

_SOURCES = Path(__file__).resolve().parents[1]
_BETWEEN_RUNS = 3
_GOALS = ("find the longest module", "fingerprint the scripts", "count what is written", "look for a lost file")


def main() -> None:
    """Make runs until asked to stop."""
    stopping = Stopping()
    worker = start_worker(__doc__ or "")
    with worker.log:
        for run_id in runs(worker.name, stopping, worker.pace_s * _BETWEEN_RUNS):
            _one_run(worker, stopping, run_id)


def _one_run(worker: Worker, stopping: Stopping, run_id: str) -> None:
    run = RunWriter(worker, stopping, run_id)
    goal = random.choice(_GOALS)
    run.append("run.started", {"goal": goal})
    used = 0
    for turn in range(1, random.randint(2, 4)):
        run.append("turn.started", {"turn": turn}, visibility="internal")
        for lane in random.sample(("read", "search"), k=random.randint(1, 2)):
            if stopping:
                run.append("run.cancelled", {"reason": "the demo ends"})
                return
            used += 1
            if not _use_tool(run, random.choice(_TOOLS), lane):
                run.append("run.failed", {"goal": goal, "turns": turn, "tools": used})
                return
    run.append("run.finished", {"goal": goal, "tools": used})


def _use_tool(run: RunWriter, tool: Callable[[], dict[str, Any]], lane: str) -> bool:
    name = tool.__name__.strip("_")
    run.append("tool.invoked", {"tool": name}, lane_id=lane)
    began = time.perf_counter()
    try:
        found = tool()
    except OSError as error:
        run.append("tool.failed", {"tool": name, "error": str(error)}, lane_id=lane)
        return False
    took_ms = round((time.perf_counter() - began) * 1000, 3)
    run.append("tool.completed", {"tool": name, "duration_ms": took_ms, **found}, lane_id=lane)
    return True


def _longest_module() -> dict[str, Any]:
    lines = {path.name: path.read_text("utf-8").count("\n") for path in _SOURCES.rglob("*.py")}
    longest = max(lines, key=lines.__getitem__)
    return {"module": longest, "lines": lines[longest], "of": len(lines)}


def _fingerprint() -> dict[str, Any]:
    script = random.choice(sorted(_SOURCES.rglob("*.lua")) or [Path(__file__)])
    return {"file": script.name, "sha256": hashlib.sha256(script.read_bytes()).hexdigest()}


def _count_bytes() -> dict[str, Any]:
    files = [path for path in _SOURCES.rglob("*.py") if path.is_file()]
    return {"files": len(files), "bytes": sum(path.stat().st_size for path in files)}


def _read_notes() -> dict[str, Any]:
    # One of these does not exist: that is how runs of the demo fail.
    name = random.choice(("__init__.py", "config.py", "errors.py", "lost.txt"))
    return {"file": name, "bytes": len((_SOURCES / name).read_bytes())}


_TOOLS = (_longest_module, _fingerprint, _count_bytes, _read_notes)

if __name__ == "__main__":
    main()

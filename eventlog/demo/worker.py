"""What the processes of the fleet have in common: their arguments, their log, and the request to stop."""

import argparse
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from ..errors import BackendUnavailable
from ..factory import create_event_log
from ..log.blocking import EventLog
from ..model.events import Body
from ..runs.stages import stage_queued

_RETRY_S = 1.0


class Worker(NamedTuple):
    """What a process was started with: its name, its log and where that is, the pause between its events in seconds."""

    name: str
    log: EventLog
    url: str
    pace_s: float


def start_worker(description: str) -> Worker:
    """Read the arguments and open the log: an http:// URL is a server, another one a Redis."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--name", required=True)
    parser.add_argument("--url", required=True)
    parser.add_argument("--workspace", required=True)
    parser.add_argument("--pace", type=float, default=0.5)
    given = parser.parse_args()
    log = create_event_log(url=given.url, workspace=given.workspace)
    return Worker(given.name, log, given.url, given.pace)


class Stopping:
    """Set by SIGTERM. `react` is called then too, within the signal handler."""

    def __init__(self) -> None:
        self._asked = threading.Event()
        self.react: Callable[[], object] = lambda: None
        signal.signal(signal.SIGTERM, self._stop)

    def _stop(self, *_: object) -> None:
        self._asked.set()
        self.react()

    def __bool__(self) -> bool:
        return self._asked.is_set()

    def pause(self, seconds: float) -> bool:
        """Wait, unless asked to stop; returns whether to go on."""
        return not self._asked.wait(seconds)


def runs(name: str, stopping: Stopping, pause_s: float) -> Iterator[str]:
    """A new run id every time until it is time to stop, with a pause between runs."""
    began, number = int(time.time()), 0
    while not stopping:
        number += 1
        yield f"{name}-{began:x}-{number}"
        if not stopping.pause(pause_s):
            return


class RunWriter:
    """Appends the events of one run; an outage of Redis or the server is waited out, and the event is not lost."""

    def __init__(self, worker: Worker, stopping: Stopping, run_id: str) -> None:
        self._worker = worker
        self._stopping = stopping
        self._run_id = run_id

    def append(self, kind: str, payload: Mapping[str, Any] | None = None, **parts: Any) -> None:
        """Append one event of the run, then pause for about the worker's pace."""
        if self._append_all(Body.of(kind, payload, run_id=self._run_id, source=self._worker.name, **parts)):
            self._stopping.pause(self._worker.pace_s * random.uniform(0.5, 1.5))

    def plan(self, stages: Mapping[str, Sequence[str]]) -> None:
        """Append which stages there will be, and after which others each of them comes."""
        self._append_all(
            *(
                stage_queued(name, run_id=self._run_id, depends_on=after, source=self._worker.name)
                for name, after in stages.items()
            )
        )

    def _append_all(self, *events: Body) -> bool:
        """False if it was time to stop before the log took them."""
        key = f"{self._run_id}-{random.getrandbits(64):x}"
        while True:
            try:
                self._worker.log.append_many(events, idempotency_key=key)
                return True
            except BackendUnavailable:
                if not self._stopping.pause(_RETRY_S):
                    return False

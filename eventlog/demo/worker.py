"""What the processes of the fleet have in common: their arguments, their log, and being told to stop."""

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


class Task(NamedTuple):
    """What a worker was started with: its name, its log and where that is, the pause between its events in seconds."""

    name: str
    log: EventLog
    url: str
    pace_s: float


def task(description: str) -> Task:
    """Read the arguments and open the log, through a server or straight on Redis."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--name", required=True)
    parser.add_argument("--url", required=True)
    parser.add_argument("--workspace", required=True)
    parser.add_argument("--pace", type=float, default=0.5)
    given = parser.parse_args()
    log = create_event_log(url=given.url, workspace=given.workspace)
    return Task(given.name, log, given.url, given.pace)


class Stopping:
    """Set by SIGTERM. `react` is called then too, within the signal handler."""

    def __init__(self) -> None:
        self._told = threading.Event()
        self.react: Callable[[], object] = lambda: None
        signal.signal(signal.SIGTERM, self._tell)

    def _tell(self, *_: object) -> None:
        self._told.set()
        self.react()

    def __bool__(self) -> bool:
        return self._told.is_set()

    def pause(self, seconds: float) -> bool:
        """Wait, unless told to stop; returns whether to go on."""
        return not self._told.wait(seconds)


def runs(name: str, stopping: Stopping, pause_s: float) -> Iterator[str]:
    """A new run id every time until it is time to stop, with a pause between runs."""
    began, number = int(time.time()), 0
    while not stopping:
        number += 1
        yield f"{name}-{began:x}-{number}"
        if not stopping.pause(pause_s):
            return


class Steps:
    """Appends the events of one run; an outage of Redis or the server is waited out, and the event is not lost."""

    def __init__(self, work: Task, stopping: Stopping, run_id: str) -> None:
        self._work = work
        self._stopping = stopping
        self._run_id = run_id

    def say(self, kind: str, payload: Mapping[str, Any] | None = None, **parts: Any) -> None:
        """Append one event of the run, then pause for about the worker's pace."""
        if self._append(Body.of(kind, payload, run_id=self._run_id, source=self._work.name, **parts)):
            self._stopping.pause(self._work.pace_s * random.uniform(0.5, 1.5))

    def plan(self, stages: Mapping[str, Sequence[str]]) -> None:
        """Tell which stages there will be, and after which others each of them comes."""
        self._append(
            *(
                stage_queued(name, run_id=self._run_id, depends_on=after, source=self._work.name)
                for name, after in stages.items()
            )
        )

    def _append(self, *events: Body) -> bool:
        """False if it was time to stop before the log took them."""
        key = f"{self._run_id}-{random.getrandbits(64):x}"
        while True:
            try:
                self._work.log.append_many(events, idempotency_key=key)
                return True
            except BackendUnavailable:
                if not self._stopping.pause(_RETRY_S):
                    return False

"""A process that performs a command under a slot that the test holds in its hands.

    under_slot.py DIRECTORY OPTIONS_JSON COMMAND…

In DIRECTORY the file `grant` gives the slot and `lost` takes it away; `queued` and `released` say what happened. The
lease is of one second unless OPTIONS say otherwise, and renewed all the time: frozen for longer, we lose it.
"""

import json
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from eventlog import create_event_log
from eventlog.execution.attempts import perform
from eventlog.execution.task import Task
from eventlog.runs.stages import AttemptClaim, claim_attempt


class HeldSlot:
    """A slot by files."""

    fencing_token = 41
    waited_s = 0.25

    def __init__(self, where: Path, lease_s: float, tell: Callable[[], None]) -> None:
        self._where = where
        self._lease_s = lease_s
        self._tell = tell
        self._renewed = time.monotonic()
        self._lost = False
        threading.Thread(target=self._keep, daemon=True).start()

    def _keep(self) -> None:
        while self.valid and not (self._where / "lost").exists():
            self._renewed = time.monotonic()
            time.sleep(0.01)
        self._lost = True
        self._tell()

    @property
    def expires_in_s(self) -> float:
        return 0.0 if self._lost else max(0.0, self._renewed + self._lease_s - time.monotonic())

    @property
    def valid(self) -> bool:
        return self.expires_in_s > 0

    def release(self) -> None:
        (self._where / "released").touch()


def main() -> int:
    where, options, *command = sys.argv[1:]
    wishes = json.loads(options)
    lease_s = wishes.pop("lease_s", 1.0)

    def acquire(tell: Callable[[], None]) -> HeldSlot:
        (Path(where) / "queued").touch()
        while not (Path(where) / "grant").exists():
            time.sleep(0.01)
        return HeldSlot(Path(where), lease_s, tell)

    def claim(facts: Mapping[str, Any]) -> Callable[[], int]:
        claimed = AttemptClaim(task.stage_name, task.run_id, facts, {"group_id": "g0"})
        return lambda: claim_attempt(log, claimed)

    task = Task(command, "build", "e1", "r1", "compile", **wishes)
    with create_event_log("redis", deadline_seconds=1.0) as log:
        return perform(task, acquire, log, claim, lambda text: print(f"note: {text}", file=sys.stderr, flush=True))


if __name__ == "__main__":
    sys.exit(main())

"""The reader of the demo: follows the log through the server, counts, and now and then appends what it counted."""

import time
from collections import Counter
from dataclasses import dataclass, field

from ..errors import BackendUnavailable
from ..model.events import Event
from ..model.log_values import Gap
from .worker import Stopping, Worker, start_worker

_REPORT_EVERY_S = 5.0
_KIND = "demo.counted"


def main() -> None:
    """Count until asked to stop."""
    stopping = Stopping()
    worker = start_worker(__doc__ or "")
    with worker.log:
        count = _Count()
        while not stopping:
            try:
                _follow(worker, stopping, count)
            except BackendUnavailable:
                stopping.pause(1.0)


@dataclass(slots=True)
class _Count:
    """What was seen: every event, or its gap. Counting goes on behind `last_id`."""

    events: int = 0
    missed: int = 0
    holes: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    expected: int | None = None
    last_id: str | None = None

    def see(self, event: Event) -> None:
        self.events += 1
        self.kinds[event.kind] += 1
        if self.expected is not None and event.offset != self.expected:
            self.holes += 1
        self.expected = event.offset + 1
        self.last_id = event.id

    def miss(self, gap: Gap) -> None:
        self.missed += gap.missed
        self.expected = None


def _follow(worker: Worker, stopping: Stopping, count: _Count) -> None:
    """Count what comes; raises `BackendUnavailable` after a long outage."""
    follower = worker.log.follow(count.last_id, on_gap=count.miss)
    stopping.react = follower.close
    reported_at = time.monotonic()
    for event in follower:
        count.see(event)
        if time.monotonic() - reported_at >= _REPORT_EVERY_S and event.kind != _KIND:
            reported_at = time.monotonic()
            commonest = [kind for kind, _ in count.kinds.most_common(3)]
            report = {"events": count.events, "missed": count.missed, "holes": count.holes, "commonest": commonest}
            worker.log.append(_KIND, report, source=worker.name)


if __name__ == "__main__":
    main()

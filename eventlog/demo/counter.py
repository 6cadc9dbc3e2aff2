"""The reader of the demo: follows the log through the server, counts, and now and then appends what it counted."""

import time
from collections import Counter
from dataclasses import dataclass, field

from ..errors import BackendUnavailable
from ..model.events import Event
from ..model.log_values import Gap
from .worker import Stopping, Task, task

_TELL_EVERY_S = 5.0
_KIND = "demo.counted"


def main() -> None:
    """Count until told to stop."""
    stopping = Stopping()
    work = task(__doc__ or "")
    with work.log:
        count = _Count()
        while not stopping:
            try:
                _follow(work, stopping, count)
            except BackendUnavailable:
                stopping.pause(1.0)


@dataclass(slots=True)
class _Count:
    """What was seen: every event, or told as missed. Counting goes on behind `last_id`."""

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


def _follow(work: Task, stopping: Stopping, count: _Count) -> None:
    """Count what comes; raises `BackendUnavailable` after a long outage."""
    follower = work.log.follow(count.last_id, on_gap=count.miss)
    stopping.react = follower.close
    told_at = time.monotonic()
    for event in follower:
        count.see(event)
        if time.monotonic() - told_at >= _TELL_EVERY_S and event.kind != _KIND:
            told_at = time.monotonic()
            commonest = [kind for kind, _ in count.kinds.most_common(3)]
            told = {"events": count.events, "missed": count.missed, "holes": count.holes, "commonest": commonest}
            work.log.append(_KIND, told, source=work.name)


if __name__ == "__main__":
    main()

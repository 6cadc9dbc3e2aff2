"""The events of a bus that has no log: their numbers, ids and seqs, and the newest of them. Not thread-safe."""

from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from itertools import islice

from ..model.events import Body, Event
from ..model.log_values import Gap
from .mailbox import Stretch

_KNOWN_RUNS = 10_000


class _Run:
    """What is known of a run: the last seq of each lane, and its first terminal event."""

    __slots__ = ("end", "lanes")

    def __init__(self) -> None:
        self.lanes: dict[str, int] = {}
        self.end: tuple[int, Event] | None = None


class History:
    """At most `bound` events, numbered 1, 2, 3, … as they come, whoever made them.

    Seqs and ends are known of the last 10,000 runs, longer than their events.
    """

    def __init__(self, bound: int, clock: Callable[[], float]) -> None:
        self.last = 0
        self._bound = bound
        self._clock = clock
        self._ms = 0
        self._events: deque[tuple[int, Event]] = deque()
        self._runs: OrderedDict[str, _Run] = OrderedDict()

    def __len__(self) -> int:
        return len(self._events)

    def __iter__(self) -> Iterator[Event]:
        return (event for _, event in self._events)

    def add(self, given: Event | Body) -> Event:
        """The next event: as it is, or made of a body with an id whose offset is its number."""
        number = self.last + 1
        run = None if given.run_id is None else self._run(given.run_id)
        if isinstance(given, Event):
            event = given.unshared()
            if run is not None and event.lane_id is not None and event.seq is not None:
                run.lanes[event.lane_id] = max(event.seq, run.lanes.get(event.lane_id, 0))
        else:
            self._ms = max(int(self._clock() * 1000), self._ms)
            seq = None
            if run is not None and given.lane_id is not None:
                seq = run.lanes[given.lane_id] = run.lanes.get(given.lane_id, 0) + 1
            event = Event(self._ms, number, given, seq)
        if run is not None and run.end is None and event.is_terminal:
            run.end = (number, event)
        self._events.append((number, event))
        self.last = number
        return event

    def evict(self) -> Iterator[tuple[int, Event]]:
        """Let go what is over the bound; gives what that is, oldest first, while it is still there."""
        while len(self._events) > self._bound:
            yield self._events[0]
            self._events.popleft()

    def _run(self, run_id: str) -> _Run:
        run = self._runs.get(run_id)
        if run is None:
            run = self._runs[run_id] = _Run()
            if len(self._runs) > _KNOWN_RUNS:
                self._runs.popitem(last=False)
        else:
            self._runs.move_to_end(run_id)
        return run

    def end_of(self, run_id: str | None) -> tuple[int, Event] | None:
        """The number of the run's first terminal event, and that event, if the run is known and has ended."""
        run = None if run_id is None else self._runs.get(run_id)
        return None if run is None else run.end

    def after(self, number: int, count: int) -> Stretch[int]:
        """At most `count` of the events that follow `number`, and what of them is gone."""
        oldest = self._events[0][0] if self._events else self.last + 1
        gap = Gap(oldest - 1 - number, number + 1, oldest - 1, "trimmed") if number + 1 < oldest else None
        start = max(number + 1 - oldest, 0)
        events = list(islice(self._events, start, start + count))
        reached = events[-1][0] if events else max(number, oldest - 1)
        return Stretch(gap, events, reached, reached == self.last)

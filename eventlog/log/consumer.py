"""The consumer of a log that no other process shares: it follows the log. Plans."""

from collections.abc import Iterable, Sequence

from ..model.events import Event
from ..model.filters import EventFilter
from ..model.ids import Cursor
from ..model.log_values import Gap, ReadRequest
from ..plan.effects import Plan
from .protocol import Consumer, Delivery, LogReader
from .reading import Tail


class FollowingConsumer:
    """The only consumer of a log that is this process' own: it follows the log from the oldest event that is there."""

    def __init__(self, backend: LogReader, kind: str) -> None:
        self._backend = backend
        self._kind = kind
        self._tail: Tail | None = None
        self._ready: list[Event | Gap] = []

    def _step(self, block_s: float) -> Plan[list[Event | Gap]]:
        if self._tail is None:
            state = (yield from self._backend.read(ReadRequest())).state
            self._tail = Tail(self._backend, Cursor(None, state.base_offset - 1), EventFilter.of(kind=self._kind))
        return (yield from self._tail.step(block_s))

    def take(self) -> Plan[Delivery]:
        """See `Consumer.take`."""
        if not self._ready:
            self._ready = yield from self._step(0.0)
        gaps = [item for item in self._ready if isinstance(item, Gap)]
        events = [item for item in self._ready if isinstance(item, Event)]
        missed, anew = sum(gap.missed for gap in gaps), any(gap.reason == "reset" for gap in gaps)
        caught_up = self._tail is None or self._tail.caught_up
        return Delivery(events, missed, anew, 0, len(events), bool(events) or not caught_up)

    def done(self, events: Iterable[Event]) -> None:
        """See `Consumer.done`."""
        self._ready = []

    def wait(self, timeout_s: float, others: Sequence[Consumer] = ()) -> Plan[list[Consumer]]:
        """See `Consumer.wait`; of others nothing is known here."""
        if not self._ready:
            self._ready = yield from self._step(timeout_s)
        return [self] if self._ready else []

    def leave(self) -> Plan[None]:
        """Nobody shares the work."""
        yield from ()

    def sweep(self) -> Plan[None]:
        """There are no others."""
        yield from ()

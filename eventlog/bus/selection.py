"""What one subscription wants to be given, and which event is its last. Pure."""

from collections.abc import Iterable

from ..model.events import VISIBILITIES, Event
from ..model.filters import EventFilter


class Selection:
    """The filters of a subscription: `wants` an event, and `ends` with one.

    The event that ends a subscription passes its kinds and its lane, so that its reader learns how the run ended; it
    never passes the ceiling: there the subscription ends without it.
    """

    __slots__ = ("_ends_unnamed", "_levels", "_matches", "_wanted", "run_id")

    def __init__(
        self,
        visibility: str | None,
        lane_id: str | None,
        kinds: str | Iterable[str] | None,
        run_id: str | None,
        *,
        ends_unnamed: bool,
    ) -> None:
        """`ends_unnamed`: without a run, the end of a run without a name is the end. Raises `InvalidInput`."""
        self._wanted = EventFilter.of(kind=kinds, run_id=run_id, lane_id=lane_id, visibility=visibility)
        self._matches = self._wanted.matcher()
        self._levels = VISIBILITIES if visibility is None else VISIBILITIES[: VISIBILITIES.index(visibility) + 1]
        self._ends_unnamed = ends_unnamed and run_id is None
        self.run_id = run_id

    @property
    def to_read(self) -> EventFilter:
        """What to ask the log for: all that may be wanted, the end of the run included."""
        return self._wanted if self.run_id is None else EventFilter(run_id=self.run_id)

    def wants(self, event: Event) -> bool:
        """True if the reader is to be given this event."""
        return self._matches(event) or (event.is_terminal and self.ends(event) and event.visibility in self._levels)

    def ends(self, event: Event) -> bool:
        """True if nothing is to follow this event."""
        if not event.is_terminal:
            return False
        return event.run_id == self.run_id if self.run_id is not None else self._ends_unnamed and event.run_id is None

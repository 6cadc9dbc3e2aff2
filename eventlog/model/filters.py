"""What a reader wants to see of a log: one filter for pages, followers and every backend. Pure."""

import re
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, TypedDict

from ..errors import InvalidInput
from .events import RUN_PATTERN, STAGE_PREFIX, VISIBILITIES, Event, is_milestone
from .ids import MAX_COUNTER

_KIND_PATTERN = re.compile(r"[A-Za-z0-9_.:/-]{0,128}\*?", re.ASCII)
_NAME = re.compile(RUN_PATTERN, re.ASCII)
_MAX_KINDS = 64


class ReplayFilters(TypedDict, total=False):
    """The filters of a run's replay beside lane and seq; see `EventFilter.of`."""

    kind: str | Iterable[str] | None
    stage_name: str | None
    visibility: str | None


class Filters(ReplayFilters, total=False):
    """The filters that every reading call takes; see `EventFilter.of`."""

    run_id: str | None
    lane_id: str | None
    since_seq: int | None


class IndexFilter(NamedTuple):
    """What a run's index can tell of an event without looking at it.

    `milestones` are the events that tell of a stage or end the run.
    """

    lane_id: str | None
    since_seq: int
    milestones: bool

    def matches(self, event: Event) -> bool:
        """True if the event's entry in the index passes."""
        return (
            (self.lane_id is None or event.lane_id == self.lane_id)
            and (event.seq or 0) > self.since_seq
            and (not self.milestones or event.is_milestone)
        )


class EventFilter(NamedTuple):
    """Conditions that all must hold. `visibility` is a ceiling: that level and all levels before it.

    With `or_ends_run` an event that ends the run passes whatever its lane, stage, seq and kind.
    """

    kinds: tuple[str, ...] = ()
    prefixes: tuple[str, ...] = ()
    run_id: str | None = None
    lane_id: str | None = None
    stage_name: str | None = None
    visibility: str | None = None
    since_seq: int = 0
    or_ends_run: bool = False

    @classmethod
    def of(
        cls,
        kind: str | Iterable[str] | None = None,
        *,
        run_id: str | None = None,
        lane_id: str | None = None,
        stage_name: str | None = None,
        visibility: str | None = None,
        since_seq: int | None = None,
    ) -> "EventFilter":
        """`kind` is one kind, a prefix such as `tool.*`, or several of both (any may match).

        `since_seq` leaves out what has no higher seq in its lane, so with a run and a lane it is a place to go on from.
        Raises `InvalidInput` naming the field that is wrong.
        """
        wanted = (kind,) if isinstance(kind, str) else _several(kind)
        if len(wanted) > _MAX_KINDS:
            raise InvalidInput("kind", f"{len(wanted)} kinds, at most {_MAX_KINDS}")
        for one in wanted:
            if not isinstance(one, str) or not one or _KIND_PATTERN.fullmatch(one) is None:
                raise InvalidInput("kind", f"{one!r} is neither a kind nor a prefix such as tool.*")
        for field, name in (("run_id", run_id), ("lane_id", lane_id)):
            if name is not None and (not isinstance(name, str) or _NAME.fullmatch(name) is None):
                raise InvalidInput(field, f"{name!r} does not match {RUN_PATTERN}")
        if stage_name is not None and not isinstance(stage_name, str):
            raise InvalidInput("stage_name", f"{stage_name!r} is not a string")
        if visibility is not None and visibility not in VISIBILITIES:
            raise InvalidInput("visibility", f"{visibility!r} is not one of {', '.join(VISIBILITIES)}")
        return cls(
            tuple(one for one in wanted if not one.endswith("*")),
            tuple(one[:-1] for one in wanted if one.endswith("*")),
            run_id,
            lane_id,
            stage_name,
            None if visibility == VISIBILITIES[-1] else visibility,
            0 if since_seq is None else _checked_seq(since_seq),
        )

    @property
    def passes_all(self) -> bool:
        """True if nothing is filtered out."""
        return self == _EVERYTHING

    @property
    def only_run(self) -> bool:
        """True if the run is the only condition, so the run's index answers it alone."""
        return self._replace(run_id=None) == _EVERYTHING

    def by_index(self) -> IndexFilter | None:
        """What of this filter the run's index answers; None if that is no more than which events are the run's."""
        if self.run_id is None or self.or_ends_run:
            return None
        only_milestones = all(map(is_milestone, self.kinds)) and all(
            prefix.startswith(STAGE_PREFIX) for prefix in self.prefixes
        )
        milestones = bool(self.kinds or self.prefixes) and only_milestones
        found = IndexFilter(self.lane_id, self.since_seq, milestones)
        return None if found == _ALL_OF_RUN else found

    @property
    def only_index(self) -> bool:
        """True if the run's index answers it alone."""
        return self.run_id is not None and self._replace(run_id=None, lane_id=None, since_seq=0) == _EVERYTHING

    def with_terminal_events(self) -> "EventFilter":
        """Let the events that end the run pass too, so that a reader who waits for the end sees it."""
        return self if self.only_run else self._replace(or_ends_run=True)

    def matcher(self) -> Callable[[Event], bool]:
        """A predicate with the conditions of this filter, made once for many events."""
        if self.passes_all:
            return _always
        kinds = frozenset(self.kinds)
        prefixes = self.prefixes
        run_id, lane_id, stage_name, since_seq = self.run_id, self.lane_id, self.stage_name, self.since_seq
        levels = None if self.visibility is None else frozenset(VISIBILITIES[: VISIBILITIES.index(self.visibility) + 1])
        or_ends_run = self.or_ends_run

        def matches(event: Event) -> bool:
            if or_ends_run and event.is_terminal:
                return event.run_id == run_id and (levels is None or event.visibility in levels)
            if (kinds or prefixes) and not (event.kind in kinds or event.kind.startswith(prefixes)):
                return False
            return (
                (run_id is None or event.run_id == run_id)
                and (lane_id is None or event.lane_id == lane_id)
                and (stage_name is None or event.stage_name == stage_name)
                and (levels is None or event.visibility in levels)
                and (not since_seq or (event.seq or 0) > since_seq)
            )

        return matches


_EVERYTHING = EventFilter()
_ALL_OF_RUN = IndexFilter(None, 0, False)


def _checked_seq(since_seq: object) -> int:
    if isinstance(since_seq, bool) or not isinstance(since_seq, int) or not 0 <= since_seq <= MAX_COUNTER:
        raise InvalidInput("since_seq", f"{since_seq!r} is not an integer from 0 to {MAX_COUNTER}")
    return since_seq


def _several(kinds: object) -> tuple[Any, ...]:
    if kinds is None:
        return ()
    if not isinstance(kinds, Iterable):
        raise InvalidInput("kind", f"{kinds!r} is neither a kind nor several")
    return tuple(kinds)


def _always(_: Event) -> bool:
    return True

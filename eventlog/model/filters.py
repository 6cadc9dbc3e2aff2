"""What a reader wants to see of a log: one filter for pages, followers and every backend. Pure.

`FILTERS` declares each filter once. The library's checks and matching, the parameters of HTTP and of the client, the
options of the command line and the documentation follow from it.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Literal, NamedTuple, TypedDict, Unpack

from ..errors import InvalidInput
from .events import KIND_PATTERN, RUN_NAME, STAGE_PREFIX, VISIBILITIES, VISIBILITY, Event, is_milestone
from .ids import MAX_COUNTER
from .numbers import checked_integer
from .texts import Text, plain

_MAX_KINDS = 64
_KIND = Text(rf"{KIND_PATTERN}\*?|\*", "is neither a kind nor a prefix such as tool.*")


class ReplayFilters(TypedDict, total=False):
    """The filters of a run's replay beside lane and seq; see `FILTERS`."""

    kind: str | Iterable[str] | None
    stage_name: str | None
    visibility: str | None


class Filters(ReplayFilters, total=False):
    """The filters that every reading call takes; see `FILTERS`."""

    run_id: str | None
    lane_id: str | None
    since_seq: int | None


Matches = Callable[[Event], bool]


class FilterField(NamedTuple):
    """One filter. `name` is its name in the library and over HTTP.

    `form` is how its value is given: a text, several texts, or a whole number. `schema` is the JSON Schema of one.
    `check` turns what a caller gave into what `EventFilter` holds, or raises `InvalidInput`; `matcher` turns that into
    a predicate. A filter that `bounds_ends` also holds for the event that ends a run, see `with_terminal_events`.
    """

    name: str
    help: str
    form: Literal["text", "texts", "integer"]
    schema: Mapping[str, Any]
    check: Callable[[str, Any], Any]
    matcher: Callable[[Any], Matches]
    bounds_ends: bool = False


def _checked_kinds(name: str, kinds: object) -> tuple[str, ...]:
    if not isinstance(kinds, Iterable):
        raise InvalidInput(name, f"{kinds!r} is neither a kind nor several")
    wanted = (kinds,) if isinstance(kinds, str) else tuple(kinds)
    if len(wanted) > _MAX_KINDS:
        raise InvalidInput(name, f"{len(wanted)} kinds, at most {_MAX_KINDS}")
    return tuple(_KIND.check(name, kind) for kind in wanted)


def _checked_stage(name: str, stage_name: object) -> str:
    # A text that no stage can have as its name matches nothing.
    if not isinstance(stage_name, str):
        raise InvalidInput(name, f"{stage_name!r} is not a string")
    return plain(stage_name)


def _checked_ceiling(name: str, visibility: object) -> str | None:
    level = VISIBILITY.check(name, visibility)
    return None if level == VISIBILITIES[-1] else level


def _of_kinds(wanted: tuple[str, ...]) -> Matches:
    kinds = frozenset(kind for kind in wanted if not kind.endswith("*"))
    prefixes = tuple(kind[:-1] for kind in wanted if kind.endswith("*"))
    return lambda event: event.kind in kinds or event.kind.startswith(prefixes)


def _up_to(ceiling: str) -> Matches:
    levels = frozenset(VISIBILITIES[: VISIBILITIES.index(ceiling) + 1])
    return lambda event: event.visibility in levels


FILTERS = (
    FilterField(
        "kind",
        "A kind, or a prefix such as `tool.*`; repeat it for several.",
        "texts",
        _KIND.schema,
        _checked_kinds,
        _of_kinds,
    ),
    FilterField(
        "run_id",
        "Only events of this run.",
        "text",
        RUN_NAME.schema,
        RUN_NAME.check,
        lambda run_id: lambda event: event.run_id == run_id,
        bounds_ends=True,
    ),
    FilterField(
        "lane_id",
        "Only events of this lane.",
        "text",
        RUN_NAME.schema,
        RUN_NAME.check,
        lambda lane_id: lambda event: event.lane_id == lane_id,
    ),
    FilterField(
        "stage_name",
        "Only events of this stage.",
        "text",
        {"type": "string"},
        _checked_stage,
        lambda stage_name: lambda event: event.stage_name == stage_name,
    ),
    FilterField(
        "visibility",
        "A ceiling, public, internal or private: this level and all before it. Absent: all.",
        "text",
        VISIBILITY.schema,
        _checked_ceiling,
        _up_to,
        bounds_ends=True,
    ),
    FilterField(
        "since_seq",
        "Only events of runs whose seq within their lane is above this.",
        "integer",
        {"type": "integer", "minimum": 0, "maximum": MAX_COUNTER},
        lambda name, since_seq: checked_integer(name, since_seq, 0, MAX_COUNTER),
        lambda since_seq: lambda event: (event.seq or 0) > since_seq,
    ),
)
FILTER_NAMES = tuple(field.name for field in FILTERS)
_FIELDS = {field.name: field for field in FILTERS}


class IndexFilter(NamedTuple):
    """What a run's index can answer about an event without its content.

    `milestones` are the events of stages and those that end the run.
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
    """Conditions that all must hold, in the checked form of `FILTERS`.

    With `or_ends_run` an event that ends the run passes whatever its lane, stage, seq and kind.
    """

    kind: tuple[str, ...] = ()
    run_id: str | None = None
    lane_id: str | None = None
    stage_name: str | None = None
    visibility: str | None = None
    since_seq: int = 0
    or_ends_run: bool = False

    @classmethod
    def of(cls, **given: Unpack[Filters]) -> "EventFilter":
        """`kind` is one kind, a prefix such as `tool.*`, or several of both (any may match).

        `since_seq` leaves out what has no higher seq in its lane, so with a run and a lane it is a place to go on from.
        Raises `InvalidInput` naming the field that is wrong.
        """
        found: dict[str, Any] = {}
        for name, value in given.items():
            if name not in _FIELDS:
                raise TypeError(f"there is no filter {name!r}; there are {', '.join(FILTER_NAMES)}")
            if value is not None:
                found[name] = _FIELDS[name].check(name, value)
        return cls(**found)

    def conditions(self) -> Iterator[tuple[FilterField, Any]]:
        """The filters that are set, each with its value."""
        for field, value in zip(FILTERS, self, strict=False):
            if value != self._field_defaults[field.name]:
                yield field, value

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
        milestones = bool(self.kind) and all(
            kind.startswith(STAGE_PREFIX) if kind.endswith("*") else is_milestone(kind) for kind in self.kind
        )
        found = IndexFilter(self.lane_id, self.since_seq, milestones)
        return None if found == _ALL_OF_RUN else found

    @property
    def only_index(self) -> bool:
        """True if the run's index answers it alone."""
        return self.run_id is not None and self._replace(run_id=None, lane_id=None, since_seq=0) == _EVERYTHING

    def with_terminal_events(self) -> "EventFilter":
        """Let the events that end the run pass too, so that a reader that waits for the end sees it."""
        return self if self.only_run else self._replace(or_ends_run=True)

    def matcher(self) -> Matches:
        """A predicate with the conditions of this filter, made once for many events."""
        matches = _all_of([field.matcher(value) for field, value in self.conditions()])
        if not self.or_ends_run:
            return matches
        ends = _all_of([field.matcher(value) for field, value in self.conditions() if field.bounds_ends])
        return lambda event: ends(event) if event.is_terminal else matches(event)


_EVERYTHING = EventFilter()
_ALL_OF_RUN = IndexFilter(None, 0, False)


def _all_of(tests: list[Matches]) -> Matches:
    if len(tests) == 1:
        return tests[0]

    def matches(event: Event) -> bool:
        for test in tests:  # noqa: SIM110  (a generator would double the time that a page of filtered events takes)
            if not test(event):
                return False
        return True

    return matches

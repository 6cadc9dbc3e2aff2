"""Reading a log: what a cursor has missed, pages with filters, and following. Plans and pure decisions only."""

import logging
import math
import time
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

from ..errors import BackendUnavailable, InvalidInput
from ..model.events import Event
from ..model.filters import EventFilter
from ..model.ids import MAX_COUNTER, Cursor, EventId, parse_cursor
from ..model.log_values import Gap, LogState, ReadRequest, Segment
from ..model.pages import Page, PageRequest
from ..plan.effects import Pause, Plan
from .protocol import LogReader

_log = logging.getLogger("eventlog")
_WHOLE_CHUNK = 500
_CHUNK = 250
_SCAN_BUDGET = 2000
_STEP_BUDGET = 16
_FOLLOW_PAGE = 500
_REMEMBERED = 16
BLOCK_S = 2.0
_STALE_S = 1.0
_FIRST_PAUSE_S = 0.05
_LONGEST_PAUSE_S = 1.0


def missed(since: Cursor | None, epoch: str | None, segment: Segment) -> Gap | None:
    """What a reader at `since`, in the incarnation `epoch` as far as it knows, is not given any more; never too few."""
    if since is None:
        return None
    state, following = segment.state, segment.following
    base, wanted = state.base_offset, since.offset + 1
    if since.nothing_seen:
        return _gap("trimmed", 1, base)
    # Where only the counters were lost the epoch is new and the events are not: all are younger than the birth.
    same_events = segment.holds and since.ms is not None and since.ms > state.born_ms
    another_log = bool(epoch) and epoch != state.epoch and not same_events
    if another_log or (since.ms is not None and since.ms < state.born_ms) or not state.epoch:
        return Gap(base - 1, 1, base - 1, "reset")
    comes = state.last.offset + 1 if following is None else following.offset
    if segment.holds:
        # The reader saw this log up to here, and is given all that stands behind it, whatever its offsets. Where they
        # fall, Redis has loaded a file that ended within an append.
        comes = min([comes, *(event.offset for event in segment.events[:1])])
        return None if comes == wanted else Gap(max(comes - wanted, 0), min(comes, wanted), comes - 1, "rollback")
    if comes != max(base, wanted) or _is_elsewhere(since, state):
        # Another history than the reader's, from an offset on that is not known: perhaps all of it.
        return Gap(comes - 1, 1, comes - 1, "rollback")
    return _gap("trimmed", wanted, base)


def _is_elsewhere(since: Cursor, state: LogState) -> bool:
    """True if the id of an event that the log does not hold can only be from another history."""
    if since.ms is None or since == Cursor(*state.last):
        return False
    return since >= state.last or since.offset >= min(state.base_offset, state.last.offset)


def _gap(reason: Any, from_offset: int, base: int) -> Gap | None:
    return Gap(base - from_offset, from_offset, base - 1, reason) if base > from_offset else None


def read_page(backend: LogReader, request: PageRequest) -> Plan[Page]:
    """One page. Scans a bounded number of events in bounded steps, so that Redis is never held up for long."""
    wanted, limit = request.wanted, request.limit
    matches = wanted.matcher()
    index = wanted.by_index()
    exact = wanted.passes_all or wanted.only_index
    since, until, epoch = request.since, request.until, request.epoch
    found: list[Event] = []
    gap: Gap | None = None
    scanned = steps = 0
    state: LogState | None = None
    while True:
        room = limit - len(found)
        count = 0 if limit == 0 else min(room, _WHOLE_CHUNK) if exact else _CHUNK
        segment = yield from backend.read(
            ReadRequest(since, until, request.from_ms, count, request.descending, wanted.run_id, epoch, index)
        )
        if state is None:
            gap = missed(since, epoch, segment)
            state = segment.state
        elif segment.state.epoch != state.epoch or (
            not request.descending and missed(since, epoch, segment) is not None
        ):
            # Lost or trimmed between two steps: what was found stands, and the next page reports the rest.
            return Page(found, str(until if request.descending else since), gap, False, state.epoch, state)
        if limit == 0:
            at_end = segment.following is None or until is not None
            return Page([], _probe_cursor(request, segment), gap, at_end, state.epoch, state)
        events = segment.events if request.descending else _up_to_a_break(segment.events, wanted.run_id is None)
        for event in events:
            if matches(event):
                found.append(event)
                if len(found) == limit:
                    at_end = segment.complete and event is segment.events[-1]
                    at_end = at_end or event.position == _final_position(request, segment.state)
                    return Page(found, event.id, gap, at_end, state.epoch, segment.state)
        if len(events) < len(segment.events):
            # The next page tells it.
            return Page(found, events[-1].id, gap, False, state.epoch, segment.state)
        reached = segment.reached
        if segment.complete or reached is None:
            cursor = _end_cursor(request, segment, found)
            return Page(found, cursor, gap, True, state.epoch, segment.state)
        scanned += len(segment.events)
        steps += 1
        if scanned >= _SCAN_BUDGET or steps >= _STEP_BUDGET:
            return Page(found, str(reached), gap, False, state.epoch, segment.state)
        if request.descending:
            until = Cursor(*reached)
        else:
            since, epoch = Cursor(*reached), state.epoch


def _up_to_a_break(events: list[Event], dense: bool) -> list[Event]:
    """Those before the first offset that does not rise, or, where they are `dense`, not by one."""
    if dense and (not events or events[-1].offset - events[0].offset == len(events) - 1):
        return events
    for i in range(1, len(events)):
        step = events[i].offset - events[i - 1].offset
        if step < 1 or (dense and step > 1):
            return events[:i]
    return events


def _final_position(request: PageRequest, state: LogState) -> EventId | None:
    """The place behind which nothing can follow in the page's direction."""
    return state.first if request.descending else state.last


def _cursor(found: list[Event], request: PageRequest, state: LogState) -> str:
    if found:
        return found[-1].id
    given = request.until if request.descending else request.since
    return str(given) if given is not None else f"{state.born_ms}-0"


def _probe_cursor(request: PageRequest, segment: Segment) -> str:
    """A probe moves nothing: the cursor given, or one from which everything resident follows."""
    given = request.until if request.descending else request.since
    if given is not None:
        return str(given)
    first = segment.state.first
    if request.descending or first is None:
        return str(segment.state.last)
    return f"{first.ms}-{first.offset - 1}"


def _end_cursor(request: PageRequest, segment: Segment, found: list[Event]) -> str:
    """The cursor of a reader that has seen everything there was in its direction."""
    state = segment.state
    if request.descending:
        first = state.first
        lower = f"{first.ms}-{first.offset}" if first is not None else str(state.last)
        return found[-1].id if found else lower
    until = request.until
    if until is None:
        return str(state.last)
    if segment.reached is not None:
        return str(segment.reached)
    return _cursor(found, request, state)


class FollowStart(NamedTuple):
    """Where and how to follow, as `follow` was asked to."""

    since: Cursor | None
    wanted: EventFilter
    epoch: str | None
    until_terminal: bool
    patience_s: float


class FollowedTail(Protocol):
    """A reader's position that a follower moves on: `Tail`, or a stream through a server."""

    epoch: str | None
    caught_up: bool
    ended: bool

    @property
    def cursor(self) -> str: ...

    def step(self, block_s: float = BLOCK_S) -> Plan[list[Event | Gap]]: ...


class Tail:
    """A reader's place in a log, moved on by `step`. Holds no I/O; one step at a time.

    It reads pages until it has caught up, then waits for what is appended. Whenever what arrives does not join
    what was seen, it goes back to reading pages, which report what was missed: nothing is skipped silently.
    """

    def __init__(
        self,
        backend: LogReader,
        since: Cursor | None,
        wanted: EventFilter,
        *,
        epoch: str | None = None,
        until_terminal: bool = False,
        patience_s: float = 30.0,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._backend = backend
        if until_terminal and wanted.run_id is None:
            raise InvalidInput("until_terminal", "needs a run_id: it ends after that run's terminal event")
        self._filter = wanted.with_terminal_events() if until_terminal else wanted
        self._matches = self._filter.matcher()
        self._until_terminal = until_terminal
        self._patience_s = patience_s
        self._monotonic = monotonic
        self._since = since
        self._position: EventId | None = None
        self._fresh_at = 0.0
        self._failing_since: float | None = None
        self._pause_s = _FIRST_PAUSE_S
        self._looked_back = False
        # Events on the way here, each with a hash of it: one a batch, the older the sparser.
        self._seen: list[tuple[EventId, int]] = []
        self.epoch = epoch
        self.caught_up = False
        self.ended = False
        self.trouble: BackendUnavailable | None = None

    @property
    def cursor(self) -> str:
        """Behind the last event that was returned or filtered out; resume from here."""
        return "0" if self._since is None else str(self._since)

    @property
    def offset(self) -> int:
        """That of the cursor."""
        return 0 if self._since is None else self._since.offset

    def resolve(self) -> Plan[None]:
        """Turn "from now" into a concrete position, so that nothing appended later can be missed."""
        if self._since is None:
            segment = yield from self._backend.read(ReadRequest())
            self._stand_at(Cursor(*segment.state.last), segment.state.epoch)

    def step(self, block_s: float = BLOCK_S) -> Plan[list[Event | Gap]]:
        """What comes next, after at most `block_s` of waiting; often an empty list.

        With `until_terminal`, `ended` is set once the run's terminal event was returned, now or earlier.
        Raises `BackendUnavailable` once Redis has been away for longer than the patience.
        """
        try:
            items = yield from self._step(block_s)
        except BackendUnavailable as error:
            self.caught_up = False
            self.trouble = error
            now = self._monotonic()
            if self._failing_since is None:
                self._failing_since = now
                if self._patience_s < math.inf:
                    # A follower in the server is one of many; the hub speaks for them all.
                    _log.warning("following waits: %s", error)
            if now - self._failing_since >= self._patience_s:
                raise
            yield Pause(self._pause_s)
            self._pause_s = min(2 * self._pause_s, _LONGEST_PAUSE_S)
            return []
        self._failing_since = self.trouble = None
        self._pause_s = _FIRST_PAUSE_S
        return items

    def _step(self, block_s: float) -> Plan[list[Event | Gap]]:
        yield from self.resolve()
        if self.caught_up and self._until_terminal and not self._looked_back:
            # Here no event is in hand that an outage could lose. One look after each page is enough: later ends arrive.
            self.ended = yield from run_has_ended(self._backend, str(self._filter.run_id), self.offset)
            self._looked_back = True
            if self.ended:
                return []
        # While a consumer was busy, buffered events may have expired: those are not to be shown.
        if not self.caught_up or self._position is None or self._monotonic() - self._fresh_at > _STALE_S:
            return (yield from self._catch_up())
        position = self._position
        arrived = yield from self._backend.wait(position, block_s)
        self._fresh_at = self._monotonic()
        if arrived is None:
            return []
        if self.epoch is None or not joins(position.offset, arrived):
            # A log that has just begun has a name now, which its readers are to know.
            self.caught_up = False
            return []
        self._position = arrived[-1].position
        self._since = Cursor(*self._position)
        self._remember(arrived[-1])
        return self._until_end(arrived)

    def _catch_up(self) -> Plan[list[Event | Gap]]:
        request = PageRequest.of(self._since, None, _FOLLOW_PAGE, self._filter, epoch=self.epoch)
        page = yield from read_page(self._backend, request)
        gap = page.gap
        if gap is not None and gap.reason == "rollback" and gap.from_offset == 1:
            gap = yield from self._since_they_parted(gap)
        if page.events:
            self._remember(page.events[-1])
        self._stand_at(parse_cursor(page.cursor), page.epoch)
        self.caught_up = page.at_end
        self._fresh_at = self._monotonic()
        # The page may have filtered out the run's end.
        self._looked_back = False
        items: list[Event | Gap] = [] if gap is None else [gap]
        items += self._until_end(page.events)
        return items

    def _remember(self, event: Event) -> None:
        if len(self._seen) == _REMEMBERED:
            del self._seen[1::2]
        self._seen.append((event.position, _hash(event)))

    def _since_they_parted(self, gap: Gap) -> Plan[Gap]:
        """The gap without what comes before the newest event that both the reader saw and the log has."""
        for place, known in reversed(self._seen.copy()):
            before = Cursor(place.ms, place.offset - 1)
            segment = yield from self._backend.read(ReadRequest(since=before, count=1))
            if [(event.position, _hash(event)) for event in segment.events] == [(place, known)]:
                return Gap(gap.to_offset - place.offset, place.offset + 1, gap.to_offset, "rollback")
            self._seen.pop()
        return gap

    def _until_end(self, events: list[Event]) -> list[Event | Gap]:
        """Those that match; with `until_terminal` none after the run's end, whether the reader is to see it or not."""
        if self._until_terminal:
            for i, event in enumerate(events):
                if event.is_terminal and event.run_id == self._filter.run_id:
                    self.ended = True
                    self._stand_at(Cursor(*event.position), self.epoch or "")
                    events = events[: i + 1]
                    break
        return [event for event in events if self._matches(event)]

    def _stand_at(self, cursor: Cursor | None, epoch: str) -> None:
        self._since = cursor
        self.epoch = epoch or None
        if cursor is not None and cursor.ms is not None:
            self._position = EventId(cursor.ms, cursor.offset)


def _hash(event: Event) -> int:
    body = event.body
    return hash((body.kind, body.payload_json, body.run_id, event.seq))


def joins(offset: int, arrived: list[Event]) -> bool:
    """True if `arrived` follows `offset` without a hole."""
    return bool(arrived) and arrived[0].offset == offset + 1 and arrived[-1].offset == offset + len(arrived)


def run_has_ended(backend: LogReader, run_id: str, last_offset: int) -> Plan[bool]:
    """True if the run ended up to `last_offset`; a later end is still to be returned."""
    record = yield from backend.run(run_id)
    return record is not None and record.ended_at is not None and record.ended_at.offset <= last_offset


def warn_of_gap(gap: Gap) -> None:
    """The default for `on_gap`."""
    _log.warning("events missed: %d (%d to %d, %s)", *gap)


def query_request(
    since: object, until: object, limit: int | None, wanted: EventFilter, order: str, since_time: float | None
) -> PageRequest:
    """`query`'s idea of a limit: None is no limit."""
    limit = MAX_COUNTER if limit is None else limit
    return PageRequest.of(since, until, limit, wanted, order=order, since_time=since_time, largest=MAX_COUNTER)

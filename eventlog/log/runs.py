"""Reading runs: one, many, and the replay of one. Plans, for every backend alike."""

from ..errors import NotFound
from ..model.events import TERMINAL_KINDS, Event
from ..model.filters import EventFilter
from ..model.ids import MAX_COUNTER, parse_cursor
from ..model.log_values import RunRecord, RunsRequest
from ..model.pages import MAX_PAGE, Page, PageRequest
from ..plan.effects import Plan
from ..runs.fold import StageView, fold_stages
from ..runs.records import ReplayPage, RunsPage, RunsQuery, RunSummary, checked_run
from .protocol import Backend
from .reading import read_page, warn_of_gap

_STEP = 200
_STEPS = 10


def find_run(backend: Backend, run_id: object) -> Plan[RunSummary]:
    """One run's summary; raises `NotFound` where no event of it is resident."""
    record = yield from _record(backend, checked_run(run_id))
    return RunSummary.of(record)


def _record(backend: Backend, run_id: str) -> Plan[RunRecord]:
    record = yield from backend.run(run_id)
    if record is None:
        raise NotFound(f"run {run_id} has no event in the log (any more)")
    return record


def list_runs(backend: Backend, query: RunsQuery) -> Plan[RunsPage]:
    """One page of runs. Looks at a bounded number of them in bounded steps."""
    found: list[RunSummary] = []
    below = query.below
    for _ in range(_STEPS):
        # One more than asked for shows whether there is more.
        count = _STEP if query.endings else min(_STEP, query.limit + 1 - len(found))
        segment = yield from backend.runs(RunsRequest(below, count, query.endings))
        for record in segment.runs:
            if len(found) == query.limit:
                return RunsPage(found, str(below), False)
            found.append(RunSummary.of(record))
            below = record.last.offset
        if segment.go_on_below is None:
            return RunsPage(found, None if below is None else str(below), True)
        if query.endings and len(found) == query.limit:
            # Whether another of that status follows may take long to find out.
            break
        below = segment.go_on_below
    return RunsPage(found, str(below), False)


def replay_request(run_id: object, since: object, limit: int | None, wanted: EventFilter) -> PageRequest:
    """A checked request for a page of a run's events; raises `InvalidInput` naming the field that is wrong."""
    return PageRequest.of(since, None, limit, wanted._replace(run_id=checked_run(run_id)))


def whole_replay(run_id: object, limit: int | None, wanted: EventFilter) -> PageRequest:
    """A checked request for all of a run's events, or the first `limit` of them."""
    limit = MAX_COUNTER if limit is None else limit
    return PageRequest.of(None, None, limit, wanted._replace(run_id=checked_run(run_id)), largest=MAX_COUNTER)


def read_replay(backend: Backend, request: PageRequest) -> Plan[ReplayPage]:
    """One page of a run's events; raises `NotFound` where no event of it is resident."""
    record = yield from _record(backend, str(request.wanted.run_id))
    page = yield from read_page(backend, request)
    begins = request.since is None or request.since.nothing_seen
    missed = (yield from _missed(backend, record, request.wanted, page)) if begins else {}
    return ReplayPage(record.run_id, page.events, page.cursor, page.at_end, missed, page.gap)


def replay(backend: Backend, request: PageRequest) -> Plan[list[Event]]:
    """All that `request` asks for, over as many pages as that takes; raises `NotFound`.

    What is evicted between two pages is logged, as followers do.
    """
    yield from _record(backend, str(request.wanted.run_id))
    found: list[Event] = []
    while True:
        left = min(request.limit - len(found), MAX_PAGE)
        page = yield from read_page(backend, request._replace(limit=left))
        if page.gap is not None:
            warn_of_gap(page.gap)
        found += page.events
        if page.at_end or len(found) >= request.limit:
            return found
        request = request._replace(since=parse_cursor(page.cursor))


def read_stages(backend: Backend, run_id: object) -> Plan[list[StageView]]:
    """The stages of a run, folded from what is resident of its events; raises `NotFound`."""
    wanted = EventFilter.of(kind=("stage.*", *sorted(TERMINAL_KINDS)))
    return fold_stages((yield from replay(backend, whole_replay(run_id, None, wanted))))


def _missed(backend: Backend, record: RunRecord, wanted: EventFilter, page: Page) -> Plan[dict[str, int]]:
    """Events after `since_seq` that are gone, by lane. Lanes are dense, so a lane's first resident event shows it.

    Looked up after the page was read: what was evicted in between is gone too, unless the page has it.
    """
    oldest = None if page.state is None else page.state.first
    if oldest is not None and record.first >= oldest:
        return {}
    behind = {
        lane: last for lane, last in record.lanes.items() if last > wanted.since_seq and wanted.lane_id in (None, lane)
    }
    first = yield from backend.first_seqs(record.run_id, behind)
    for event in page.events:
        lane, seq = str(event.lane_id), event.seq or 0
        first[lane] = min(first.get(lane, seq), seq)
    gone = {lane: first.get(lane, last + 1) - 1 - wanted.since_seq for lane, last in behind.items()}
    return {lane: count for lane, count in sorted(gone.items()) if count > 0}

"""Reading what is resident: query, pages in both directions with every filter, get."""

import itertools
from typing import Any

import pytest

from eventlog import Event
from eventlog.errors import NotFound
from tests.contract.colours import Colour
from tests.contract.worlds import World

FILTERS: list[dict[str, Any]] = [
    {},
    {"kind": "tool.invoked"},
    {"kind": "tool.*"},
    {"kind": ["tool.failed", "turn.*"]},
    {"kind": "*"},
    {"kind": "nothing.such"},
    {"run_id": "r1"},
    {"run_id": "r1", "lane_id": "left"},
    {"lane_id": "left"},
    {"run_id": "nobody"},
    {"stage_name": "build"},
    {"visibility": "public"},
    {"visibility": "internal"},
    {"visibility": "private"},
    {"run_id": "r2", "kind": "tool.*", "visibility": "internal"},
]
KINDS = ("tool.invoked", "tool.failed", "turn.started", "tools", "tool")
VISIBILITIES = ("public", "internal", "private")


def filled(log: Colour, count: int = 90) -> list[Event]:
    """A log in which every filter has something to find."""
    batch: list[dict[str, Any]] = []
    for n in range(count):
        event: dict[str, Any] = {"kind": KINDS[n % 5], "payload": {"n": n}, "visibility": VISIBILITIES[n % 3]}
        if n % 4:
            event.update(run_id=f"r{n % 4}", lane_id="left" if n % 3 else "right")
        if n % 2:
            event.update(stage_name="build" if n % 7 else "test")
        batch.append(event)
    half = count // 2
    return [*log.append_many(batch[:half]), *log.append_many(batch[half:])]


def passing(events: list[Event], wanted: dict[str, Any]) -> list[Event]:
    """What the filters mean, said once more and differently."""

    def passes(event: Event) -> bool:
        kinds = wanted.get("kind", "*")
        kinds = [kinds] if isinstance(kinds, str) else kinds
        if not any(event.kind.startswith(k[:-1]) if k.endswith("*") else event.kind == k for k in kinds):
            return False
        ceiling = VISIBILITIES.index(wanted.get("visibility", "private"))
        return VISIBILITIES.index(event.visibility) <= ceiling and all(
            getattr(event, name) == wanted[name] for name in ("run_id", "lane_id", "stage_name") if name in wanted
        )

    return [event for event in events if passes(event)]


@pytest.mark.parametrize("wanted", FILTERS, ids=str)
def test_every_filter_finds_the_same_by_query_and_by_pages_of_any_size(log: Colour, wanted: dict[str, Any]) -> None:
    events = filled(log)
    expected = passing(events, wanted)
    assert log.query(**wanted) == expected
    assert log.query(order="desc", **wanted) == expected[::-1]
    for limit in (1, 7, 1000):
        assert paged(log, "asc", limit, wanted) == expected
        assert paged(log, "desc", limit, wanted) == expected[::-1]


def paged(log: Colour, order: str, limit: int, wanted: dict[str, Any]) -> list[Event]:
    """All pages from one end to the other."""
    found: list[Event] = []
    cursor = None
    for _ in range(200):
        if order == "asc":
            page = log.page(cursor, limit, order="asc", **wanted)
        else:
            page = log.page(None, limit, until=cursor, order="desc", **wanted)
        assert len(page.events) <= limit
        assert page.gap is None
        found += page.events
        if page.at_end:
            return found
        assert page.cursor != cursor, "the cursor must move on"
        cursor = page.cursor
    raise AssertionError("the pages never end")


def test_query_takes_every_form_of_a_position(log: Colour) -> None:
    events = filled(log, 20)
    for position in (events[7], events[7].id, events[7].offset, str(events[7].offset), events[7].position):
        assert log.query(position) == events[8:]
        assert log.query(since=position, limit=3) == events[8:11]
        assert log.query(until=position) == events[:7]
        assert log.query(2, until=position) == events[2:7]
        assert log.page(position, 5).events == events[8:13]
    assert log.query(0) == log.query("0") == log.query("0-0") == log.query(None) == events


def test_until_is_exclusive_in_both_directions(log: Colour) -> None:
    events = filled(log, 10)
    assert log.page(until=events[4]).events == events[:4]
    assert log.page(until=events[4], order="desc").events == events[:4][::-1]
    assert log.page(events[1], until=events[4], order="desc").events == [events[3], events[2]]
    assert log.page(events[3], until=events[4]).events == []
    assert log.page(events[5], until=events[4]).events == []


@pytest.mark.parametrize("nothing", [0, "0", "0-0", 1])
def test_until_the_beginning_is_nothing(log: Colour, nothing: object) -> None:
    filled(log, 5)
    assert log.query(until=nothing) == []
    assert log.page(until=nothing).events == []
    assert log.page(until=nothing, order="desc").events == []
    assert log.query(until=nothing, run_id="r1") == []


def test_positions_beyond_the_end_are_positions(log: Colour) -> None:
    events = filled(log, 5)
    assert log.query(2**53 - 1) == []
    assert log.query(f"{2**53 - 1}-{2**53 - 1}") == []
    assert log.query(until=2**53 - 1) == events
    assert log.query(until=f"{2**53 - 1}-{2**53 - 1}") == events


def test_limits_count_what_passes_the_filter(log: Colour) -> None:
    events = filled(log)
    expected = passing(events, {"run_id": "r1"})
    assert log.query(limit=3, run_id="r1") == expected[:3]
    assert log.query(limit=3, run_id="r1", order="desc") == expected[::-1][:3]
    assert log.query(limit=0) == log.query(limit=0, run_id="r1", order="desc") == []


def test_a_probe_returns_the_state_and_moves_nothing(log: Colour) -> None:
    probe = log.page(limit=0)
    assert (probe.events, probe.gap, probe.at_end) == ([], None, True)
    events = filled(log, 10)
    probe = log.page(limit=0)
    assert (probe.events, probe.at_end, probe.epoch) == ([], False, log.info().epoch)
    assert log.page(probe.cursor).events == events
    probe = log.page(events[3], limit=0)
    assert (probe.cursor, probe.at_end, probe.gap) == (events[3].id, False, None)
    assert log.page(events[-1], limit=0).at_end


def test_the_cursor_of_a_finished_page_waits_for_what_comes(log: Colour) -> None:
    events = filled(log, 4)
    page = log.page()
    assert (page.at_end, page.cursor) == (True, events[-1].id)
    later = log.append("later")
    assert log.page(page.cursor, epoch=page.epoch).events == [later]
    filtered = log.page(kind="nothing.such")
    assert (filtered.events, filtered.at_end) == ([], True)
    newest = log.append("nothing.such")
    assert log.page(filtered.cursor, kind="nothing.such").events == [newest]


def test_a_page_that_ends_on_the_last_event_says_so(log: Colour) -> None:
    events = filled(log, 6)
    assert log.page(limit=6).at_end
    assert not log.page(limit=5).at_end
    assert log.page(limit=6, order="desc").at_end
    assert log.page(events[4], limit=1).at_end


def test_an_empty_log_gives_empty_pages(log: Colour) -> None:
    pages = [log.page(order=order) for order in ("asc", "desc")]
    for page in pages:
        assert (page.events, page.gap, page.at_end, page.epoch) == ([], None, True, "")
    first = log.append("a")
    for page in pages:
        assert log.page(page.cursor).events == [first]


def test_a_filtered_page_over_a_long_log_is_short_and_moves_on(world: World) -> None:
    log = world.open()
    for _ in range(5):
        log.append_many([{"kind": "noise"}] * 1_000)
    last = log.append("wanted")
    for order in ("asc", "desc"):
        page = log.page(kind="nothing.such", order=order)
        assert (page.events, page.at_end) == ([], False)
        assert page.cursor != log.page(limit=0).cursor
    pages = list(itertools.islice(walk(log, {"kind": "wanted"}), 10))
    assert [event for events in pages for event in events] == [last]
    assert 2 <= len(pages) < 10
    assert log.query(kind="wanted") == log.query(kind="wanted", order="desc") == [last]


def walk(log: Colour, wanted: dict[str, Any]) -> Any:
    cursor, at_end = None, False
    while not at_end:
        page = log.page(cursor, **wanted)
        cursor, at_end = page.cursor, page.at_end
        yield page.events


def test_since_time_begins_at_the_first_event_of_that_instant(world: World) -> None:
    log = world.open()
    early = log.append("early", run_id="r")
    world.pass_time(0.05)
    late = [log.append("late", run_id="r") for _ in range(3)]
    assert log.query(since_time=early.timestamp) == [early, *late]
    assert log.query(since_time=late[0].timestamp) == late
    assert log.query(since_time=early.timestamp + 0.001) == late
    assert log.query(since_time=early.timestamp + 0.001, run_id="r") == late
    assert log.query(since_time=late[0].timestamp, order="desc") == late[::-1]
    assert log.query(since_time=late[-1].timestamp + 1) == []
    assert log.query(since_time=0) == [early, *late]
    assert log.query(late[0], since_time=early.timestamp) == late[1:]


def test_get_returns_one_event_by_its_id(log: Colour) -> None:
    events = filled(log, 10)
    for event in events:
        assert log.get(event.id) == event


def test_get_of_what_is_not_there_is_not_found(world: World) -> None:
    log = world.open(max_entries=3)
    with pytest.raises(NotFound):
        log.get("1763720000123-41")
    events = log.append_many([{"kind": "a"}] * 5)
    ms = events[0].position.ms
    for missing in (events[0].id, f"{ms}-6", f"{ms}-0", f"{ms + 1}-4", f"{ms - 1}-4", "0-0", "0-1"):
        with pytest.raises(NotFound):
            log.get(missing)
    log.clear()
    with pytest.raises(NotFound):
        log.get(events[-1].id)


def test_a_read_that_starts_at_an_offset_finds_it_among_thousands(world: World) -> None:
    log = world.open(max_entries=2_500)
    for _ in range(30):
        log.append_many([{"kind": "a"}] * 100)
    for offset in (500, 501, 999, 1_000, 1_777, 2_999):
        assert log.page(offset, 1).events[0].offset == offset + 1
        assert log.page(until=offset + 1, order="desc", limit=1).events[-1:] == log.query(offset - 1, 1)[:1] or (
            offset == 500
        )

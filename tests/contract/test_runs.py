"""Runs: one, many, and the replay of one by lane and seq, with what is gone of it."""

import pytest

from eventlog import Gap
from eventlog.errors import InvalidInput, NotFound
from tests.contract.colours import Colour
from tests.contract.worlds import World


def test_a_run_is_summed_up(log: Colour) -> None:
    first = log.append("run.started", run_id="r")
    log.append_many([{"kind": "a", "run_id": "r", "lane_id": "left"}] * 3)
    last = log.append("b", run_id="r")
    run = log.run("r")
    assert (run.run_id, run.status, run.first_id, run.last_id) == ("r", "running", first.id, last.id)
    assert (run.ended_id, run.ended_at) == (None, None)
    assert (run.started_at, run.last_event_at) == (first.timestamp, last.timestamp)
    assert run.events == 5
    assert run.lanes == {"left": 3, "main": 2}
    assert run.duration_ms >= round((last.timestamp - first.timestamp) * 1000)
    assert type(run).from_dict(run.to_dict()) == run


@pytest.mark.parametrize(
    ("kind", "status"),
    [("run.finished", "finished"), ("run.failed", "failed"), ("run.error", "failed"), ("run.cancelled", "cancelled")],
)
def test_the_first_terminal_event_decides_how_a_run_ended(log: Colour, kind: str, status: str) -> None:
    first = log.append("a", run_id="r")
    # In one call and in another one: what was decided stands.
    ended, *_ = log.append_many([{"kind": kind, "run_id": "r"}, {"kind": "run.started", "run_id": "r"}])
    for late in ("run.finished", "run.failed", "run.cancelled", "b"):
        last = log.append(late, run_id="r")
    run = log.run("r")
    assert (run.status, run.ended_id, run.ended_at) == (status, ended.id, ended.timestamp)
    assert run.last_id == last.id
    assert run.duration_ms == round((ended.timestamp - first.timestamp) * 1000)


def test_a_run_without_an_event_is_not_found(log: Colour) -> None:
    log.append("a")
    log.append("a", run_id="other")
    for ask in (log.run, log.replay, log.replay_page):
        with pytest.raises(NotFound, match="no event"):
            ask("r")


def test_a_run_goes_with_its_last_event(world: World) -> None:
    log = world.open(max_entries=5)
    log.append("a", run_id="r")
    log.append_many([{"kind": "b", "run_id": "s"}] * 5)
    assert [run.run_id for run in log.runs().runs] == ["s"]
    with pytest.raises(NotFound):
        log.run("r")
    log.clear()
    assert log.runs().runs == []
    with pytest.raises(NotFound):
        log.run("s")
    begun_anew = log.append("a", run_id="r")
    assert (log.run("r").first_id, log.run("r").events) == (begun_anew.id, 1)


def test_a_run_expires_with_its_last_event(world: World) -> None:
    log = world.open(ttl_seconds=40)
    log.append("run.failed", run_id="r")
    assert log.run("r").status == "failed"
    world.pass_time(40)
    assert log.runs().runs == []
    with pytest.raises(NotFound):
        log.run("r")
    log.append("a", run_id="r")
    assert log.run("r").status == "running"


def test_runs_come_by_their_newest_event(log: Colour) -> None:
    for run in ("a", "b", "c", "a", "d", "b"):
        log.append("x", run_id=run)
    page = log.runs()
    assert [run.run_id for run in page.runs] == ["b", "d", "a", "c"]
    assert page.at_end


@pytest.mark.parametrize("limit", [1, 2, 3, 7])
def test_pages_of_runs_join_without_a_hole(log: Colour, limit: int) -> None:
    log.append_many([{"kind": "x", "run_id": f"r{n}"} for n in range(7)])
    found: list[str] = []
    cursor = None
    for _ in range(10):
        page = log.runs(limit, until=cursor)
        assert 0 < len(page.runs) <= limit, "the end is known without an empty page"
        found += [run.run_id for run in page.runs]
        cursor = page.cursor
        if page.at_end:
            break
    assert found == [f"r{n}" for n in reversed(range(7))]


@pytest.mark.parametrize("count", [199, 200, 201, 400])
def test_the_end_is_known_however_many_runs_there_are(log: Colour, count: int) -> None:
    log.append_many([{"kind": "x", "run_id": f"r{n}"} for n in range(count)])
    page = log.runs(count)
    assert (len(page.runs), page.at_end) == (count, True)
    page = log.runs(count - 1)
    assert (len(page.runs), page.at_end) == (count - 1, False)
    [last] = log.runs(until=page.cursor).runs
    assert last.run_id == "r0"


def test_runs_are_found_by_status(log: Colour) -> None:
    ends = {"finished": "run.finished", "failed": "run.error", "cancelled": "run.cancelled"}
    for n in range(3):
        for status, kind in ends.items():
            log.append(kind, run_id=f"{status}{n}")
        log.append("a", run_id=f"running{n}")
    for status in ("running", "finished", "failed", "cancelled"):
        page = log.runs(status=status)
        assert [run.run_id for run in page.runs] == [f"{status}{n}" for n in (2, 1, 0)]
        assert {run.status for run in page.runs} == {status}
        assert page.at_end
        one, two = log.runs(1, status=status), log.runs(2, status=status)
        rest = log.runs(until=two.cursor, status=status)
        assert [run.run_id for run in (*two.runs, *rest.runs)] == [run.run_id for run in page.runs]
        assert one.runs[0].run_id == page.runs[0].run_id


def test_a_status_far_down_is_found_over_several_pages(world: World) -> None:
    log = world.open(max_entries=5000)
    log.append("run.failed", run_id="lost")
    log.append_many([{"kind": "a", "run_id": f"r{n}"} for n in range(2500)])
    page = log.runs(status="failed")
    assert page.runs == []
    assert not page.at_end
    page = log.runs(until=page.cursor, status="failed")
    assert [run.run_id for run in page.runs] == ["lost"]
    assert page.at_end


@pytest.mark.parametrize(
    ("call", "field"),
    [
        (lambda log: log.runs(0), "limit"),
        (lambda log: log.runs(1001), "limit"),
        (lambda log: log.runs(True), "limit"),
        (lambda log: log.runs(status="done"), "status"),
        (lambda log: log.runs(until="x"), "until"),
        (lambda log: log.run("a b"), "run_id"),
        (lambda log: log.run(None), "run_id"),
        (lambda log: log.replay("r", since_seq=-1), "since_seq"),
        (lambda log: log.replay("r", since_seq="1"), "since_seq"),
        (lambda log: log.replay_page("r", limit=1001), "limit"),
        (lambda log: log.replay("r", lane_id="a b"), "lane_id"),
    ],
)
def test_bad_input_is_named(log: Colour, call: object, field: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        call(log)  # type: ignore[operator]
    assert refused.value.field == field


def test_a_replay_goes_on_after_a_seq_in_every_lane(log: Colour) -> None:
    appended = log.append_many([{"kind": "a", "run_id": "r", "lane_id": lane} for _ in range(4) for lane in "xyz"])
    log.append("other", run_id="s")
    assert log.replay("r") == appended
    assert log.replay("r", since_seq=2) == appended[6:]
    assert log.replay("r", lane_id="y", since_seq=1) == [e for e in appended if e.lane_id == "y"][1:]
    assert log.replay("r", limit=5) == appended[:5]
    assert log.replay("r", limit=0) == []
    assert log.replay("r", since_seq=4) == []
    assert log.query(run_id="r", lane_id="x", since_seq=3) == [appended[9]]


def test_pages_of_a_replay_join_without_a_hole(log: Colour) -> None:
    appended = log.append_many(
        [{"kind": "a" if n % 3 else "b", "run_id": "r" if n % 2 else "s", "lane_id": str(n % 5)} for n in range(700)]
    )
    wanted = [e for e in appended if e.run_id == "r" and e.kind == "a" and (e.seq or 0) > 20]
    found = []
    cursor = None
    for _ in range(100):
        page = log.replay_page("r", since_seq=20, kind="a", since=cursor, limit=31)
        assert page.missed == {}
        found += page.events
        cursor = page.cursor
        if page.at_end:
            break
    assert found == wanted == log.replay("r", since_seq=20, kind="a")


def test_a_replay_tells_what_is_gone_of_each_lane(world: World) -> None:
    log = world.open(max_entries=10)
    log.append_many([{"kind": "a", "run_id": "r", "lane_id": "gone"}] * 4)
    log.append_many([{"kind": "a", "run_id": "r", "lane_id": "some"}] * 8)
    log.append_many([{"kind": "a", "run_id": "r", "lane_id": "all"}] * 4)
    assert [(e.lane_id, e.seq) for e in log.replay("r")][:2] == [("some", 3), ("some", 4)]
    assert log.replay_page("r").missed == {"gone": 4, "some": 2}
    assert log.replay_page("r", limit=1).missed == {"gone": 4, "some": 2}
    assert log.replay_page("r", since_seq=1).missed == {"gone": 3, "some": 1}
    assert log.replay_page("r", since_seq=2, kind="none").missed == {"gone": 2}
    assert log.replay_page("r", lane_id="some").missed == {"some": 2}
    assert log.replay_page("r", lane_id="all").missed == {}
    assert log.replay_page("r", lane_id="never").missed == {}
    assert log.replay_page("r", since=log.replay("r")[0]).missed == {}


def test_what_is_gone_is_counted_over_a_long_index(world: World) -> None:
    log = world.open(max_entries=6000)
    log.append_many([{"kind": "a", "run_id": "r", "lane_id": "early"}] * 100)
    log.append_many([{"kind": "a", "run_id": "r", "lane_id": "long"}] * 5950)
    log.append_many([{"kind": "a", "run_id": "r", "lane_id": "late"}] * 10)
    assert log.replay_page("r", limit=1).missed == {"early": 60}
    log.append_many([{"kind": "b"}] * 50)
    assert log.replay_page("r", limit=1).missed == {"early": 100, "long": 10}


def test_a_lane_of_a_long_run_is_found_in_one_page(log: Colour) -> None:
    for _ in range(5):
        log.append_many([{"kind": "a", "run_id": "r", "lane_id": f"l{n % 20}"} for n in range(2000)])
    page = log.replay_page("r", lane_id="l3", since_seq=490, limit=4)
    assert ([event.seq for event in page.events], page.at_end) == ([491, 492, 493, 494], False)
    page = log.replay_page("r", lane_id="l3", since_seq=490, since=page.cursor)
    assert ([event.seq for event in page.events], page.at_end) == ([495, 496, 497, 498, 499, 500], True)
    page = log.replay_page("r", lane_id="l3", since_seq=495, limit=0)
    assert (page.events, page.at_end) == ([], False)


def test_what_goes_between_two_pages_of_a_replay_is_told_as_a_gap(world: World) -> None:
    log = world.open(max_entries=10)
    log.append_many([{"kind": "a", "run_id": "r"}] * 10)
    first = log.replay_page("r", limit=3)
    assert ([event.seq for event in first.events], first.gap) == ([1, 2, 3], None)
    assert log.replay_page("r", since=first.cursor, limit=1).gap is None
    log.append_many([{"kind": "b"}] * 5)
    second = log.replay_page("r", since=first.cursor)
    assert ([event.seq for event in second.events], second.missed) == ([6, 7, 8, 9, 10], {})
    assert second.gap == Gap(2, 4, 5, "trimmed")
    assert log.replay_page("r", since=0).missed == {"main": 5}
    log.append_many([{"kind": "b"}] * 10)
    with pytest.raises(NotFound, match="any more"):
        log.replay_page("r", since=second.cursor)


def test_the_stages_of_a_run_are_folded_from_its_events_alone(log: Colour) -> None:
    with pytest.raises(NotFound, match="run r "):
        log.stages("r")
    log.append("a", run_id="r")
    assert log.stages("r") == []
    log.append_many([{"kind": "line", "run_id": "r", "stage_name": "build"}] * 1100)
    for run in ("r", "other"):
        log.append("stage.started", run_id=run, lane_id="w", stage_name="build")
    log.append("stage.failed", {"exit_code": 2, "duration_ms": 40}, run_id="r", lane_id="w", stage_name="build")
    log.append("stage.queued", run_id="r", stage_name="test", visibility="private")
    log.append("run.cancelled", run_id="r")
    build, test = log.stages("r")
    assert (build.stage_name, build.status, build.exit_code, build.duration_ms) == ("build", "failed", 2, 40)
    assert (test.stage_name, test.status, test.reason) == ("test", "skipped", "run cancelled")
    assert [stage.status for stage in log.stages("other")] == ["running"]
    with pytest.raises(InvalidInput, match="run_id"):
        log.stages("a b")


@pytest.mark.parametrize("order", ["asc", "desc"])
def test_a_lane_of_a_long_run_is_read_by_its_index(world: World, order: str) -> None:
    log = world.open(max_entries=10_000)
    for _ in range(4):
        log.append_many([{"kind": "a", "run_id": "r", "lane_id": "busy"}] * 700)
        log.append("stage.started", {"stage_attempt": 1}, run_id="r", lane_id="quiet", stage_name="s")
        log.append("b", run_id="r", lane_id="quiet", visibility="private")
    quiet = [event for event in log.query(run_id="r") if event.lane_id == "quiet"]
    assert [event.seq for event in quiet] == [1, 2, 3, 4, 5, 6, 7, 8]
    page = log.page(run_id="r", lane_id="quiet", order=order)
    assert page.events == (quiet if order == "asc" else quiet[::-1])
    assert page.at_end
    for filters, wanted in (
        ({"since_seq": 5, "lane_id": "quiet"}, quiet[5:]),
        ({"kind": "stage.*"}, quiet[::2]),
        ({"kind": ["stage.started", "run.failed"]}, quiet[::2]),
        ({"kind": "stage.failed"}, []),
        ({"kind": "stage.*", "lane_id": "busy"}, []),
        ({"lane_id": "quiet", "visibility": "public"}, quiet[::2]),
        ({"lane_id": "quiet", "kind": "b"}, quiet[1::2]),
        ({"kind": ["stage.*", "b"]}, quiet),
    ):
        found = log.query(run_id="r", order=order, **filters)
        assert found == (wanted if order == "asc" else wanted[::-1]), filters


def test_pages_of_a_lane_join_whatever_their_size(world: World) -> None:
    log = world.open()
    log.append_many([{"kind": "a", "run_id": "r", "lane_id": "xyz"[n % 3]} for n in range(2400)])
    wanted = [event for event in log.query(run_id="r", lane_id="y") if (event.seq or 0) > 780]
    assert len(wanted) == 20
    for limit in (1, 7, 19, 20, 21, 1000):
        found, cursor, at_end = [], None, False
        while not at_end:
            page = log.replay_page("r", lane_id="y", since_seq=780, since=cursor, limit=limit)
            assert len(page.events) <= limit
            found += page.events
            cursor, at_end = page.cursor, page.at_end
        assert found == wanted

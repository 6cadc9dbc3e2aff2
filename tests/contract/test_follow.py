"""Following: everything once and in order, what was missed told, and an end when it is asked for."""

import time
from typing import Any

import pytest

from eventlog import Event, Gap
from eventlog.errors import InvalidInput
from tests.contract.colours import Colour, Gaps, Reading
from tests.contract.worlds import World
from tests.support.redis_process import eventually


def test_following_from_the_beginning_gives_all_and_then_what_comes(log: Colour) -> None:
    events = log.append_many([{"kind": "a"}] * 5)
    with Reading(log.follow(0)) as reading:
        eventually(lambda: len(reading.events) == 5, "what was there is given")
        for n in range(5):
            events.append(log.append("b", {"n": n}))
            eventually(lambda: len(reading.events) == len(events), "what came is given")
    assert reading.events == events


def test_following_from_now_gives_everything_from_then_on(log: Colour) -> None:
    log.append_many([{"kind": "old"}] * 3)
    appended: list[Event] = []
    with Reading(log.follow()) as reading:

        def appending_until_one_is_seen() -> bool:
            appended.append(log.append("new"))
            return bool(reading.events)

        eventually(appending_until_one_is_seen, "the follower has begun")
        appended.append(log.append("last"))
        eventually(lambda: reading.events[-1].kind == "last", "the last one is given")
    assert reading.events == appended[-len(reading.events) :]


def test_following_a_log_that_does_not_exist_yet_waits_for_its_first_event(log: Colour) -> None:
    gaps = Gaps()
    with Reading(log.follow(0, on_gap=gaps)) as reading:
        first = log.append("a")
        eventually(lambda: reading.events == [first], "the first event is given")
    assert gaps == []


@pytest.mark.parametrize("form", ["id", "offset", "event"])
def test_following_from_a_cursor_goes_on_behind_it(log: Colour, form: str) -> None:
    events = log.append_many([{"kind": "a"}] * 6)
    since = {"id": events[2].id, "offset": 3, "event": events[2]}[form]
    with Reading(log.follow(since)) as reading:
        eventually(lambda: len(reading.events) == 3, "the rest is given")
    assert reading.events == events[3:]


def test_following_many_pages_gives_each_event_once(world: World) -> None:
    log = world.open()
    events = [event for _ in range(4) for event in log.append_many([{"kind": "a"}] * 700)]
    with Reading(log.follow(0)) as reading:
        events += [log.append("b") for _ in range(50)]
        eventually(lambda: len(reading.events) >= len(events), "all are given")
    assert reading.events == events


def test_a_filter_holds_for_what_was_there_and_for_what_comes(log: Colour) -> None:
    batch = [
        {"kind": "tool.invoked", "run_id": "r"},
        {"kind": "turn.started", "run_id": "r"},
        {"kind": "tool.invoked", "run_id": "q"},
        {"kind": "tool.failed", "run_id": "r", "visibility": "private"},
    ]
    before = log.append_many(batch * 3)
    with Reading(log.follow(0, kind="tool.*", run_id="r", visibility="internal")) as reading:
        eventually(lambda: len(reading.events) == 3, "what was there is given")
        after = log.append_many(batch * 3)
        eventually(lambda: len(reading.events) == 6, "what came is given")
    assert reading.events == (before + after)[::4]


def test_what_is_missed_before_the_start_is_told(world: World) -> None:
    log = world.open(max_entries=3)
    events = log.append_many([{"kind": "a"}] * 10)
    gaps = Gaps()
    with Reading(log.follow(events[1], on_gap=gaps)) as reading:
        eventually(lambda: len(reading.events) == 3, "what is left is given")
    assert gaps == [Gap(5, 3, 7, "trimmed")]
    assert reading.events == events[-3:]


def test_a_slow_follower_is_told_exactly_what_was_trimmed_meanwhile(world: World) -> None:
    log = world.open(max_entries=10)
    first = log.append("a")
    told: list[int] = []
    following = log.follow(0, on_gap=lambda gap: told.extend(range(gap.from_offset, gap.to_offset + 1)))
    events = iter(following)
    assert next(events) == first
    for _ in range(40):
        log.append_many([{"kind": "b"}] * 10)
    given = 0
    while not told or told[-1] < 401:
        told.append(next(events).offset)
        given += 1
    # Redis may still hold, and a follower then gets, a few more than ten.
    assert told == list(range(2, 402)), "each was given or told, once and in order"
    assert 10 <= given <= 300
    following.close()


def test_a_log_cleared_under_a_waiting_follower_is_told_with_the_next_event(log: Colour) -> None:
    events = log.append_many([{"kind": "a"}] * 3)
    gaps = Gaps()
    with Reading(log.follow(0, on_gap=gaps)) as reading:
        eventually(lambda: len(reading.events) == 3, "all are given")
        log.clear()
        events.append(log.append("b"))
        eventually(lambda: len(reading.events) == 4, "what came after is given")
    assert reading.events == events
    assert gaps == [], "it had seen all that was cleared"


def test_a_log_wiped_under_a_waiting_follower_is_told_and_followed_on(world: World) -> None:
    log = world.open()
    old = log.append_many([{"kind": "a"}] * 3)
    gaps = Gaps()
    with Reading(log.follow(0, on_gap=gaps)) as reading:
        eventually(lambda: len(reading.events) == 3, "all are given")
        world.wipe(log)
        new = log.append_many([{"kind": "b"}] * 2)
        eventually(lambda: len(reading.events) == 5, "the new log is given")
    assert reading.events == old + new
    # The follower may or may not look between the wipe and the new beginning.
    assert {gap.reason for gap in gaps} == {"reset"}
    assert sum(gap.missed for gap in gaps) == 0


def test_until_terminal_ends_after_the_runs_last_event(log: Colour) -> None:
    wanted = [log.append("a", run_id="r")]
    log.append("run.finished", run_id="other")
    with Reading(log.follow(0, run_id="r", until_terminal=True)) as reading:
        eventually(lambda: len(reading.events) == 1, "the first is given")
        wanted.append(log.append("run.failed", run_id="r"))
        log.append("after", run_id="r")
        reading.join()
    assert reading.events == wanted


@pytest.mark.parametrize("kind", ["run.finished", "run.failed", "run.error", "run.cancelled"])
def test_until_terminal_of_a_run_that_has_ended_gives_its_events_and_ends(log: Colour, kind: str) -> None:
    events = [log.append("a", run_id="r"), log.append(kind, run_id="r")]
    with Reading(log.follow(0, run_id="r", until_terminal=True)) as reading:
        reading.join()
    assert reading.events == events


def test_until_terminal_ends_at_once_for_a_reader_who_saw_the_end(log: Colour) -> None:
    log.append("a", run_id="r")
    end = log.append("run.finished", run_id="r")
    for since in (end, end.offset):
        with Reading(log.follow(since, run_id="r", until_terminal=True)) as reading:
            reading.join()
        assert reading.events == []


@pytest.mark.parametrize(
    "filters", [{"kind": "a"}, {"lane_id": "left"}, {"stage_name": "build"}, {"since_seq": 1}], ids=str
)
def test_until_terminal_lets_the_end_through_any_filter(log: Colour, filters: dict[str, Any]) -> None:
    """Who reads one lane or stage of a run ends with the run, wherever its end was told."""
    log.append("b", run_id="r")
    seen = log.append_many([{"kind": "a", "run_id": "r", "lane_id": "left", "stage_name": "build"}] * 2)
    with Reading(log.follow(0, run_id="r", until_terminal=True, **filters)) as reading:
        eventually(lambda: seen[1] in reading.events, "what passes the filter is given")
        log.append("run.finished", run_id="other")
        log.append("c", run_id="r", lane_id="right")
        end = log.append("run.finished", run_id="r", lane_id="end")
        reading.join()
    assert reading.events == [event for event in seen if event.seq > filters.get("since_seq", 0)] + [end]


def test_until_terminal_ends_also_where_the_end_is_not_for_the_reader(log: Colour) -> None:
    """Its level hides the event, not that the run is over."""
    seen = log.append("a", run_id="r")
    wanted = {"run_id": "r", "visibility": "public", "until_terminal": True}
    with Reading(log.follow(0, **wanted)) as live:
        eventually(lambda: live.events == [seen], "it has caught up")
        log.append("run.failed", run_id="r", visibility="private")
        log.append("late", run_id="r")
        live.join()
    assert live.events == [seen]
    late = log.query(kind="late")
    with Reading(log.follow(0, **wanted)) as later:
        later.join()
    assert later.events == [seen, *late], "what a page has that comes after it is given"


def test_until_terminal_without_a_run_is_an_error(log: Colour) -> None:
    with pytest.raises(InvalidInput, match="until_terminal"):
        list(log.follow(0, until_terminal=True))


@pytest.mark.parametrize(("given", "field"), [({"since": "abc"}, "since"), ({"kind": "no kind"}, "kind")])
def test_following_with_a_bad_value_names_it(log: Colour, given: dict[str, str], field: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        list(log.follow(**given))
    assert refused.value.field == field


def test_a_follower_that_waits_is_closed_from_another_thread(log: Colour) -> None:
    event = log.append("a")
    following = log.follow(0)
    with Reading(following) as reading:
        eventually(lambda: reading.events == [event], "the follower waits")
        began = time.monotonic()
        following.close()
        reading.join()
    assert time.monotonic() - began < 3
    assert reading.error is None


def test_a_follower_that_is_not_told_where_gaps_go_logs_them(world: World, caplog: pytest.LogCaptureFixture) -> None:
    log = world.open(max_entries=2)
    log.append_many([{"kind": "a"}] * 5)
    with Reading(log.follow(0)) as reading:
        eventually(lambda: len(reading.events) == 2, "what is left is given")
    assert "events missed: 3 (1 to 3, trimmed)" in caplog.text


def test_expired_events_are_not_shown_to_a_follower_who_comes_late(world: World) -> None:
    log = world.open(ttl_seconds=0.5)
    log.append_many([{"kind": "a"}] * 3)
    world.pass_time(0.6)
    young = log.append("b")
    gaps = Gaps()
    with Reading(log.follow(0, on_gap=gaps)) as reading:
        eventually(lambda: len(reading.events) == 1, "the young one is given")
    assert reading.events == [young]
    assert gaps == [Gap(3, 1, 3, "trimmed")]


def test_the_cursor_moves_on_over_what_the_filter_leaves_out(world: World) -> None:
    """Else a reader that resumes after a quiet time would be told that it missed what it did not want."""
    log = world.open(max_entries=1500)
    first = log.append("rare")
    gaps = Gaps()
    following = log.follow(0, kind="rare", on_gap=gaps)
    with Reading(following) as reading:
        eventually(lambda: reading.events == [first], "what was there is given")
        last = log.append_many([{"kind": "a"}] * 1000)[-1]
        eventually(lambda: following.cursor == last.id, "the cursor has moved on")
        assert following.epoch == log.info().epoch
    log.append_many([{"kind": "a"}] * 1000)
    later = log.append("rare")
    with Reading(log.follow(following.cursor, epoch=following.epoch, kind="rare", on_gap=gaps)) as reading:
        eventually(lambda: reading.events == [later], "what came is given")
    assert gaps == []


def test_a_follower_of_an_empty_log_has_its_epoch_and_hears_that_it_was_lost(world: World) -> None:
    log = world.open()
    gaps = Gaps()
    following = log.follow(0, on_gap=gaps)
    with Reading(following) as reading:
        first = log.append("a")
        eventually(lambda: reading.events == [first], "the first event is given")
        eventually(lambda: following.epoch == log.info().epoch, "the log has a name")
        cursor, epoch = following.cursor, following.epoch
    world.pass_time(0.002)
    world.wipe(log)
    log.append_many([{"kind": "b"}] * 3)
    assert gaps == []
    for since in (cursor, 1):
        with Reading(log.follow(since, epoch=epoch, on_gap=gaps)) as reading:
            eventually(lambda: len(reading.events) == 3, "the new log is given")
    assert gaps == [Gap(0, 1, 0, "reset")] * 2

"""What a reader missed is told: how many, which, and why."""

import pytest

from eventlog import Gap
from tests.contract.colours import Colour
from tests.contract.worlds import World


def test_a_reader_who_missed_nothing_is_told_nothing(log: Colour) -> None:
    events = log.append_many([{"kind": "a"}] * 5)
    for position in (None, 0, "0", "0-0", events[0], events[2].offset, events[-1]):
        assert log.page(position).gap is None
        assert log.page(position, epoch=log.info().epoch).gap is None


def test_a_log_that_never_was_has_no_gap_for_a_reader_who_saw_nothing(log: Colour) -> None:
    assert log.page(0).gap is None
    assert log.page(None).gap is None


@pytest.mark.parametrize("seen", [0, 1, 4, 5, 6, 7])
def test_events_trimmed_by_count_are_counted_exactly(world: World, seen: int) -> None:
    log = world.open(max_entries=4)
    events = log.append_many([{"kind": "a"}] * 10)
    expected = Gap(6 - seen, seen + 1, 6, "trimmed") if seen < 6 else None
    for position in (seen, str(seen), *([events[seen - 1], events[seen - 1].id] if seen else ["0-0"])):
        page = log.page(position)
        assert page.gap == expected
        assert page.events == events[max(6, seen) :]
        page = log.page(position, kind="nothing.such", epoch=page.epoch)
        assert page.gap == expected


def test_a_gap_is_told_once_and_not_again_on_the_next_page(world: World) -> None:
    log = world.open(max_entries=4)
    first = log.append("a")
    log.append_many([{"kind": "a"}] * 10)
    page = log.page(first, limit=2)
    assert page.gap == Gap(6, 2, 7, "trimmed")
    assert log.page(page.cursor).gap is None


def test_expired_events_are_counted_even_if_nothing_is_left(world: World) -> None:
    log = world.open(ttl_seconds=40)
    events = log.append_many([{"kind": "a"}] * 3)
    world.pass_time(60)
    assert log.page(events[0]).gap == Gap(2, 2, 3, "trimmed")
    assert log.page(0).gap == Gap(3, 1, 3, "trimmed")
    assert log.page(events[-1]).gap is None
    page = log.page(events[0])
    assert (page.events, page.at_end) == ([], True)
    later = log.append("b")
    again = log.page(page.cursor, epoch=page.epoch)
    assert (again.gap, again.events) == (None, [later])
    assert log.page(events[0]).gap == Gap(2, 2, 3, "trimmed")


def test_cleared_events_are_counted(log: Colour) -> None:
    events = log.append_many([{"kind": "a"}] * 5)
    log.clear()
    for epoch in (None, log.info().epoch):
        assert log.page(events[1], epoch=epoch).gap == Gap(3, 3, 5, "trimmed")
    later = log.append("b")
    page = log.page(events[1])
    assert (page.gap, page.events) == (Gap(3, 3, 5, "trimmed"), [later])


def test_a_wiped_log_is_told_as_a_reset_before_anything_new_is_there(world: World) -> None:
    log = world.open()
    events = log.append_many([{"kind": "a"}] * 5)
    epoch = log.info().epoch
    world.wipe(log)
    for given in (None, epoch):
        page = log.page(events[2], epoch=given)
        assert (page.gap, page.events) == (Gap(0, 1, 0, "reset"), [])
    assert log.page(0).gap is None


@pytest.mark.parametrize("seen", [1, 3, 5])
def test_a_wiped_log_that_began_anew_is_a_reset_and_is_read_from_its_beginning(world: World, seen: int) -> None:
    log = world.open()
    old = log.append_many([{"kind": "a"}] * 5)
    epoch = log.info().epoch
    world.wipe(log)
    new = log.append_many([{"kind": "b"}] * 3)
    assert [event.offset for event in new] == [1, 2, 3]
    assert log.info().epoch != epoch
    for given in (None, epoch):
        page = log.page(old[seen - 1], epoch=given)
        assert (page.gap, page.events) == (Gap(0, 1, 0, "reset"), new)
        assert log.page(page.cursor, epoch=page.epoch).gap is None


def test_an_offset_of_a_wiped_log_is_recognised_by_its_epoch(world: World) -> None:
    log = world.open()
    log.append_many([{"kind": "a"}] * 5)
    epoch = log.info().epoch
    world.wipe(log)
    new = log.append_many([{"kind": "b"}] * 9)
    page = log.page(4, epoch=epoch)
    assert page.gap is not None
    assert page.gap.reason == "reset"
    assert page.events == new


def test_what_the_new_log_lost_already_is_part_of_the_reset(world: World) -> None:
    log = world.open(max_entries=4)
    old = log.append_many([{"kind": "a"}] * 2)
    world.wipe(log)
    new = log.append_many([{"kind": "b"}] * 10)
    page = log.page(old[-1])
    assert page.gap == Gap(6, 1, 6, "reset")
    assert page.events == new[-4:]


def test_a_cursor_ahead_of_the_log_is_a_rollback(log: Colour) -> None:
    events = log.append_many([{"kind": "a"}] * 3)
    page = log.page(10)
    assert page.gap is not None
    assert page.gap == Gap(3, 1, 3, "rollback")
    ahead = f"{events[-1].position.ms}-{10}"
    page = log.page(ahead)
    assert page.gap is not None
    assert page.gap.reason == "rollback"
    later = log.append("b")
    assert log.page(page.cursor, epoch=page.epoch).events == [later]


def test_a_gap_and_its_page_have_a_wire_form(world: World) -> None:
    log = world.open(max_entries=2)
    log.append_many([{"kind": "a"}] * 5)
    wire = log.page(0).to_dict()
    assert wire["gap"] == {"missed": 3, "from_offset": 1, "to_offset": 3, "reason": "trimmed"}
    assert set(wire) == {"events", "cursor", "gap", "at_end", "epoch"}
    assert [event["offset"] for event in wire["events"]] == [4, 5]

"""Logs that are not what their readers saw: two primaries that both went on, a file that ended within an append."""

import random
from typing import Any

import pytest

from eventlog import Event, Gap
from tests.contract.colours import Colour, Gaps, Reading
from tests.contract.worlds import RedisWorld, World
from tests.support.redis_process import eventually


def other_primary(world: World, log: Colour, **options: Any) -> Colour:
    """A log that has the history of `log` up to now, and goes its own way from here on."""
    other = world.open(workspace="other", **options)
    if isinstance(world, RedisWorld):
        for key in world.stored_keys():
            if "{w}" in key:
                world.client.copy(key, key.replace("{w}", "{other}"))
    else:
        known = log.storage._log
        other.storage._log = known._replace(events=list(known.events))
    return other


def given(log: Colour, since: object, epoch: str | None, **filters: Any) -> tuple[list[Gap], list[Event]]:
    """What a reader is told and given, page by page, to the end."""
    gaps, events = [], []
    while True:
        page = log.page(since, 3, epoch=epoch, **filters)
        gaps += [page.gap] if page.gap else []
        events += page.events
        since, epoch = page.cursor, page.epoch
        if page.at_end:
            return gaps, events


@pytest.mark.parametrize("seed", range(12))
def test_a_reader_of_one_of_two_primaries_is_never_told_less_than_it_misses_on_the_other(
    world: World, seed: int
) -> None:
    choose = random.Random(seed)
    options = {"max_entries": choose.choice([1000, 40])}
    seen_log = world.open(**options)
    kept = seen_log.append_many([{"kind": "kept"}] * choose.randint(1, 30))
    log = other_primary(world, seen_log, **options)
    seen: list[Event] = []
    for _ in range(choose.randint(1, 8)):
        world.pass_time(0.001)  # no id is given out twice
        if choose.random() < 0.6:
            log.append_many([{"kind": "other"}] * choose.randint(1, 4))
        else:
            seen = seen_log.append_many([{"kind": "seen"}] * choose.randint(1, 4))
    epoch = choose.choice([None, seen_log.info().epoch])
    world.pass_time(0.001)
    fresh = log.append_many([{"kind": "fresh"}] * choose.randint(0, 2))
    for cursor, is_of_both in [(event, True) for event in kept[-2:]] + [(event, False) for event in seen[-1:]]:
        gaps, events = given(log, cursor, epoch)
        if is_of_both:
            assert not gaps
            assert [event.offset for event in events] == list(range(cursor.offset + 1, log.info().last_offset + 1))
            continue
        if cursor.offset <= log.info().trimmed:
            continue  # nothing is left that its place could be compared with
        missed = log.info().last_offset - kept[-1].offset - len(events)
        assert [gap.reason for gap in gaps] == ["rollback"]
        assert missed <= gaps[0].missed == events[0].offset - 1 if events else missed <= gaps[0].missed
        assert events[len(events) - len(fresh) :] == fresh
        assert given(log, cursor, epoch, kind="nothing.such")[0] == gaps


def test_both_primaries_gave_out_the_offset_that_the_reader_saw_last(world: World) -> None:
    """It looks like a plain continuation to whoever compares offsets alone."""
    seen_log = world.open()
    seen_log.append_many([{"kind": "kept"}] * 5)
    log = other_primary(world, seen_log)
    world.pass_time(0.001)
    log.append_many([{"kind": "other"}] * 4)
    world.pass_time(0.001)
    cursor = seen_log.append_many([{"kind": "seen"}] * 4)[-1]
    assert log.page(cursor).gap == Gap(9, 1, 9, "rollback")
    world.pass_time(0.001)
    fresh = log.append("fresh")
    page = log.page(cursor)
    assert (page.gap, page.events) == (Gap(9, 1, 9, "rollback"), [fresh])
    assert log.page(page.cursor, epoch=page.epoch).gap is None


def torn(world: World) -> tuple[Colour, list[str], list[int]]:
    """A log that gave out offsets 4 and 5 twice, as after a start that applied half of an append; ids and offsets."""
    if not isinstance(world, RedisWorld):
        pytest.skip("memory loads no file")
    log = world.open()
    first = log.append_many([{"kind": "a", "run_id": "r"}] * 5)
    world.client.hset(f"{world.key_prefix}:{{w}}:meta", "offset", 3)
    world.pass_time(0.001)
    again = log.append_many([{"kind": "a", "run_id": "r"}] * 4)
    return log, [event.id for event in first + again], [1, 2, 3, 4, 5, 4, 5, 6, 7]


def test_a_reader_that_meets_an_offset_that_falls_is_told_and_given_all_that_is_there(world: World) -> None:
    log, ids, offsets = torn(world)
    for filters in ({}, {"kind": "a"}, {"run_id": "r"}):
        for since, expected in ((None, ids), (0, ids), (ids[1], ids[2:]), (ids[4], ids[5:])):
            gaps, events = given(log, since, None, **filters)
            assert [event.id for event in events] == expected, (filters, since)
            assert gaps == [Gap(0, 4, 3, "rollback")], (filters, since)
    assert [event.offset for event in log.query()] == offsets
    assert [event.id for event in log.replay("r")] == ids
    assert not log.verify().clean


def test_a_follower_that_meets_an_offset_that_falls_is_told(world: World) -> None:
    log, ids, _ = torn(world)
    gaps = Gaps()
    with Reading(log.follow(0, on_gap=gaps)) as reading:
        eventually(lambda: len(reading.events) == len(ids), "all are given")
    assert [event.id for event in reading.events] == ids
    assert list(gaps) == [Gap(0, 4, 3, "rollback")]

"""Eviction by count and by age, clearing, what stays behind, and how retention is changed."""

import logging
from typing import Any

import pytest

from eventlog.errors import InvalidInput
from tests.contract.colours import Colour
from tests.contract.worlds import RedisWorld, World


def test_the_log_keeps_exactly_max_entries(world: World) -> None:
    log = world.open(max_entries=7)
    for n in range(1, 30):
        log.append("a", {"n": n})
        events = log.query()
        assert [event.offset for event in events] == list(range(max(1, n - 6), n + 1))
    assert log.info().length == 7
    assert log.info().trimmed == 22


def test_a_batch_over_max_entries_leaves_its_newest(world: World) -> None:
    log = world.open(max_entries=5)
    log.append("old")
    events = log.append_many([{"kind": "a", "run_id": "r"}] * 12)
    assert log.query() == events[-5:]
    assert log.query(run_id="r") == events[-5:]
    assert log.verify().clean


def test_expired_events_are_never_returned_even_on_an_idle_log(world: World) -> None:
    log = world.open(ttl_seconds=40)
    old = log.append("a", run_id="r")
    assert log.query() == [old]
    world.pass_time(40)
    assert log.query() == []
    assert log.query(run_id="r") == []
    assert log.page(0).events == []
    assert log.page(order="desc").events == []
    assert log.info().length == 0


def test_what_has_expired_goes_and_what_has_not_stays(world: World) -> None:
    log = world.open(ttl_seconds=60)
    log.append_many([{"kind": "old", "run_id": "r"}] * 3)
    world.pass_time(35)
    young = log.append_many([{"kind": "young", "run_id": "r"}] * 2)
    world.pass_time(35)
    assert log.query() == young
    assert log.query(run_id="r") == young
    assert [event.seq for event in young] == [4, 5]
    assert log.page().events == young
    assert log.page(order="desc").events == young[::-1]
    assert log.verify().clean


def test_offsets_and_epoch_go_on_after_all_has_expired(world: World) -> None:
    log = world.open(ttl_seconds=30)
    log.append_many([{"kind": "a"}] * 3)
    epoch = log.info().epoch
    world.pass_time(50)
    info = log.info()
    assert (info.length, info.first_id, info.last_offset, info.trimmed) == (0, None, 3, 3)
    assert log.append("b").offset == 4
    assert log.info().epoch == epoch


def test_clear_empties_the_log_and_keeps_the_counters(log: Colour) -> None:
    events = log.append_many([{"kind": "a", "run_id": "r"}] * 5)
    epoch = log.info().epoch
    assert log.clear() == 5
    assert log.query() == log.query(run_id="r") == []
    info = log.info()
    assert (info.length, info.first_id, info.last_id, info.last_offset) == (0, None, events[-1].id, 5)
    assert info.epoch == epoch
    assert log.clear() == 0
    assert log.append("b").offset == 6
    assert log.verify().clean


def test_clear_counts_only_what_was_visible(world: World) -> None:
    log = world.open(max_entries=4, ttl_seconds=50)
    assert log.clear() == 0
    log.append_many([{"kind": "a"}] * 9)
    assert log.clear() == 4
    log.append_many([{"kind": "a"}] * 3)
    world.pass_time(50)
    log.append("b")
    assert log.clear() == 1


@pytest.mark.parametrize("how", ["age", "count", "clear"])
def test_a_run_begins_anew_when_all_its_events_are_gone(world: World, how: str) -> None:
    log = world.open(ttl_seconds=40, max_entries=3)
    assert log.append_many([{"kind": "a", "run_id": "r"}] * 2)[-1].seq == 2
    if how == "age":
        world.pass_time(60)
    elif how == "count":
        log.append_many([{"kind": "other"}] * 3)
    else:
        log.clear()
    begun = log.append("a", run_id="r")
    assert begun.seq == 1
    assert log.query(run_id="r") == [begun]
    assert log.verify().clean


def test_a_run_goes_on_while_one_of_its_events_is_left(world: World) -> None:
    log = world.open(max_entries=3)
    log.append("a", run_id="r")
    log.append_many([{"kind": "other"}] * 2)
    assert log.append("a", run_id="r", lane_id="x").seq == 1
    log.append_many([{"kind": "other"}] * 2)
    assert log.append("a", run_id="r").seq == 2


def test_a_run_that_leaves_the_log_in_the_middle_of_a_batch_begins_anew(world: World) -> None:
    log = world.open(max_entries=2)
    batch = [{"kind": "a", "run_id": "r"}, *[{"kind": "b"}] * 3, {"kind": "c", "run_id": "r"}]
    assert [event.seq for event in log.append_many(batch)] == [1, None, None, None, 1]
    assert [event.kind for event in log.query(run_id="r")] == ["c"]
    assert log.verify().clean


@pytest.mark.parametrize("ttl", [0, -5, float("nan"), float("inf"), 1e12])
@pytest.mark.parametrize("entries", [0, -1, 10**15])
def test_retention_that_makes_no_sense_falls_back_with_a_warning(
    world: World, caplog: pytest.LogCaptureFixture, ttl: float, entries: int
) -> None:
    with caplog.at_level(logging.WARNING, "eventlog"):
        log = world.open(ttl_seconds=ttl, max_entries=entries, idempotency_window_seconds=-1)
    said = caplog.text
    assert f"ttl_seconds: {float(ttl)!r} is not from 0.001 to 31622400; the default 3600 counts" in said
    assert f"max_entries: {entries} is not from 1 to 100000000; the default 10000 counts" in said
    assert "idempotency_window_seconds: -1.0 is not from 0.001 to 31622400; the default 600 counts" in said
    event = log.append("a", idempotency_key="k")
    assert log.query() == [event]
    assert log.append("a", idempotency_key="k").duplicate
    info = log.info()
    assert (info.ttl_seconds, info.max_entries) == (3600.0, 10_000)


def kept(log: Colour) -> tuple[float, int]:
    info = log.info()
    return info.ttl_seconds, info.max_entries


def test_retention_is_changed_on_purpose_and_holds_at_once(world: World) -> None:
    log = world.open(max_entries=8, ttl_seconds=100)
    events = log.append_many([{"kind": "a", "run_id": "r"}] * 10)
    info = log.set_retention(max_entries=3)
    assert (info.ttl_seconds, info.max_entries, info.length) == (100, 3, 3)
    assert log.query() == log.query(run_id="r") == events[-3:]
    log.set_retention(ttl_seconds=7200.5, max_entries=20)
    assert kept(log) == (7200.5, 20)
    events = events[-3:] + log.append_many([{"kind": "b", "run_id": "r"}] * 9)
    assert log.query()[-10:] == events[-10:]
    log.clear()
    assert kept(log) == (7200.5, 20)
    assert log.verify().clean


def test_a_log_that_is_to_keep_its_events_longer_keeps_its_runs_too(world: World) -> None:
    log = world.open(ttl_seconds=100)
    events = log.append_many([{"kind": "a", "run_id": f"r{n}"} for n in range(5)])
    log.set_retention(ttl_seconds=1000)
    world.pass_time(500)
    assert log.query() == events
    assert [run.run_id for run in log.runs().runs] == ["r4", "r3", "r2", "r1", "r0"]
    assert log.replay("r2") == events[2:3]
    assert log.verify().clean
    log.set_retention(ttl_seconds=400)
    assert log.query() == []
    assert log.runs().runs == []


@pytest.mark.parametrize(
    ("field", "asked"),
    [
        ("ttl_seconds", {}),
        *(("ttl_seconds", {"ttl_seconds": wrong}) for wrong in (0, -1, 1e12, float("nan"), True, "60")),
        *(("max_entries", {"max_entries": wrong}) for wrong in (0, -1, 10**9, 1.5, False, "7")),
    ],
)
def test_a_change_of_retention_that_makes_no_sense_changes_nothing(world: World, field: str, asked: Any) -> None:
    log = world.open(max_entries=8)
    with pytest.raises(InvalidInput) as refused:
        log.set_retention(**asked)
    assert refused.value.field == field
    assert kept(log) == (3600, 8)


def test_a_log_keeps_its_retention_whoever_opens_it(redis_world: RedisWorld, caplog: pytest.LogCaptureFixture) -> None:
    first = redis_world.open(max_entries=50, ttl_seconds=600)
    events = first.append_many([{"kind": "a", "run_id": "r"}] * 40)
    with caplog.at_level(logging.WARNING, "eventlog"):
        other = redis_world.open(max_entries=5, ttl_seconds=20)
        events += other.append_many([{"kind": "b", "run_id": "r"}] * 5)
        events.append(other.append("c"))
        assert other.query() == first.query() == events
    assert kept(first) == kept(other) == (600, 50)
    (said,) = caplog.messages
    assert all(part in said for part in ("600", "50", "20", "5", "set_retention", "eventlog log retention"))
    other.set_retention(max_entries=30)
    events.append(first.append("d"))
    assert first.query() == events[-30:]
    assert kept(first) == (600, 30)


def test_who_only_has_the_defaults_is_not_warned(redis_world: RedisWorld, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "eventlog"):
        redis_world.open(max_entries=50).append("a")
        usual = redis_world.open()
        usual.append("b")
        assert kept(usual) == (3600, 50)
    assert not caplog.records


def test_a_log_without_events_keeps_the_retention_that_it_was_given(redis_world: RedisWorld) -> None:
    redis_world.open().set_retention(max_entries=3)
    log = redis_world.open(ttl_seconds=50)
    events = log.append_many([{"kind": "a"}] * 9)
    assert log.query() == events[-3:]
    assert kept(log) == (3600, 3)


def test_a_log_that_was_lost_begins_anew_with_what_its_opener_asks_for(redis_world: RedisWorld) -> None:
    log = redis_world.open(max_entries=50)
    log.append("a")
    log.set_retention(max_entries=3)
    redis_world.wipe(log)
    log.append("b")
    assert kept(log) == (3600, 50)


def test_the_expiry_of_every_run_is_moved_however_many_there_are(redis_world: RedisWorld) -> None:
    log = redis_world.open(ttl_seconds=100)
    log.append_many([{"kind": "a", "run_id": f"r{n}"} for n in range(2001)])
    log.set_retention(ttl_seconds=10_000)
    ends = [redis_world.client.pttl(key) for key in redis_world.stored_keys() if ":run:" in key or ":index:" in key]
    assert len(ends) == 4002
    assert min(ends) > 9_000_000

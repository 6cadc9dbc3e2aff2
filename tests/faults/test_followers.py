"""Followers of a log that is wiped, trimmed, or goes back: they are told what they missed, and see the rest once."""

import os
import signal
from typing import Any

import pytest

from eventlog import Event, Gap
from eventlog.log.blocking import EventLog
from tests.faults.opening import open_log
from tests.faults.workers import Worker
from tests.support.redis_process import RedisProcess, eventually


def items(follower: Any, until_offset: int) -> list[Event | Gap]:
    """What a follower is given, up to an event of that offset."""
    found: list[Event | Gap] = []

    def arrived() -> bool:
        found.extend(follower.step(block_s=0.2))
        return any(isinstance(item, Event) and item.offset == until_offset for item in found)

    eventually(arrived, f"offset {until_offset} arrives")
    return found


def fill(log: EventLog, count: int, kind: str = "x") -> None:
    for at in range(0, count, 500):
        log.append_many([{"kind": kind, "payload": {"n": n}} for n in range(at, min(at + 500, count))])


def test_a_frozen_follower_is_told_exactly_what_was_trimmed_meanwhile(own_server: RedisProcess) -> None:
    with (
        open_log(own_server.url, max_entries=1000) as log,
        Worker(style="follow", url=own_server.url, since=0, until_offset=8000) as reader,
    ):
        fill(log, 100)
        eventually(lambda: len(list(reader.of("got"))) == 100, "the follower has caught up")
        os.kill(reader.process.pid, signal.SIGSTOP)
        fill(log, 7899)
        first = log.page(since=0).events[0].offset
        os.kill(reader.process.pid, signal.SIGCONT)
        log.append("last", {"n": 0})
        reader.finish()
    offsets = [offset for offset, _, _ in reader.of("got")]
    assert offsets == sorted(set(offsets))
    gaps = list(reader.of("gap"))
    missed = sum(gap[0] for gap in gaps)
    assert all(gap[3] == "trimmed" and gap[0] == gap[2] - gap[1] + 1 for gap in gaps)
    assert len(offsets) + missed == 8000, "every offset was seen or told as missed"
    told = {offset for gap in gaps for offset in range(gap[1], gap[2] + 1)}
    assert told.isdisjoint(offsets)
    assert missed >= first - 101 - 1000, "no event that was resident was skipped"
    assert set(range(first + 1, 8001)) <= set(offsets), "everything still resident arrives"


@pytest.mark.chaos
@pytest.mark.timeout(120)
def test_followers_of_a_log_wiped_under_load_are_told_and_see_each_new_log_from_its_first_event(
    own_server: RedisProcess,
) -> None:
    """Offsets between two `reset`s are an unbroken stretch that begins where the gap says."""
    with (
        Worker(style="follow", url=own_server.url, since=0, until_offset=10**9) as reader,
        Worker(style="single", url=own_server.url, name="a", count=10**6) as one,
        Worker(style="tasks", url=own_server.url, name="b", count=10**6) as many,
        own_server.client() as redis,
    ):
        reader.until("got")
        for _ in range(10):
            for _ in range(150):
                one.until("acked")
            redis.flushall()
        for _ in range(150):
            one.until("acked")
        one.kill()
        many.kill()
        with open_log(own_server.url) as log:
            last = log.info().last_offset
            log.append("last", {"n": -1})
        eventually(lambda: [last + 1, "last", -1] in list(reader.of("got")), "the follower has caught up")
        reader.kill()
    resets = 0
    expected = 1
    for line in reader.lines:
        if line[0] == "gap":
            _, missed, from_offset, to_offset, reason = line
            if reason == "reset":
                resets += 1
                assert (from_offset, to_offset) == (1, missed)
                expected = missed + 1
            else:
                pytest.fail(f"told {line}")
        elif line[0] == "got":
            assert line[1] == expected
            expected += 1
    assert 1 <= resets <= 10


def test_a_follower_hears_of_a_wiped_log_though_the_new_ids_are_older(own_server: RedisProcess) -> None:
    """As where the clock was set back: a blocking read from the old position alone would stay silent for ever."""
    with open_log(own_server.url) as log, own_server.client() as redis:
        fill(log, 3)
        with log.follow(since=0) as follower:
            assert len(items(follower, 3)) == 3
            ahead = int(follower.cursor.split("-")[0]) + 3_600_000
            redis.hset("eventlog:{w1}:meta", "ms", ahead)
            log.append("ahead")
            items(follower, 4)
            redis.flushall()
            log.append("new")
            assert items(follower, 1)[0] == Gap(0, 1, 0, "reset")


def test_a_follower_of_a_log_that_went_back_hears_of_it_though_nothing_is_newer(own_server: RedisProcess) -> None:
    with open_log(own_server.url) as log:
        fill(log, 3)
        own_server.stop()
        backup = own_server.save_data()
        own_server.start()
        fill(log, 5)
        with log.follow(since=0) as follower:
            assert len(items(follower, 8)) == 8
            own_server.stop()
            own_server.restore_data(backup)
            own_server.start()
            found: list[Event | Gap] = []

            def told() -> bool:
                found.extend(follower.step(block_s=0.2))
                return bool(found)

            eventually(told, "it is told")
            assert [(item.missed, item.reason) for item in found if isinstance(item, Gap)] == [(3, "rollback")]
            assert len(found) == 1, "what it had seen already is not shown again"
            assert log.append("new").offset == 4
            assert [item.offset for item in items(follower, 4) if isinstance(item, Event)] == [4]

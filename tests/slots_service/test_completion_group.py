"""The consumer group under the listeners: what dies, restarts, is trimmed or wiped costs no release, or is told."""

import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis

from eventlog import create_event_log
from eventlog.enforcement.completed import COMPLETED, GROUP, CompletionWork
from eventlog.enforcement.completion import CompletionListener
from eventlog.log.blocking import EventLog
from eventlog.log.consumer_group import GroupConsumer
from eventlog.log.protocol import Delivery
from eventlog.log.redis import RedisBackend
from eventlog.plan.drive import run
from eventlog.store.keys import WorkspaceKeys
from eventlog.store.links import SyncLink
from tests.support.redis_process import RedisProcess, eventually


class Group:
    """Consumers of one group, moved by hand; what a test leaves out a dead process would not have done."""

    def __init__(self, server: RedisProcess, key_prefix: str) -> None:
        self.log = create_event_log("redis", url=server.url, workspace="w", key_prefix=key_prefix, max_entries=500)
        self.keys = WorkspaceKeys.of("w", key_prefix)
        self.link = SyncLink(server.url, 1)
        self.client = redis.Redis.from_url(server.url, decode_responses=True)

    def consumer(self, take_over_s: float = 60.0) -> GroupConsumer:
        return GroupConsumer(self.keys, GROUP, COMPLETED, take_over_s=take_over_s, deadline_s=5.0)

    def take(self, consumer: GroupConsumer) -> Delivery:
        return run(consumer.take(), self.link.execute)

    def executions(self, consumer: GroupConsumer) -> list[str]:
        """Take, act upon and acknowledge with the next call."""
        taken = self.take(consumer)
        consumer.done(taken.events)
        return [event.payload["execution_id"] for event in taken.events]

    def complete(self, *executions: str) -> None:
        self.log.append_many({"kind": COMPLETED, "payload": {"execution_id": name}} for name in executions)

    def noise(self, count: int) -> None:
        self.log.append_many([{"kind": "noise"}] * count)

    def pending(self) -> int:
        return int(self.client.xpending(self.keys.log, GROUP)["pending"])

    def consumers(self) -> int:
        return len(self.client.xinfo_consumers(self.keys.log, GROUP))

    def close(self) -> None:
        self.log.close()
        self.link.close()
        self.client.close()


@pytest.fixture
def group(redis_server: RedisProcess, key_prefix: str) -> Iterator[Group]:
    group = Group(redis_server, key_prefix)
    yield group
    group.close()


def test_each_event_is_given_to_one_consumer_and_others_are_passed_over(group: Group) -> None:
    one, other = group.consumer(), group.consumer()
    group.complete("e1")
    group.noise(3)
    group.complete("e2")
    assert group.executions(one) == ["e1", "e2"]
    assert group.executions(other) == []
    group.complete("e3")
    assert group.executions(other) == ["e3"]
    assert group.executions(one) == []


def test_only_events_of_the_kind_are_pending_until_they_are_done(group: Group) -> None:
    consumer = group.consumer()
    group.noise(5)
    group.complete("e1", "e2")
    taken = group.take(consumer)
    assert (len(taken.events), taken.looked_at, taken.lag, group.pending()) == (2, 7, 0, 2)
    consumer.done(taken.events[:1])
    assert [event.payload for event in group.take(consumer).events] == [{"execution_id": "e2"}]
    assert group.pending() == 1


def test_what_was_taken_and_not_done_is_given_again_to_the_same_consumer(group: Group) -> None:
    consumer = group.consumer()
    group.complete("e1")
    group.take(consumer)
    group.complete("e2")
    assert group.executions(consumer) == ["e1", "e2"]
    assert group.executions(consumer) == []


def test_what_a_dead_consumer_took_is_taken_over_after_a_while(group: Group) -> None:
    group.complete("e1", "e2")
    group.take(group.consumer())
    other = group.consumer(take_over_s=0.3)
    assert group.executions(other) == []
    eventually(lambda: group.executions(other) == ["e1", "e2"], "it is taken over")
    assert group.executions(other) == []
    assert group.pending() == 0


def test_who_leaves_acknowledges_what_is_done_and_leaves_the_rest_to_others(group: Group) -> None:
    leaver, other = group.consumer(), group.consumer(take_over_s=0.05)
    group.complete("e1", "e2")
    leaver.done(group.take(leaver).events[:1])
    run(leaver.leave(), group.link.execute)
    assert group.pending() == 1
    eventually(lambda: group.executions(other) == ["e2"], "the rest is taken over")
    group.take(other)
    run(leaver.leave(), group.link.execute)
    run(other.leave(), group.link.execute)
    assert group.consumers() == 0


def test_a_sweep_removes_only_consumers_of_long_ago(group: Group, monkeypatch: pytest.MonkeyPatch) -> None:
    idle, pending, alive = (group.consumer() for _ in range(3))
    group.noise(1)
    group.take(idle)
    group.complete("e1")
    group.take(pending)
    run(alive.sweep(), group.link.execute)
    assert group.consumers() == 2
    monkeypatch.setattr("eventlog.log.consumer_group._FORGET_CONSUMER_MS", 0)
    eventually(lambda: not run(alive.sweep(), group.link.execute) and group.consumers() == 1, "idle is gone")
    assert group.pending() == 1


def test_a_sweep_where_there_is_no_group_or_log_does_nothing(group: Group) -> None:
    run(group.consumer().sweep(), group.link.execute)
    group.noise(1)
    run(group.consumer().leave(), group.link.execute)
    assert group.client.xinfo_groups(group.keys.log) == []


def test_events_that_were_trimmed_before_anybody_looked_are_counted(group: Group) -> None:
    consumer = group.consumer()
    group.complete("e1")
    assert group.executions(consumer) == ["e1"]
    group.noise(2000)
    first = group.log.query(limit=1)[0].offset
    resident = int(group.client.xinfo_stream(group.keys.log)["first-entry"][0].partition("-")[2])
    assert 1 < resident <= first
    assert group.take(consumer).missed == resident - 2
    assert group.take(consumer).missed == 0


def test_pending_events_that_were_trimmed_are_counted_once(group: Group) -> None:
    mine, dead, heir = group.consumer(), group.consumer(), group.consumer(take_over_s=0.001)
    group.complete("e1", "e2")
    group.take(dead)
    group.complete("e3")
    group.take(mine)
    group.client.xdel(group.keys.log, *(event.id for event in group.log.query(kind=COMPLETED)))
    missed = 0

    def all_are_counted() -> bool:
        nonlocal missed
        missed += group.take(mine).missed + group.take(heir).missed
        return group.pending() == 0

    eventually(all_are_counted, "nothing is pending")
    assert missed == 3


def test_a_cleared_log_makes_the_group_again_where_it_stood_and_tells_what_went_unread(group: Group) -> None:
    consumer, other = group.consumer(), group.consumer()
    group.complete("e1")
    assert group.executions(consumer) == ["e1"]
    group.noise(4)
    group.log.clear()
    assert group.take(consumer).missed == 4
    assert group.take(other).missed == 0
    group.noise(2)
    group.log.clear()
    group.complete("e2")
    taken = group.take(other)
    assert (taken.missed, len(taken.events), taken.began_anew) == (2, 1, False)
    assert group.take(consumer).missed == 0


def test_a_group_that_is_new_in_an_old_log_has_missed_nothing(group: Group) -> None:
    group.noise(2000)
    taken = group.take(group.consumer())
    assert (taken.missed, taken.began_anew, taken.lag) == (0, False, 500 + _over(group) - taken.looked_at)
    assert taken.more


def _over(group: Group) -> int:
    return int(group.client.xlen(group.keys.log)) - 500


def test_a_group_that_began_before_the_log_misses_what_was_trimmed(group: Group) -> None:
    consumer = group.consumer()
    assert group.take(consumer).missed == 0
    group.noise(2000)
    assert group.take(consumer).missed == 2000 - group.client.xlen(group.keys.log)


def test_a_log_that_was_lost_is_told_and_read_from_its_beginning(group: Group) -> None:
    consumer = group.consumer()
    group.complete("e1", "e2")
    assert group.executions(consumer) == ["e1", "e2"]
    group.client.delete(*group.client.scan_iter(match=f"{group.keys.log[:-3]}*", count=1000))
    assert not group.take(consumer).began_anew
    group.complete("e3")
    taken = group.take(consumer)
    assert (taken.began_anew, taken.missed, len(taken.events)) == (True, 0, 1)
    assert not group.take(consumer).began_anew


def test_a_lost_stream_alone_loses_its_events_and_they_are_counted(group: Group) -> None:
    consumer = group.consumer()
    group.complete("e1")
    group.executions(consumer)
    group.noise(3)
    group.client.delete(group.keys.log)
    taken = group.take(consumer)
    assert (taken.missed, taken.began_anew, taken.lag) == (3, False, 0)


def test_the_log_stays_sound_and_no_key_stays_for_ever(group: Group) -> None:
    consumer = group.consumer()
    group.complete("e1")
    group.executions(consumer)
    group.log.clear()
    group.complete("e2")
    group.executions(consumer)
    assert group.log.verify().clean
    assert 0 < group.client.pttl(group.keys.group + GROUP) <= 7 * 86_400_000
    assert group.client.pttl(group.keys.log) > 0


def test_taking_from_a_log_that_does_not_exist_makes_none(group: Group) -> None:
    assert group.take(group.consumer()).events == []
    run(group.consumer().leave(), group.link.execute)
    assert list(group.client.scan_iter(match=f"{group.keys.log[:-3]}*", count=1000)) == []


def test_scripts_that_were_flushed_are_loaded_again(redis_server: RedisProcess) -> None:
    with RedisProcess() as server:
        group = Group(server, "p")
        consumer = group.consumer()
        group.complete("e1")
        assert group.executions(consumer) == ["e1"]
        group.client.script_flush()
        group.complete("e2")
        assert group.executions(consumer) == ["e2"]
        group.client.script_flush()
        run(consumer.leave(), group.link.execute)
        group.close()


# Listeners over it


def opened(server: RedisProcess, **options: Any) -> EventLog:
    return create_event_log("redis", url=server.url, workspace="w", key_prefix="p", **options)


def counted(listener: CompletionListener, **counts: int) -> Callable[[], bool]:
    return lambda: all(getattr(listener.stats(), name) == count for name, count in counts.items())


def test_a_release_that_fails_is_made_again_before_the_event_is_acknowledged(
    redis_server: RedisProcess, key_prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    failures = iter([True, True, False])
    real = CompletionWork._perform

    def failing(self: CompletionWork, *args: Any) -> Any:
        if next(failures, False):
            raise RuntimeError("made up")
        return real(self, *args)

    monkeypatch.setattr(CompletionWork, "_perform", failing)
    log = create_event_log("redis", url=redis_server.url, workspace="w", key_prefix=key_prefix)
    with log, CompletionListener(log) as listener:
        log.slots().enqueue("build", "e1")
        log.append(COMPLETED, {"execution_id": "e1"})
        eventually(counted(listener, released=1), "it is released in the end")
        assert listener.stats().seen == 1


def test_redis_restarted_with_its_data_costs_nothing(caplog: pytest.LogCaptureFixture) -> None:
    with RedisProcess(appendfsync="always") as server, opened(server) as log, CompletionListener(log) as listener:
        slots = log.slots()
        for n in range(4):
            slots.enqueue("build", f"e{n}", max_concurrent=1)
        log.append(COMPLETED, {"execution_id": "e0"})
        eventually(counted(listener, released=1), "released")
        server.kill()
        server.start()
        log.append(COMPLETED, {"execution_id": "e1"})
        eventually(counted(listener, released=2), "released after the crash")
        server.restart()
        log.append(COMPLETED, {"execution_id": "e2"})
        eventually(counted(listener, released=3, missed=0), "released after the restart")
        assert slots.state("build", "e3").state == "granted"
    assert "gone before they were read" not in caplog.text


def test_redis_restarted_empty_is_told_and_the_work_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    with RedisProcess(appendonly=False) as server, opened(server) as log, CompletionListener(log) as listener:
        log.slots().enqueue("build", "e1")
        log.append(COMPLETED, {"execution_id": "e1"})
        eventually(counted(listener, released=1), "released")
        server.restart()
        log.slots().enqueue("build", "e2")
        log.append(COMPLETED, {"execution_id": "e2"})
        eventually(counted(listener, released=2), "released in the new log")
    assert "the log was lost and began anew" in caplog.text


def test_a_gap_is_told_with_its_count(
    redis_server: RedisProcess, key_prefix: str, caplog: pytest.LogCaptureFixture
) -> None:
    log = create_event_log("redis", url=redis_server.url, workspace="w", key_prefix=key_prefix)
    with log:
        listener = CompletionListener(log)
        log.append(COMPLETED, {"execution_id": "e1"})
        with listener:
            eventually(counted(listener, seen=1), "seen")
        log.append_many([{"kind": "noise"}] * 7)
        log.clear()
        with listener:
            eventually(counted(listener, missed=7), "missed")
    assert "completions of w: 7 events were gone before they were read" in caplog.text


def test_a_listener_outlives_a_redis_that_is_away_for_a_while(caplog: pytest.LogCaptureFixture) -> None:
    with RedisProcess() as server, opened(server, deadline_seconds=0.5) as log, CompletionListener(log) as listener:
        log.slots().enqueue("build", "e1")
        server.stop()
        eventually(lambda: "wait for Redis" in caplog.text, "it is told")
        server.start()
        log.append(COMPLETED, {"execution_id": "e1"})
        eventually(counted(listener, released=1), "released")


def test_a_stopped_listener_leaves_no_consumer_and_no_connection(redis_server: RedisProcess, key_prefix: str) -> None:
    log = create_event_log("redis", url=redis_server.url, workspace="w", key_prefix=key_prefix)
    with log, redis.Redis.from_url(redis_server.url) as client:
        log.slots().enqueue("build", "e1")
        before = len(client.client_list())
        with CompletionListener(log) as listener:
            log.append(COMPLETED, {"execution_id": "e1"})
            eventually(counted(listener, released=1), "released")
            backend = log.core.backend
            assert isinstance(backend, RedisBackend)
            assert len(client.xinfo_consumers(backend.keys.log, GROUP)) == 1
        assert client.xinfo_consumers(backend.keys.log, GROUP) == []
        assert client.xpending(backend.keys.log, GROUP)["pending"] == 0
        eventually(lambda: len(client.client_list()) <= before, "its connection is closed")


def test_a_group_has_a_name_that_can_be_one(redis_server: RedisProcess, key_prefix: str) -> None:
    log = create_event_log("redis", url=redis_server.url, workspace="w", key_prefix=key_prefix)
    with log, pytest.raises(ValueError, match="group"):
        CompletionListener(log, group=f"{uuid.uuid4()} {{}}")

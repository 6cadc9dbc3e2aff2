"""What can only be seen by looking into a real Redis: keys that go by themselves, the cost of reads, damage found."""

from collections.abc import Iterator
from typing import Any

import pytest

from eventlog import EventLogError
from eventlog.store.keys import WorkspaceKeys
from tests.contract.colours import Colour
from tests.contract.worlds import RedisWorld
from tests.support.redis_process import eventually


@pytest.fixture
def log(redis_world: RedisWorld) -> Colour:
    return redis_world.open()


@pytest.fixture
def keys(redis_world: RedisWorld) -> WorkspaceKeys:
    return WorkspaceKeys.of("w", redis_world.key_prefix)


def busy(log: Colour) -> None:
    log.append_many([{"kind": "a", "run_id": f"r{n}", "idempotency_key": f"k{n}"} for n in range(5)])
    log.append_many([{"kind": "b", "run_id": "r1"}] * 3, idempotency_key="batch")
    log.append("c", expected_offset=8)


def test_all_keys_of_an_idle_workspace_go_by_themselves_but_the_counters(
    redis_world: RedisWorld, keys: WorkspaceKeys
) -> None:
    log = redis_world.open(ttl_seconds=0.4, idempotency_window_seconds=0.4)
    busy(log)
    epoch = log.info().epoch
    before = redis_world.stored_keys()
    assert {keys.log, keys.meta, keys.runs, keys.run + "r1", keys.run_index + "r1", keys.idem + "k1"} <= set(before)

    def left() -> set[str]:
        return {key for key in redis_world.stored_keys() if not key.startswith(keys.writer)}

    eventually(lambda: left() == {keys.meta}, "Redis freed all but the counters")
    writers = [key for key in redis_world.stored_keys() if key.startswith(keys.writer)]
    assert all(0 < redis_world.client.pttl(key) <= 600_000 for key in writers)
    event = log.append("d", run_id="r1")
    assert (event.offset, event.seq, log.info().epoch) == (10, 1, epoch)
    assert log.verify().clean


@pytest.mark.parametrize("begin", ["new", "cleared", "expired", "log key lost"])
def test_every_key_has_an_expiry_whatever_came_before(redis_world: RedisWorld, keys: WorkspaceKeys, begin: str) -> None:
    log = redis_world.open(ttl_seconds=3600 if begin != "expired" else 0.3)
    if begin != "new":
        busy(log)
    if begin == "cleared":
        log.clear()
    elif begin == "expired":
        redis_world.pass_time(0.7)
    elif begin == "log key lost":
        log.clear()
        log.append("a")
        log.clear()
    log.append("again")
    log.append("again", run_id="r1", idempotency_key="new")
    for key in redis_world.stored_keys():
        expiry = redis_world.client.pttl(key)
        assert expiry > (400 * 86_400_000 if key == keys.meta else 0), f"{key} would stay for ever, or not for long"


def test_reading_one_run_costs_in_proportion_to_the_run(redis_world: RedisWorld) -> None:
    log = redis_world.open()
    log.append("mine", run_id="r")
    for _ in range(8):
        log.append_many([{"kind": "noise", "run_id": "other"}] * 500)
    log.append_many([{"kind": "mine", "run_id": "r"}] * 4)
    small = commands_of(redis_world, lambda: log.query(run_id="r"))
    for _ in range(8):
        log.append_many([{"kind": "noise", "run_id": "other"}] * 500)
    assert len(log.query(run_id="r")) == 5
    assert commands_of(redis_world, lambda: log.query(run_id="r")) == small
    assert small <= 5 + 8, "one look at each event of the run, and a few for the ends of the log"


def commands_of(world: RedisWorld, call: object) -> int:
    """How many times a stream was read for `call`, by Redis' own count."""

    def count() -> int:
        stats = world.client.info("commandstats")
        return sum(int(stats.get(f"cmdstat_{name}", {"calls": 0})["calls"]) for name in ("xrange", "xrevrange"))

    before = count()
    assert callable(call)
    call()
    return count() - before


def test_a_page_scans_a_bounded_number_of_events(redis_world: RedisWorld) -> None:
    log = redis_world.open()
    for _ in range(8):
        log.append_many([{"kind": "noise"}] * 1_000)
    assert commands_of(redis_world, lambda: log.page(kind="nothing.such")) <= 40
    page = log.page(kind="nothing.such")
    assert 1_000 <= int(page.cursor.split("-")[1]) <= 3_000


@pytest.mark.parametrize("offset", [10**14 - 2, 10**15, 2**53 - 40])
def test_huge_offsets_are_written_as_integers(redis_world: RedisWorld, keys: WorkspaceKeys, offset: int) -> None:
    log = redis_world.open(max_entries=8)
    log.append("first")
    epoch = log.info().epoch
    log.clear()
    redis_world.client.hset(keys.meta, mapping={"offset": str(offset), "cleared": str(offset)})
    events = [log.append("a", run_id="r", idempotency_key=f"k{n}") for n in range(4)]
    events += log.append_many([{"kind": "a", "run_id": "r"}] * 4, expected_offset=offset + 4)
    assert [event.offset for event in events] == list(range(offset + 1, offset + 9))
    assert log.query() == log.query(run_id="r") == events
    assert log.query(offset + 2) == events[2:]
    assert log.query(until=offset + 3) == events[:2]
    assert log.append("a", idempotency_key="k1").offset == offset + 2
    assert log.page(events[0]).gap is None
    assert log.verify().problems == []
    meta = redis_world.client.hgetall(keys.meta)
    assert meta["offset"] == str(offset + 8)
    assert log.info().epoch == epoch
    assert log.clear() == 8
    assert log.append("b").offset == offset + 9


def test_scripts_that_redis_forgot_are_loaded_again(redis_world: RedisWorld) -> None:
    log = redis_world.open()
    calls = (lambda: log.append("a"), log.query, lambda: log.append_many([{"kind": "a"}] * 2), log.verify, log.clear)
    for call in (*calls, *calls):
        redis_world.client.script_flush()
        call()
    assert log.info().last_offset == 6


def test_counters_that_were_lost_alone_are_taken_from_the_log(redis_world: RedisWorld, keys: WorkspaceKeys) -> None:
    log = redis_world.open()
    events = log.append_many([{"kind": "a", "run_id": "r"}] * 5)
    redis_world.client.delete(keys.meta)
    events.append(log.append("b", run_id="r"))
    assert [event.offset for event in events] == [1, 2, 3, 4, 5, 6]
    assert log.query() == events
    assert log.verify().problems == []


def damages(world: RedisWorld, keys: WorkspaceKeys, ids: list[str]) -> Iterator[tuple[str, object]]:
    client = world.client
    yield "an entry is missing in the middle", lambda: client.xdel(keys.log, ids[4])
    yield "the last entry is missing", lambda: client.xdel(keys.log, ids[-1])
    yield "the counters run ahead", lambda: client.hset(keys.meta, "offset", "99")
    yield "the counters lag behind", lambda: client.hset(keys.meta, "offset", "8")
    yield "the index of a run is gone", lambda: client.delete(keys.run_index + "r0")
    yield "the index of a run lacks an event", lambda: client.xdel(keys.run_index + "r1", ids[4])
    yield "the index of a run has a stray", lambda: client.xadd(keys.run_index + "r1", {"main": "99"}, ids[-1])
    yield (
        "an entry was added by hand",
        lambda: client.xadd(keys.log, {"kind": "x"}, "9999999999999-50"),
    )


@pytest.mark.parametrize("number", range(8))
def test_damage_is_found(redis_world: RedisWorld, keys: WorkspaceKeys, number: int) -> None:
    log = redis_world.open()
    events = log.append_many([{"kind": "a", "run_id": f"r{n % 3}"} for n in range(10)])
    assert log.verify().clean
    what, damage = list(damages(redis_world, keys, [event.id for event in events]))[number]
    assert callable(damage)
    damage()
    assert log.verify().problems, what


@pytest.mark.parametrize("came_back", [1, 3, 700])
@pytest.mark.parametrize("wanted", [{}, {"run_id": "r"}, {"kind": "a"}])
def test_offsets_that_fall_are_a_rollback_to_readers_and_can_be_repaired(
    redis_world: RedisWorld, keys: WorkspaceKeys, came_back: int, wanted: dict[str, Any]
) -> None:
    """What a torn append-only file leaves behind: part of a batch, and then the events that were appended instead."""
    log, client = redis_world.open(), redis_world.client
    before = log.append_many([{"kind": "a", "run_id": "r"}] * 3)
    ms = int(before[-1].timestamp * 1000)
    half = [f"{ms}-{offset}" for offset in range(4, 4 + came_back)]
    for offset, event_id in enumerate(half, 4):
        client.xadd(keys.log, {"kind": "a", "payload": "{}", "run_id": "r", "lane_id": "main", "seq": offset}, event_id)
        client.xadd(keys.run_index + "r", {"main": offset}, event_id)
    eventually(lambda: client.time()[0] * 1000 + client.time()[1] // 1000 > ms, "the clock has moved on")
    after = log.append_many([{"kind": "a", "run_id": "r"}] * 2)
    assert [event.offset for event in after] == [4, 5]

    seen, gaps, cursor, at_end = [], [], "0", False
    while not at_end:
        page = log.page(cursor, limit=1000, **wanted)
        seen += [event.id for event in page.events]
        gaps += [page.gap.reason] if page.gap else []
        cursor, at_end = page.cursor, page.at_end
    assert seen == [event.id for event in before] + half + [event.id for event in after]
    assert gaps == ["rollback"]

    assert any("already given out" in problem for problem in log.verify().problems)
    audit = log.verify(repair=True)
    assert (audit.removed, audit.problems) == (came_back, [])
    assert log.query() == log.query(**wanted) == before + after


def test_a_key_of_another_type_is_an_error_and_not_a_loss(redis_world: RedisWorld, keys: WorkspaceKeys) -> None:
    redis_world.client.set(keys.log, "something else")
    log = redis_world.open()
    with pytest.raises(EventLogError, match="WRONGTYPE"):
        log.append("a")
    assert redis_world.client.get(keys.log) == "something else"


def test_any_client_may_read_the_stream(redis_world: RedisWorld, keys: WorkspaceKeys, log: Colour) -> None:
    event = log.append("a", {"x": []}, run_id="r", lane_id="l", visibility="private", idempotency_key="k")
    entries: Any = redis_world.client.xrange(keys.log)
    ((entry_id, fields),) = entries
    assert entry_id == event.id
    assert fields == {
        "kind": "a",
        "payload": '{"x":[]}',
        "run_id": "r",
        "lane_id": "l",
        "visibility": "private",
        "seq": "1",
    }

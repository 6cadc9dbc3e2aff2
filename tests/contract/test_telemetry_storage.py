"""What can only be seen by looking into a real Redis: what is stored of telemetry, and that it goes by itself."""

import json
from typing import Any

import pytest

from eventlog import create_event_log
from eventlog.store.keys import TelemetryKeys, WorkspaceKeys
from eventlog.telemetry.sampler import sample_run
from tests.contract.colours import Colour
from tests.contract.worlds import RedisWorld
from tests.support.redis_process import eventually

SAMPLE: dict[str, Any] = {"host": {"rss_bytes": 1}}


@pytest.fixture
def log(redis_world: RedisWorld) -> Colour:
    log = redis_world.open()
    log.append("run.started", run_id="r")
    return log


@pytest.fixture
def keys(redis_world: RedisWorld) -> TelemetryKeys:
    return WorkspaceKeys.of("w", redis_world.key_prefix).telemetry("r")


def test_a_sample_is_stored_as_the_layout_says(log: Colour, redis_world: RedisWorld, keys: TelemetryKeys) -> None:
    (sample, _) = log.push_telemetry("r", [{**SAMPLE, "stage_name": "build", "source": "me"}, {"guest": {}}])
    entries = redis_world.client.xrange(keys.samples)
    assert [entry_id for entry_id, _ in entries] == [f"{seq}-{round(sample.timestamp * 1000)}" for seq in (1, 2)]
    first, second = (fields for _, fields in entries)
    assert list(first) == ["stage_name", "sample"]
    assert json.loads(first["sample"]) == {"source": "me", **SAMPLE}
    assert second == {"sample": '{"guest":{}}'}
    ring = redis_world.client.hgetall(keys.ring)
    assert abs(int(ring.pop("aged")) - sample.timestamp * 1000 - 3_600_000) < 20_000
    assert ring == {"seq": "2", "capacity": "5000", "grace": "300000", "cleared": "0", "begun": "1"}


def test_every_key_has_an_expiry(log: Colour, redis_world: RedisWorld, keys: TelemetryKeys) -> None:
    log.push_telemetry("r", [SAMPLE], idempotency_key="k", capacity=5)
    log.push_telemetry("r", [SAMPLE])
    log.push_telemetry("r", [SAMPLE], capacity=0)
    log.push_telemetry("r", [SAMPLE], capacity=5)
    mine = [key for key in redis_world.stored_keys() if "run:r/" in key]
    assert {keys.ring, keys.samples, keys.push + "key:k"} <= set(mine)
    for key in mine:
        assert 0 < redis_world.client.pttl(key) <= 3_600_000, key


def test_the_end_of_the_run_brings_the_expiry_forward_and_never_back(
    log: Colour, redis_world: RedisWorld, keys: TelemetryKeys
) -> None:
    def both_are_between(least_ms: int, most_ms: int) -> bool:
        return all(least_ms < redis_world.client.pttl(key) <= most_ms for key in (keys.ring, keys.samples))

    log.push_telemetry("r", [SAMPLE])
    assert both_are_between(3_500_000, 3_600_000)
    log.append("run.finished", run_id="r")
    assert both_are_between(250_000, 300_000)
    for key in (keys.ring, keys.samples):
        redis_world.client.pexpire(key, 100_000)
    log.append("not.the.end", run_id="r")
    assert both_are_between(250_000, 300_000)
    aged_ms = int(redis_world.client.hget(keys.ring, "aged"))
    redis_world.client.hset(keys.ring, "aged", str(aged_ms - 3_550_000))
    log.append_many([{"kind": "run.finished", "run_id": "r"}] * 3)
    assert both_are_between(0, 50_000)


def test_a_run_that_begins_anew_has_no_end_to_be_freed_by(redis_world: RedisWorld, keys: TelemetryKeys) -> None:
    log = redis_world.open(max_entries=2)
    log.append_many([{"kind": "run.started", "run_id": "r"}, {"kind": "run.finished", "run_id": "r"}])
    log.push_telemetry("r", [SAMPLE])
    log.append_many([{"kind": "other"}] * 3)
    log.append("run.started", run_id="r")
    assert redis_world.client.pttl(keys.ring) <= 300_000
    assert [one.seq for one in log.push_telemetry("r", [SAMPLE])] == [2]
    assert min(redis_world.client.pttl(key) for key in (keys.ring, keys.samples)) > 3_500_000
    assert redis_world.client.hget(keys.ring, "until") is None


@pytest.mark.waits
def test_all_goes_by_itself_with_no_process_of_ours_running(redis_world: RedisWorld) -> None:
    log = redis_world.open(ttl_seconds=0.4, idempotency_window_seconds=0.4)
    log.append_many([{"kind": "run.started", "run_id": run} for run in ("r", "s")])
    log.push_telemetry("r", [SAMPLE], idempotency_key="k")
    log.push_telemetry("s", [SAMPLE], idempotency_key="k")
    log.append("run.finished", run_id="s")
    log.shut()
    eventually(lambda: not [key for key in redis_world.stored_keys() if ":run:" in key], "Redis freed it all")


def test_clear_frees_the_rings_at_once(log: Colour, redis_world: RedisWorld, keys: TelemetryKeys) -> None:
    log.push_telemetry("r", [SAMPLE])
    log.clear()
    assert not {keys.ring, keys.samples} & set(redis_world.stored_keys())


def test_without_telemetry_not_a_byte_is_written(log: Colour, redis_world: RedisWorld) -> None:
    off = redis_world.open(telemetry_samples=0)
    before = _written(redis_world)
    assert off.push_telemetry("r", [SAMPLE] * 5) == []
    assert off.push_telemetry("r", []) == []
    assert off.telemetry("r").samples == []
    assert _written(redis_world) == before
    assert not [key for key in redis_world.stored_keys() if "/" in key]


def _written(world: RedisWorld) -> dict[str, int]:
    """How often each command that writes was carried out, by Redis' own count."""
    stats = world.client.info("commandstats")
    reads = {"eval", "evalsha", "time", "get", "hget", "hmget", "xrange", "info", "scan", "ping", "client|setinfo"}
    return {name: of["calls"] for name, of in stats.items() if name.removeprefix("cmdstat_") not in reads}


def test_a_sampler_of_a_log_without_telemetry_sends_nothing_at_all(redis_world: RedisWorld) -> None:
    options: dict[str, Any] = {"url": redis_world.url, "key_prefix": redis_world.key_prefix, "telemetry_samples": 0}
    with create_event_log("redis", **options) as off:
        before = redis_world.client.info("stats")["total_connections_received"]
        with sample_run(off, "r", interval_s=0.01) as sampler:
            assert not sampler.running
        assert redis_world.client.info("stats")["total_connections_received"] == before


def test_what_is_left_of_half_a_ring_does_no_harm(log: Colour, redis_world: RedisWorld, keys: TelemetryKeys) -> None:
    log.push_telemetry("r", [SAMPLE] * 5)
    redis_world.client.delete(keys.samples)
    page = log.telemetry("r")
    assert (page.samples, page.missed, page.next_seq) == ([], 5, 5)
    assert [one.seq for one in log.push_telemetry("r", [SAMPLE] * 2)] == [6, 7]
    redis_world.client.delete(keys.ring)
    assert (log.telemetry("r").samples, log.telemetry("r").missed) == ([], 7)
    assert [one.seq for one in log.push_telemetry("r", [SAMPLE])] == [8]
    assert [one.seq for one in log.telemetry("r").samples] == [8]


@pytest.mark.parametrize("seq", [10**14 - 2, 10**15, 2**53 - 40])
def test_huge_seqs_are_written_as_integers(log: Colour, redis_world: RedisWorld, keys: TelemetryKeys, seq: int) -> None:
    log.push_telemetry("r", [SAMPLE], capacity=3)
    redis_world.client.hset(keys.ring, "seq", str(seq))
    assert [one.seq for one in log.push_telemetry("r", [SAMPLE] * 4)] == list(range(seq + 1, seq + 5))
    page = log.telemetry("r", from_seq=seq)
    assert ([one.seq for one in page.samples], page.missed) == ([seq + 2, seq + 3, seq + 4], 1)
    assert page.next_seq == seq + 4


def test_scripts_that_redis_forgot_are_loaded_again(log: Colour, redis_world: RedisWorld) -> None:
    redis_world.client.script_flush()
    assert [one.seq for one in log.push_telemetry("r", [SAMPLE])] == [1]
    redis_world.client.script_flush()
    assert len(log.telemetry("r").samples) == 1


def test_a_look_for_a_rare_stage_scans_a_bounded_stretch_at_a_time(log: Colour, redis_world: RedisWorld) -> None:
    for _ in range(10):
        log.push_telemetry("r", [SAMPLE] * 500)
    log.push_telemetry("r", [{**SAMPLE, "stage_name": "rare"}], capacity=10_000)
    before = _calls(redis_world)
    page = log.telemetry("r", stage_name="rare", limit=1)
    after = _calls(redis_world)
    assert ([one.seq for one in page.samples], page.next_seq) == ([5001], 5001)
    # 5001 samples in steps of 250, at most eight steps and one look at the oldest a call.
    assert 3 <= after["evalsha"] - before["evalsha"] <= 4
    assert after["xrange"] - before["xrange"] <= 21 + 4


def _calls(world: RedisWorld) -> dict[str, int]:
    stats = world.client.info("commandstats")
    return {name: stats.get(f"cmdstat_{name}", {"calls": 0})["calls"] for name in ("evalsha", "xrange")}

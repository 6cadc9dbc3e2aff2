"""Replies that are lost, requests that come late, a Redis that goes away: no sample is there twice, none is made up."""

import itertools
import threading
import time
from collections.abc import Iterator

import pytest

from eventlog import create_event_log
from eventlog.errors import BackendUnavailable, NotFound
from eventlog.log.blocking import EventLog
from eventlog.telemetry.sample import Sample
from eventlog.telemetry.sampler import TelemetrySampler
from tests.faults.opening import open_log
from tests.faults.proxy import CUTS, ChaosProxy, Fault
from tests.support.redis_process import RedisProcess, eventually


def guests(*numbers: int) -> list[dict[str, object]]:
    return [{"guest": {"n": number}} for number in numbers]


def seen(samples: list[Sample]) -> list[int]:
    return [sample.guest["n"] for sample in samples if sample.guest]


@pytest.fixture
def log(proxy: ChaosProxy) -> Iterator[EventLog]:
    with open_log(proxy.url) as log:
        log.append("run.started", run_id="r")
        yield log


def late(server: RedisProcess, proxy: ChaosProxy) -> None:
    """Let the requests that were kept back reach Redis, and wait until it has carried them out."""
    with server.client() as redis:
        before, kept = _script_calls(redis), proxy.held
        assert kept > 0
        proxy.release()
        eventually(lambda: _script_calls(redis) >= before + kept, "the late requests were carried out")


def _script_calls(redis: object) -> int:
    stats = redis.info("commandstats")  # type: ignore[attr-defined]
    return sum(stats.get(f"cmdstat_{name}", {}).get("calls", 0) for name in ("eval", "evalsha"))


@pytest.mark.parametrize("faults", list(itertools.product(CUTS, CUTS)), ids=lambda fs: "+".join(f.name for f in fs))
def test_any_two_faults_in_a_row_add_each_sample_once(
    log: EventLog, proxy: ChaosProxy, faults: tuple[Fault, ...]
) -> None:
    proxy.plan(*faults)
    first = log.push_telemetry("r", guests(1, 2))
    assert [one.seq for one in first] == [1, 2]
    proxy.plan(*faults)
    keyed = log.push_telemetry("r", guests(3), idempotency_key="k")
    proxy.plan(*faults)
    assert log.push_telemetry("r", guests(3), idempotency_key="k") == keyed
    proxy.plan(*faults)
    assert [one.seq for one in log.push_telemetry("r", guests(*range(4, 104)), capacity=50)] == list(range(4, 104))
    proxy.plan(*faults)
    page = log.telemetry("r", from_seq=1)
    assert (seen(page.samples), page.missed, page.next_seq) == (list(range(54, 104)), 52, 103)
    proxy.plan(*faults)
    assert log.push_telemetry("r", guests(0), capacity=0) == []
    proxy.plan(*faults)
    with pytest.raises(NotFound):
        log.push_telemetry("nowhere", guests(1))
    assert log.telemetry("r").samples == []


def test_the_answer_to_a_lost_reply_is_what_was_stored(log: EventLog, proxy: ChaosProxy) -> None:
    proxy.plan(Fault.REPLY_LOST)
    pushed = log.push_telemetry("r", guests(1, 2))
    assert pushed == log.telemetry("r").samples
    proxy.plan(Fault.REPLY_LOST)
    first = log.push_telemetry("r", guests(3), idempotency_key="k")
    assert not first[0].duplicate, "only the log's own retry repeated it"
    proxy.plan(Fault.REPLY_LOST)
    again = log.push_telemetry("r", guests(4), idempotency_key="k")
    assert (again, again[0].duplicate) == (first, True)


def test_a_sample_is_as_old_as_it_is_at_the_try_that_is_carried_out(log: EventLog, proxy: ChaosProxy) -> None:
    before_s = log.info().time
    proxy.plan(*[Fault.REQUEST_LOST] * 5)
    pushed = log.push_telemetry("r", guests(1))
    assert log.info().time - before_s > 0.5, "it was tried for a while"
    assert pushed[0].timestamp - before_s < 0.3
    assert pushed == log.telemetry("r").samples


@pytest.mark.parametrize("capacity", [None, 5])
def test_a_push_that_arrives_after_its_retry_adds_nothing(
    own_server: RedisProcess, log: EventLog, proxy: ChaosProxy, capacity: int | None
) -> None:
    proxy.plan(Fault.HELD, Fault.HELD)
    log.push_telemetry("r", guests(1), capacity=capacity)
    log.push_telemetry("r", guests(2))
    late(own_server, proxy)
    assert seen(log.telemetry("r").samples) == [1, 2]
    assert [one.seq for one in log.push_telemetry("r", guests(3))] == [3]


def test_a_ring_that_was_freed_is_not_freed_again_by_a_late_copy(
    own_server: RedisProcess, log: EventLog, proxy: ChaosProxy
) -> None:
    log.push_telemetry("r", guests(1))
    proxy.plan(Fault.HELD)
    log.push_telemetry("r", [], capacity=0)
    log.push_telemetry("r", guests(2), capacity=5)
    late(own_server, proxy)
    assert seen(log.telemetry("r").samples) == [2]
    assert log.telemetry("r").capacity == 5


def test_a_push_during_a_long_outage_fails_in_time_and_is_repeated_safely_under_its_key(
    own_server: RedisProcess, proxy: ChaosProxy
) -> None:
    with open_log(proxy.url, deadline_s=0.5) as log:
        log.append("run.started", run_id="r")
        proxy.plan(*[Fault.REPLY_LOST] * 50)
        began_s = time.monotonic()
        with pytest.raises(BackendUnavailable) as failed:
            log.push_telemetry("r", guests(1), idempotency_key="k")
        assert failed.value.outcome_unknown
        assert time.monotonic() - began_s < 10
        proxy.calm()
        assert [one.seq for one in log.push_telemetry("r", guests(1), idempotency_key="k")] == [1]
        assert seen(log.telemetry("r").samples) == [1]


def test_a_sampler_loses_and_doubles_nothing_on_a_line_that_cuts_every_third_call(
    own_server: RedisProcess, log: EventLog, proxy: ChaosProxy
) -> None:
    taken = itertools.count()
    sampler = TelemetrySampler(
        log.push_telemetry, "r", interval_s=0.005, metrics=lambda: {"rss_bytes": next(taken)}, buffer=10_000
    )
    proxy.strike_at_random(7, 0.34, *CUTS)
    with sampler:
        eventually(lambda: sampler.stats().pushed >= 150, "samples get through", patience_s=60)
        proxy.calm()
    stats = sampler.stats()
    assert sum(proxy.struck[fault] for fault in CUTS) > 5
    assert (stats.dropped, stats.waiting) == (0, 0)
    samples = log.telemetry("r").samples
    assert [one.host["rss_bytes"] for one in samples if one.host] == list(range(stats.taken))
    assert [one.seq for one in samples] == list(range(1, stats.taken + 1))


def test_a_sampler_lives_through_a_redis_that_goes_away_and_keeps_the_newest(own_server: RedisProcess) -> None:
    taken = itertools.count()
    with open_log(own_server.url, deadline_s=0.3) as log:
        log.append("run.started", run_id="r")
        with TelemetrySampler(
            log.push_telemetry, "r", interval_s=0.01, metrics=lambda: {"rss_bytes": next(taken)}, buffer=40
        ) as sampler:
            eventually(lambda: sampler.stats().pushed >= 5, "samples arrive")
            own_server.kill()
            lost_at = sampler.stats().taken
            eventually(lambda: sampler.stats().dropped >= 20, "the oldest are dropped", patience_s=60)
            assert sampler.stats().waiting <= 40
            assert "Redis" in sampler.stats().problem
            own_server.start()
            back_at = sampler.stats().taken
            eventually(lambda: sampler.stats().waiting < 5, "it catches up", patience_s=60)
        samples = log.telemetry("r").samples
        numbers = [int(one.host["rss_bytes"]) for one in samples if one.host]
        assert numbers == sorted(set(numbers)), "none twice, and in order"
        assert [one.seq for one in samples] == list(range(1, len(samples) + 1))
        assert set(range(back_at, sampler.stats().taken)) <= set(numbers), "all that came after the outage"
        missing = [n for n in range(sampler.stats().taken) if n not in set(numbers)]
        assert len(missing) == sampler.stats().dropped
        assert missing[0] >= lost_at - 40
        # They are dated when they were taken, not when Redis was back.
        times = [one.timestamp for one in samples]
        assert all(later - earlier > -1 for earlier, later in itertools.pairwise(times)), "but for what a push takes"
        assert samples[-1].timestamp - samples[0].timestamp > 0.3


def test_samplers_of_two_logs_share_a_ring(own_server: RedisProcess) -> None:
    def sample(source: str) -> None:
        with create_event_log("redis", url=own_server.url, workspace="w1") as log:
            sampler = TelemetrySampler(
                log.push_telemetry, "r", interval_s=0.005, metrics=lambda: {"rss_bytes": 1}, source=source
            )
            with sampler:
                eventually(lambda: sampler.stats().pushed >= 40, "samples arrive", patience_s=60)
            counts[source] = sampler.stats().pushed

    counts: dict[str, int] = {}
    with open_log(own_server.url) as log:
        log.append("run.started", run_id="r")
        threads = [threading.Thread(target=sample, args=(name,)) for name in ("host", "node")]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(90)
        samples = log.telemetry("r").samples
        assert [one.seq for one in samples] == list(range(1, len(samples) + 1))
        assert {name: sum(one.source == name for one in samples) for name in ("host", "node")} == counts

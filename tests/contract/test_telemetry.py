"""The telemetry of a run: what is kept, read, evicted and freed, the same wherever the log lives."""

import logging
import threading
from typing import Any

import pytest

from eventlog.errors import InvalidInput, NotFound
from eventlog.telemetry.sample import Sample
from tests.contract.colours import Colour
from tests.contract.worlds import MemoryWorld, World


def guests(*numbers: int, **parts: Any) -> list[dict[str, Any]]:
    return [{"guest": {"n": number}, **parts} for number in numbers]


def seen(samples: list[Sample]) -> list[int]:
    return [sample.guest["n"] for sample in samples if sample.guest]


def seqs(samples: list[Sample]) -> list[int]:
    return [sample.seq for sample in samples]


@pytest.fixture
def run(log: Colour) -> Colour:
    """A log with a run `r`."""
    log.append("run.started", run_id="r")
    return log


def test_what_is_pushed_is_read_in_order_with_its_seq_and_time(run: Colour) -> None:
    host = {"rss_bytes": 5, "cpu_percent": 12.5, "io_read_bytes": 0, "io_write_bytes": 1}
    pushed = run.push_telemetry(
        "r", [{"stage_name": "build", "source": "node", "host": host, "guest": {"heap": [1, {}, []]}}, *guests(2)]
    )
    assert seqs(pushed) == [1, 2]
    assert seqs(run.push_telemetry("r", guests(3))) == [3]
    page = run.telemetry("r")
    assert page.samples[:2] == pushed
    assert (page.run_id, page.next_seq, page.missed, page.capacity) == ("r", 3, 0, 5000)
    first = page.samples[0]
    assert (first.stage_name, first.source, first.host, first.guest) == ("build", "node", host, {"heap": [1, {}, []]})
    assert abs(first.timestamp - run.info().time) < 20
    assert page.samples[1].to_dict().keys() == {"seq", "timestamp", "guest"}


def test_a_sample_that_was_taken_earlier_is_dated_back(run: Colour) -> None:
    old, new = run.push_telemetry("r", [*guests(1, age_ms=60_000), *guests(2)])
    assert new.timestamp - old.timestamp == pytest.approx(60)
    assert run.telemetry("r").samples == [old, new]


def test_reading_goes_on_from_next_seq(run: Colour) -> None:
    run.push_telemetry("r", guests(*range(10)))
    page = run.telemetry("r", limit=4)
    assert (seen(page.samples), page.next_seq) == ([0, 1, 2, 3], 4)
    page = run.telemetry("r", from_seq=page.next_seq)
    assert (seen(page.samples), page.next_seq) == ([4, 5, 6, 7, 8, 9], 10)
    page = run.telemetry("r", from_seq=10)
    assert (page.samples, page.next_seq, page.missed) == ([], 10, 0)
    page = run.telemetry("r", limit=0, from_seq=3)
    assert (page.samples, page.next_seq, page.missed) == ([], 3, 0)
    page = run.telemetry("r", from_seq=2**53 - 1)
    assert (page.samples, page.next_seq, page.missed) == ([], 2**53 - 1, 0)


def test_more_than_one_look_takes_is_read_all_the_same(run: Colour) -> None:
    for start in range(0, 3_000, 500):
        run.push_telemetry("r", guests(*range(start, start + 500), stage_name=f"s{start}"))
    page = run.telemetry("r")
    assert seen(page.samples) == list(range(3_000))
    assert page.next_seq == 3_000
    page = run.telemetry("r", limit=1_234, from_seq=700)
    assert seen(page.samples) == list(range(700, 1_934))
    page = run.telemetry("r", stage_name="s2500")
    assert seen(page.samples) == list(range(2_500, 3_000))
    page = run.telemetry("r", stage_name="s0", from_seq=499)
    assert (seen(page.samples), page.next_seq) == ([499], 3_000)


def test_a_stage_is_read_alone_and_next_seq_passes_over_the_others(run: Colour) -> None:
    for n in range(12):
        run.push_telemetry("r", guests(n, **({} if n % 4 == 3 else {"stage_name": f"s{n % 2}"})))
    page = run.telemetry("r", stage_name="s0")
    assert (seen(page.samples), page.next_seq) == ([0, 2, 4, 6, 8, 10], 12)
    page = run.telemetry("r", stage_name="s1", limit=2)
    assert (seen(page.samples), page.next_seq) == ([1, 5], 6)
    page = run.telemetry("r", stage_name="s1", from_seq=page.next_seq)
    assert (seen(page.samples), page.next_seq) == ([9], 12)
    page = run.telemetry("r", stage_name="nowhere", from_seq=3)
    assert (page.samples, page.next_seq) == ([], 12)


def test_a_stage_is_a_name_and_no_pattern(run: Colour) -> None:
    names = ["a b", "*", "é\u3042", "'", "sample", "stage_name"]
    for n, name in enumerate(names):
        run.push_telemetry("r", guests(n, stage_name=name))
    assert [seen(run.telemetry("r", stage_name=name).samples) for name in names] == [[n] for n in range(len(names))]


def test_over_its_capacity_a_ring_loses_the_oldest_and_says_how_many(world: World) -> None:
    log = world.open(telemetry_samples=5)
    log.append("run.started", run_id="r")
    for start in range(0, 12, 3):
        log.push_telemetry("r", guests(*range(start, start + 3)))
        assert len(log.telemetry("r").samples) == min(start + 3, 5)
    page = log.telemetry("r")
    assert (seqs(page.samples), page.missed, page.capacity, page.next_seq) == ([8, 9, 10, 11, 12], 7, 5, 12)
    assert [log.telemetry("r", from_seq=n).missed for n in (0, 3, 6, 7, 8, 12, 99)] == [7, 4, 1, 0, 0, 0, 0]
    page = log.telemetry("r", from_seq=3, limit=2)
    assert (seqs(page.samples), page.missed, page.next_seq) == ([8, 9], 4, 9)
    page = log.telemetry("r", limit=0)
    assert (page.samples, page.missed, page.next_seq) == ([], 7, 7)


def test_one_push_may_be_larger_than_the_ring(world: World) -> None:
    log = world.open(telemetry_samples=4)
    log.append("run.started", run_id="r")
    assert seqs(log.push_telemetry("r", guests(*range(500)))) == list(range(1, 501))
    page = log.telemetry("r")
    assert (seqs(page.samples), page.missed) == ([497, 498, 499, 500], 496)


def test_a_run_s_own_capacity_wins_and_the_last_one_given_counts(world: World) -> None:
    log = world.open(telemetry_samples=8)
    log.append_many([{"kind": "run.started", "run_id": run} for run in ("r", "other")])
    log.push_telemetry("r", guests(*range(20)), capacity=6)
    log.push_telemetry("r", guests(20))
    page = log.telemetry("r")
    assert (seen(page.samples), page.capacity) == ([15, 16, 17, 18, 19, 20], 6)
    log.push_telemetry("r", guests(21), capacity=3)
    assert seen(log.telemetry("r").samples) == [19, 20, 21]
    log.push_telemetry("r", [], capacity=2)
    page = log.telemetry("r")
    assert (seen(page.samples), page.missed, page.capacity) == ([20, 21], 20, 2)
    log.push_telemetry("r", guests(22, 23), capacity=10)
    assert (seen(log.telemetry("r").samples), log.telemetry("r").capacity) == ([20, 21, 22, 23], 10)
    log.push_telemetry("other", guests(*range(20)))
    assert log.telemetry("other").capacity == 8
    assert len(log.telemetry("other").samples) == 8


def test_a_capacity_may_be_given_before_the_first_sample(run: Colour) -> None:
    assert run.telemetry("r").capacity == 5000
    assert run.push_telemetry("r", [], capacity=2) == []
    run.push_telemetry("r", guests(1, 2, 3))
    page = run.telemetry("r")
    assert (seen(page.samples), page.capacity) == ([2, 3], 2)


def test_a_log_without_telemetry_keeps_nothing_but_what_a_run_was_given_is_its_own(world: World) -> None:
    log = world.open(telemetry_samples=0)
    log.append_many([{"kind": "run.started", "run_id": run} for run in ("r", "own")])
    assert log.push_telemetry("r", guests(1, 2)) == []
    page = log.telemetry("r")
    assert (page.samples, page.next_seq, page.missed, page.capacity) == ([], 0, 0, 0)
    assert seqs(log.push_telemetry("own", guests(1), capacity=2)) == [1]
    assert seqs(log.push_telemetry("own", guests(2))) == [2]
    assert log.telemetry("own").capacity == 2


def test_a_capacity_of_nothing_frees_the_ring_and_lasts_until_another_is_given(run: Colour) -> None:
    run.push_telemetry("r", guests(1, 2, 3), capacity=2)
    assert run.push_telemetry("r", guests(4), capacity=0) == []
    page = run.telemetry("r")
    assert (page.samples, page.missed, page.next_seq, page.capacity) == ([], 3, 3, 0)
    assert run.push_telemetry("r", guests(5)) == []
    run.append("run.goes.on", run_id="r")
    assert run.push_telemetry("r", guests(6)) == []
    page = run.telemetry("r")
    assert (page.samples, page.missed, page.capacity) == ([], 3, 0)
    assert seqs(run.push_telemetry("r", guests(7), capacity=9)) == [4]
    page = run.telemetry("r")
    assert (seen(page.samples), page.missed, page.capacity) == ([7], 3, 9)


def test_a_capacity_of_nothing_may_be_given_before_the_first_sample(run: Colour) -> None:
    assert run.push_telemetry("r", [], capacity=0) == []
    assert run.push_telemetry("r", guests(1)) == []
    assert run.telemetry("r").capacity == 0
    run.append("run.started", run_id="other")
    assert seqs(run.push_telemetry("other", guests(1))) == [1]


def test_a_run_s_own_capacity_outlives_its_ring_and_not_the_run(world: World) -> None:
    log = world.open(telemetry_grace_seconds=30)
    log.append("run.started", run_id="r")
    log.push_telemetry("r", guests(1), capacity=2)
    log.append("run.finished", run_id="r")
    world.pass_time(35)
    assert (log.telemetry("r").samples, log.telemetry("r").capacity) == ([], 2)
    log.append("again", run_id="r")
    assert seqs(log.push_telemetry("r", guests(2, 3, 4))) == [2, 3, 4]
    assert seen(log.telemetry("r").samples) == [3, 4]
    log.push_telemetry("r", [], capacity=0)
    log.clear()
    log.append("run.started", run_id="r")
    assert seqs(log.push_telemetry("r", guests(5))) == [1]
    assert log.telemetry("r").capacity == 5000


def test_a_run_that_is_not_known_is_not_found(log: Colour) -> None:
    log.append("run.started", run_id="other")
    for act in (
        lambda: log.telemetry("r"),
        lambda: log.push_telemetry("r", guests(1)),
        lambda: log.push_telemetry("r", [], capacity=5),
        lambda: log.push_telemetry("r", [], capacity=0),
        lambda: log.push_telemetry("r", []),
    ):
        with pytest.raises(NotFound, match="run r has neither"):
            act()
    log.append("run.started", run_id="r")
    assert log.push_telemetry("r", []) == []
    assert log.telemetry("r").samples == []


def test_a_run_is_known_by_its_ring_alone(world: World) -> None:
    log = world.open(max_entries=2)
    log.append("run.started", run_id="r")
    log.push_telemetry("r", guests(1))
    log.append_many([{"kind": "other"}] * 3)
    with pytest.raises(NotFound):
        log.run("r")
    assert seqs(log.push_telemetry("r", guests(2))) == [2]
    assert seen(log.telemetry("r").samples) == [1, 2]
    log.append("again", run_id="r")
    assert seqs(log.push_telemetry("r", guests(3))) == [3]


def test_a_ring_goes_when_nothing_came_for_the_age_limit_and_seqs_go_on_while_the_run_is_there(world: World) -> None:
    log = world.open(ttl_seconds=60)
    log.append("run.started", run_id="r")
    log.push_telemetry("r", guests(1, 2))
    world.pass_time(35)
    log.append("still.here", run_id="r")
    assert seen(log.telemetry("r").samples) == [1, 2]
    world.pass_time(30)
    page = log.telemetry("r")
    assert (page.samples, page.missed, page.next_seq) == ([], 2, 2)
    assert seqs(log.push_telemetry("r", guests(3))) == [3]
    world.pass_time(70)
    for act in (lambda: log.telemetry("r"), lambda: log.push_telemetry("r", guests(4))):
        with pytest.raises(NotFound):
            act()
    log.append("run.started", run_id="r")
    assert seqs(log.push_telemetry("r", guests(5))) == [1]


def test_each_sample_prolongs_the_ring_of_a_run_that_goes_on(world: World) -> None:
    log = world.open(ttl_seconds=60)
    log.append("run.started", run_id="r")
    for n in range(4):
        log.push_telemetry("r", guests(n))
        world.pass_time(30)
    assert seen(log.telemetry("r").samples) == [0, 1, 2, 3]


@pytest.mark.parametrize("kind", ["run.finished", "run.failed", "run.error", "run.cancelled"])
def test_samples_outlive_the_end_of_their_run_by_the_grace_and_late_ones_do_not_prolong_it(
    world: World, kind: str
) -> None:
    log = world.open(telemetry_grace_seconds=60)
    log.append("run.started", run_id="r")
    log.push_telemetry("r", guests(1))
    log.append_many([{"kind": "last.words", "run_id": "r"}, {"kind": kind, "run_id": "r"}])
    world.pass_time(35)
    assert seqs(log.push_telemetry("r", guests(2))) == [2]
    assert seen(log.telemetry("r").samples) == [1, 2]
    world.pass_time(30)
    page = log.telemetry("r")
    assert (page.samples, page.missed, page.next_seq) == ([], 2, 2)
    assert log.push_telemetry("r", guests(3)) == []
    assert log.push_telemetry("r", guests(3), capacity=9) == []
    page = log.telemetry("r")
    assert (page.samples, page.missed) == ([], 2)


def test_what_comes_after_the_end_of_a_run_keeps_its_samples_for_another_grace(world: World) -> None:
    log = world.open(telemetry_grace_seconds=120)
    log.append("run.started", run_id="r")
    log.push_telemetry("r", guests(1))
    log.append("run.failed", run_id="r")
    world.pass_time(70)
    log.append("other", run_id="another")
    log.append_many([{"kind": kind, "run_id": "r"} for kind in ("stage.started", "run.finished", "last.words")])
    world.pass_time(70)
    assert seen(log.telemetry("r").samples) == [1]
    assert seqs(log.push_telemetry("r", guests(2))) == [2]
    world.pass_time(60)
    assert log.telemetry("r").samples == []


def test_a_run_that_goes_on_long_after_its_end_keeps_samples_again(world: World) -> None:
    log = world.open(telemetry_grace_seconds=30)
    log.append("run.started", run_id="r")
    log.push_telemetry("r", guests(1))
    log.append("run.finished", run_id="r")
    world.pass_time(35)
    assert log.push_telemetry("r", guests(2)) == []
    log.append("stage.started", run_id="r")
    assert log.telemetry("r").samples == []
    assert seqs(log.push_telemetry("r", guests(3))) == [2]
    page = log.telemetry("r")
    assert (seen(page.samples), page.missed) == ([3], 1)
    world.pass_time(35)
    assert log.push_telemetry("r", guests(4)) == []
    assert log.telemetry("r").samples == []


def test_what_comes_after_the_end_does_not_keep_samples_beyond_their_age(world: World) -> None:
    log = world.open(ttl_seconds=50, telemetry_grace_seconds=100)
    log.append_many([{"kind": "run.started", "run_id": "r"}, {"kind": "run.finished", "run_id": "r"}])
    log.push_telemetry("r", guests(1))
    for _ in range(2):
        world.pass_time(30)
        log.append("after.the.end", run_id="r")
    assert (log.telemetry("r").samples, log.telemetry("r").missed) == ([], 1)


def test_the_first_sample_may_come_after_the_end(world: World) -> None:
    log = world.open(telemetry_grace_seconds=60)
    log.append_many([{"kind": "run.started", "run_id": "r"}, {"kind": "run.finished", "run_id": "r"}])
    world.pass_time(35)
    assert seqs(log.push_telemetry("r", guests(1))) == [1]
    world.pass_time(30)
    assert log.telemetry("r").samples == []
    assert log.push_telemetry("r", guests(2)) == []
    log.append_many([{"kind": "run.started", "run_id": "s"}, {"kind": "run.finished", "run_id": "s"}])
    world.pass_time(65)
    assert log.push_telemetry("s", guests(1)) == []
    page = log.telemetry("s")
    assert (page.samples, page.missed, page.next_seq) == ([], 0, 0)


def test_a_grace_does_not_keep_a_ring_beyond_the_age_limit(world: World) -> None:
    log = world.open(ttl_seconds=50, telemetry_grace_seconds=100)
    log.append("run.started", run_id="r")
    log.push_telemetry("r", guests(1))
    world.pass_time(30)
    log.append("run.finished", run_id="r")
    world.pass_time(30)
    assert (log.telemetry("r").samples, log.telemetry("r").missed) == ([], 1)


def test_without_a_grace_samples_go_with_the_end(world: World) -> None:
    log = world.open(telemetry_grace_seconds=0)
    log.append("run.started", run_id="r")
    log.push_telemetry("r", guests(1))
    log.append("run.finished", run_id="r")
    world.pass_time(0.002)  # the first event of a log is dated a millisecond ahead
    assert log.telemetry("r").samples == []
    assert log.push_telemetry("r", guests(2)) == []


def test_the_end_of_one_run_is_not_that_of_another(world: World) -> None:
    log = world.open(telemetry_grace_seconds=0)
    log.append_many([{"kind": "run.started", "run_id": run} for run in ("r", "r.2", "r-ring")])
    for run_id in ("r", "r.2", "r-ring"):
        log.push_telemetry(run_id, guests(1))
    log.append("run.finished", run_id="r")
    world.pass_time(0.002)
    assert [len(log.telemetry(run_id).samples) for run_id in ("r", "r.2", "r-ring")] == [0, 1, 1]


def test_clear_frees_every_ring_and_a_run_begins_anew(world: World) -> None:
    log = world.open(max_entries=3)
    log.append_many([{"kind": "run.started", "run_id": run} for run in ("gone", "r")])
    for run_id in ("gone", "r"):
        log.push_telemetry(run_id, guests(1, 2), capacity=1)
    log.append_many([{"kind": "other"}] * 2)
    log.clear()
    for run_id in ("gone", "r"):
        for act in (log.telemetry, lambda run_id: log.push_telemetry(run_id, guests(3))):
            with pytest.raises(NotFound):
                act(run_id)
    log.append_many([{"kind": "run.started", "run_id": run} for run in ("gone", "r")])
    for run_id in ("gone", "r"):
        page = log.telemetry(run_id)
        assert (page.samples, page.missed, page.capacity) == ([], 0, 5000)
        assert seqs(log.push_telemetry(run_id, guests(3, 4))) == [1, 2]
        assert seen(log.telemetry(run_id).samples) == [3, 4]


def test_a_push_that_is_repeated_under_its_key_is_answered_as_the_first_was(run: Colour) -> None:
    first = run.push_telemetry("r", guests(1, 2), idempotency_key="k")
    run.push_telemetry("r", guests(3))
    assert not any(sample.duplicate for sample in first)
    for again in (guests(1, 2), guests(1, 2, age_ms=100, stage_name="new"), guests(9, 9, 9), []):
        repeated = run.push_telemetry("r", again, idempotency_key="k")
        assert repeated == first
        assert all(sample.duplicate for sample in repeated)
    assert not any(sample.duplicate for sample in run.telemetry("r").samples)
    assert seen(run.telemetry("r").samples) == [1, 2, 3]
    run.append("run.started", run_id="other")
    assert seqs(run.push_telemetry("other", guests(5), idempotency_key="k")) == [1]
    assert seqs(run.push_telemetry("r", guests(6), idempotency_key="key:k")) == [4]


def test_of_what_was_evicted_since_a_repetition_knows_the_places_and_the_time_of_the_push(world: World) -> None:
    log = world.open()
    log.append("run.started", run_id="r")
    pushed = log.push_telemetry("r", guests(1, 2, 3, stage_name="s"), idempotency_key="k", capacity=4)
    log.push_telemetry("r", guests(4, 5, 6))
    world.pass_time(0.01)
    *gone, left = log.push_telemetry("r", guests(1), idempotency_key="k")
    assert left == pushed[2]
    assert [(one.seq, one.timestamp) for one in gone] == [(one.seq, one.timestamp) for one in pushed[:2]]
    assert {(one.host is None, one.guest is None, one.stage_name, one.duplicate) for one in gone} == {
        (True, True, None, True)
    }
    log.clear()
    log.append("run.started", run_id="r")
    log.push_telemetry("r", guests(7, 8, 9))
    again = log.push_telemetry("r", guests(1), idempotency_key="k")
    assert (seqs(again), seen(again)) == ([1, 2, 3], []), "the seqs are those of other samples by now"


def test_a_capacity_of_nothing_is_given_once_under_a_key(run: Colour) -> None:
    for _ in range(2):
        assert run.push_telemetry("r", [], idempotency_key="k", capacity=0) == []
        run.push_telemetry("r", [], capacity=5)
        assert run.telemetry("r").capacity == 5
    assert run.push_telemetry("r", [], idempotency_key="k", capacity=0) == []
    assert run.telemetry("r").capacity == 5


def test_a_key_is_remembered_for_its_window_and_not_where_nothing_was_kept(world: World) -> None:
    log = world.open(idempotency_window_seconds=40)
    with pytest.raises(NotFound):
        log.push_telemetry("r", guests(1), idempotency_key="k")
    log.append("run.started", run_id="r")
    assert seqs(log.push_telemetry("r", guests(1), idempotency_key="k")) == [1]
    assert seqs(log.push_telemetry("r", guests(1), idempotency_key="k")) == [1]
    world.pass_time(50)
    assert seqs(log.push_telemetry("r", guests(1), idempotency_key="k")) == [2]


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"from_seq": -1}, "from_seq"),
        ({"from_seq": "abc"}, "from_seq"),
        ({"from_seq": True}, "from_seq"),
        ({"from_seq": 2**53}, "from_seq"),
        ({"from_seq": 1.5}, "from_seq"),
        ({"limit": -1}, "limit"),
        ({"limit": "5"}, "limit"),
        ({"stage_name": ""}, "stage_name"),
        ({"stage_name": 5}, "stage_name"),
        ({"run_id": "a/b"}, "run_id"),
        ({"run_id": None}, "run_id"),
    ],
)
def test_a_reading_that_makes_no_sense_is_refused_by_field(run: Colour, given: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        run.telemetry(**{"run_id": "r", **given})
    assert refused.value.field == field


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"run_id": "r/ring"}, "run_id"),
        ({"run_id": ""}, "run_id"),
        ({"capacity": -1}, "capacity"),
        ({"capacity": 1_000_001}, "capacity"),
        ({"capacity": 10**5000}, "capacity"),
        ({"capacity": True}, "capacity"),
        ({"capacity": "5"}, "capacity"),
        ({"idempotency_key": ""}, "idempotency_key"),
        ({"idempotency_key": 5}, "idempotency_key"),
        ({"samples": {}}, "samples"),
        ({"samples": [*guests(1), {"host": {"rss_bytes": -1}}]}, "samples[1].host.rss_bytes"),
        ({"samples": [*guests(1), {"guest": {"chain_of_thought": "first, …"}}]}, "samples[1].guest.chain_of_thought"),
    ],
)
def test_a_push_that_makes_no_sense_is_refused_by_field_and_adds_nothing(
    run: Colour, given: dict[str, Any], field: str
) -> None:
    with pytest.raises(InvalidInput) as refused:
        run.push_telemetry(**{"run_id": "r", "samples": guests(1), **given})
    assert refused.value.field == field
    assert run.telemetry("r").next_seq == 0


@pytest.mark.waits
def test_many_threads_push_into_one_ring_and_no_seq_is_given_twice(run: Colour) -> None:
    given: list[int] = []

    def push(worker: int) -> None:
        for n in range(20):
            given.extend(seqs(run.push_telemetry("r", guests(worker * 100 + n, worker * 100 + n))))

    threads = [threading.Thread(target=push, args=(worker,)) for worker in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(given) == list(range(1, 321))
    page = run.telemetry("r")
    assert seqs(page.samples) == list(range(1, 321))
    for worker in range(8):
        mine = [n for n in seen(page.samples) if n // 100 == worker]
        assert mine == sorted(mine), "each thread's own samples are in its order"


def test_a_disabled_log_keeps_no_telemetry_and_misses_no_run() -> None:
    log = MemoryWorld("sync").open(backend="disabled")
    assert log.push_telemetry("r", guests(1)) == []
    assert log.telemetry("r", from_seq=4).to_dict() == {
        "run_id": "r",
        "samples": [],
        "next_seq": 4,
        "missed": 0,
        "capacity": 0,
    }


def test_settings_that_make_no_sense_fall_back_with_a_warning(world: World, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "eventlog"):
        log = world.open(telemetry_samples=-5, telemetry_grace_seconds=-1)
    log.append("run.started", run_id="r")
    assert log.telemetry("r").capacity == 5000
    assert {"telemetry_samples", "telemetry_grace_seconds"} <= {r.args[0] for r in caplog.records if r.args}  # type: ignore[index]

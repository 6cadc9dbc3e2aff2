"""What a log says of itself: info, and a clean audit."""

from dataclasses import replace

from tests.contract.colours import Colour
from tests.contract.worlds import World


def test_info_of_a_log_that_never_was(log: Colour) -> None:
    info = log.info()
    assert (info.epoch, info.length, info.first_id, info.last_id, info.last_offset, info.trimmed, info.bytes) == (
        *(None, 0, None, None, 0, 0),
        info.bytes,
    )
    assert info.bytes in (0, None)


def test_info_tells_the_state_of_the_log(world: World) -> None:
    log = world.open(max_entries=4, ttl_seconds=100, workspace="my.workspace-1")
    events = log.append_many([{"kind": "a", "payload": {"x": "y" * 1000}}] * 6)
    info = log.info()
    assert info.workspace == "my.workspace-1"
    assert info.backend == log.backend
    assert (info.length, info.trimmed, info.last_offset) == (4, 2, 6)
    assert (info.first_id, info.last_id) == (events[2].id, events[5].id)
    assert (info.ttl_seconds, info.max_entries) == (100.0, 4)
    assert info.bytes is not None
    assert 4_000 < info.bytes < 40_000
    assert events[-1].timestamp - 0.01 <= info.time <= events[-1].timestamp + 10
    assert info.to_dict()["retention"] == {"ttl_seconds": 100.0, "max_entries": 4}


def test_an_idle_log_says_the_same_twice(log: Colour) -> None:
    log.append_many([{"kind": "a"}] * 3)
    assert replace(log.info(), time=0.0) == replace(log.info(), time=0.0)


def test_a_sound_log_is_clean_at_every_age(world: World) -> None:
    log = world.open(max_entries=150, ttl_seconds=60)
    assert log.verify().clean
    for n in range(12):
        log.append_many([{"kind": "a", "run_id": f"r{(n + i) % 5}", "lane_id": f"l{i % 2}"} for i in range(40)])
        log.append("outside")
        audit = log.verify()
        assert audit.problems == []
        assert audit.events == min(150, 41 * (n + 1))
        assert audit.runs == 5
    world.pass_time(60)
    audit = log.verify()
    assert (audit.problems, audit.events) == ([], 0)
    log.append("a", run_id="r0")
    log.clear()
    assert log.verify().clean

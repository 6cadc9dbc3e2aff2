"""Dispatchers whose sink is a log of ours: in memory, on Redis, and behind a server."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.client.worlds import HttpWorld
from tests.contract.colours import AsyncColour, Colour
from tests.contract.worlds import World
from tests.support.dispatchers import Tasks, Threads
from tests.support.redis_process import RedisProcess


@pytest.fixture(params=["sync", "async"])
def http_world(request: pytest.FixtureRequest, redis_server: RedisProcess, key_prefix: str) -> Iterator[HttpWorld]:
    here = HttpWorld(request.param, redis_server.url, key_prefix)
    yield here
    here.close()


def dispatching_to(log: Any, **options: Any) -> Threads | Tasks:
    """A dispatcher of the log's colour, on the log's loop if it has one."""
    if isinstance(log, AsyncColour):
        return Tasks(log.log, loop=log, **options)
    return Threads(log.log, **options)


def events_arrive(log: Colour) -> None:
    dispatching = dispatching_to(log)
    dispatching.dispatch("run.started", {"n": 1}, "r1")
    dispatching.dispatch("tool.invoked", None, "r1")
    dispatching.dispatch("note", {"text": "ä"}, "not a run's id")
    dispatching.dispatch("run.finished", {"n": 3}, "r1")
    assert dispatching.shutdown()
    events = log.query()
    assert [(event.kind, event.payload, event.run_id, event.seq) for event in events] == [
        ("run.started", {"n": 1}, "r1", 1),
        ("tool.invoked", {}, "r1", 2),
        ("note", {"text": "ä", "operation_id": "not a run's id"}, None, None),
        ("run.finished", {"n": 3}, "r1", 3),
    ]
    assert dispatching.stats().delivered == 4


def what_is_refused_costs_only_itself(log: Colour) -> None:
    dispatching = dispatching_to(log, inflight_oversubscription=100)
    for n in range(20):
        dispatching.dispatch("a", {"n": n})
    dispatching.dispatch("no kind at all")
    dispatching.dispatch("a", {"n": float("nan")})
    dispatching.dispatch("a", {"n": "x" * 100_000})
    dispatching.dispatch("a", ["no", "object"])
    dispatching.dispatch("a", {"chain_of_thought": "hidden"})
    dispatching.dispatch("b", {"n": 20})
    assert dispatching.shutdown()
    stats = dispatching.stats()
    assert [event.payload["n"] for event in log.query()] == list(range(21))
    assert (stats.delivered, stats.failed) == (21, 5)


def test_events_arrive_as_kind_payload_and_run_in_the_order_of_dispatch(world: World) -> None:
    events_arrive(world.open())


def test_events_arrive_through_a_server_too(http_world: HttpWorld) -> None:
    events_arrive(http_world.open())


def test_an_event_that_the_log_refuses_costs_only_itself(world: World) -> None:
    what_is_refused_costs_only_itself(world.open())


def test_an_event_that_a_server_refuses_costs_only_itself(http_world: HttpWorld) -> None:
    what_is_refused_costs_only_itself(http_world.open())


def a_burst_arrives(log: Colour) -> None:
    dispatching = dispatching_to(log)
    for n in range(3_000):
        dispatching.dispatch("a", {"n": n})
    assert dispatching.shutdown(timeout_s=60)
    assert dispatching.stats().dropped_total == 0
    assert [event.payload["n"] for event in log.query()] == list(range(3_000))


def test_a_burst_of_thousands_has_room_before_a_log(world: World) -> None:
    a_burst_arrives(world.open())


def test_a_burst_of_thousands_has_room_before_a_server(http_world: HttpWorld) -> None:
    a_burst_arrives(http_world.open())


def ten_thousand_arrive(log: Colour, count: int) -> None:
    dispatching = dispatching_to(log, inflight_oversubscription=100_000)

    def work(thread: int) -> None:
        for n in range(count // 8):
            dispatching.dispatch("a", {"n": n}, f"r{thread}")

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    assert dispatching.shutdown(timeout_s=60)
    stats = dispatching.stats()
    assert (stats.dispatched, stats.delivered, stats.in_flight) == (count, count, 0)
    arrived = log.query()
    assert len(arrived) == count
    for thread in range(8):
        mine = [event for event in arrived if event.run_id == f"r{thread}"]
        assert [event.payload["n"] for event in mine] == list(range(count // 8)), "each thread's events in its order"
        assert [event.seq for event in mine] == list(range(1, count // 8 + 1))


def test_ten_thousand_events_of_eight_threads_arrive_once_and_in_order(redis_world: World) -> None:
    ten_thousand_arrive(redis_world.open(max_entries=20_000), 10_000)


def test_events_of_eight_threads_arrive_once_and_in_order_through_a_server(http_world: HttpWorld) -> None:
    ten_thousand_arrive(http_world.open(), 4_000)


def test_the_payload_is_taken_whole_when_the_event_is_handed_over(world: World) -> None:
    log = world.open()
    dispatching = dispatching_to(log, inflight_oversubscription=100)
    data = {"steps": [{"n": 0}]}
    for n in range(50):
        data["steps"][0]["n"] = n
        dispatching.dispatch("a", data)
    data["steps"].clear()
    assert dispatching.shutdown()
    assert [event.payload["steps"][0]["n"] for event in log.query()] == list(range(50))


def test_a_log_that_was_closed_fails_the_events_and_raises_nothing(world: World) -> None:
    log = world.open()
    log.shut()
    dispatching = dispatching_to(log)
    dispatching.dispatch("a")
    assert dispatching.shutdown()
    assert dispatching.stats().failed == 1

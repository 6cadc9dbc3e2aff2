"""Slots over HTTP while Redis is away: told in time, and nothing is lost once it is back."""

import time
from collections.abc import Iterator

import httpx
import pytest

from tests.server.api import Api, assert_problem
from tests.server.conftest import Serve
from tests.server.slots_api import Slots, meanwhile
from tests.support.redis_process import RedisProcess, eventually

TOLD_S = 1.5 + 0.2 + 0.8  # the deadline, its margin, and a busy machine


@pytest.fixture
def redis() -> Iterator[RedisProcess]:
    with RedisProcess() as own:
        yield own


@pytest.fixture
def slots(serve: Serve, redis: RedisProcess) -> Iterator[Slots]:
    with serve(redis.url) as url, httpx.Client(base_url=url, timeout=20) as client:
        yield Slots(Api(client, "w"))


def every_request(slots: Slots) -> dict[str, "httpx.Request"]:
    build = slots.client.build_request
    base = slots.api.base
    return {
        "ask": build("POST", f"{slots.path}/slots", json={"execution_id": "x", "wait_seconds": 5}),
        "look": build("GET", f"{slots.path}/slots/e1"),
        "poll": build("GET", f"{slots.path}/slots/e1?wait_seconds=5"),
        "renew": build("PUT", f"{slots.path}/slots/e1/lease"),
        "leave": build("DELETE", f"{slots.path}/slots/e1"),
        "stats": build("GET", f"{slots.path}/queue-stats"),
        "actions": build("GET", f"{base}/actions"),
        "limit": build("PUT", f"{slots.path}/limit", json={"max_concurrent": 1}),
        "policies": build("GET", f"{base}/policies"),
        "policy": build("PUT", f"{base}/policies/global", json={"max_concurrent": 1}),
        "clear": build("DELETE", f"{slots.path}/queue"),
    }


@pytest.mark.parametrize("how", ["killed", "hanging"])
def test_every_request_is_told_in_time_that_redis_is_away(slots: Slots, redis: RedisProcess, how: str) -> None:
    slots.hold("e1")
    slots.queue("e2")
    if how == "killed":
        redis.kill()
    else:
        redis.pause()
    try:
        for name, request in every_request(slots).items():
            began = time.monotonic()
            answer = slots.client.send(request)
            assert time.monotonic() - began < TOLD_S, name
            assert_problem(answer, 503, "BACKEND_UNAVAILABLE")
            assert answer.headers["retry-after"] == "1", name
    finally:
        if how == "killed":
            redis.start()
        else:
            redis.resume()
    eventually(lambda: slots.look("e1").status_code in (200, 404), "it answers again")


def test_a_poll_under_way_is_told_in_time_that_redis_went_away(slots: Slots, redis: RedisProcess) -> None:
    slots.hold("e1")
    slots.queue("e2")
    with meanwhile(slots.look, "e2", "?wait_seconds=30") as waiting:
        slots.waits("e2")
        redis.kill()
        began = time.monotonic()
        answer = waiting.result(20)
        # It looks every two seconds whether its place is there.
        assert time.monotonic() - began < 2 + TOLD_S
    assert_problem(answer, 503, "BACKEND_UNAVAILABLE")
    redis.start()
    assert [slots.state("e1"), slots.state("e2")] == ["granted", "queued"]


def test_places_and_slots_outlive_a_restart_of_redis(slots: Slots, redis: RedisProcess) -> None:
    token = slots.hold("e1")
    slots.queue("e2")
    with meanwhile(slots.look, "e2", "?wait_seconds=30") as waiting:
        slots.waits("e2")
        redis.restart()
        assert slots.leave("e1", f"?fencing_token={token}") == "released"
        granted = waiting.result(20)
    assert granted.status_code == 200, granted.text
    assert granted.json()["fencing_token"] > token


def test_a_redis_that_forgot_its_scripts_is_given_them_again(slots: Slots, redis: RedisProcess) -> None:
    slots.hold("e1")
    with redis.client() as client:
        client.script_flush()
    assert slots.queue("e2") == 1
    assert slots.leave("e1") == "released"
    assert slots.state("e2") == "granted"


def test_a_redis_that_refuses_writes_is_told(slots: Slots, redis: RedisProcess) -> None:
    slots.hold("e1")
    with redis.client() as client:
        client.config_set("maxmemory", 1)
        client.config_set("maxmemory-policy", "noeviction")
        document = assert_problem(slots.take("e2"), 503, "BACKEND_UNAVAILABLE")
        assert "refuses writes" in document["detail"]
        assert slots.stats()["active_count"] == 1, "reading goes on"
        client.config_set("maxmemory", 0)
    assert slots.leave("e1") == "released"

"""Policies over HTTP: set, versioned, removed; and what they do to those who ask for slots."""

from typing import Any

import httpx
import pytest

from tests.server.api import Api, assert_problem
from tests.server.slots_api import Slots
from tests.support.redis_process import eventually

FULL = {
    "max_concurrent": 3,
    "rate_limit": {"count": 10, "seconds": 60},
    "quota": {"count": 1000, "seconds": 86400},
    "max_queue_length": 100,
    "queue_timeout_seconds": 600,
    "log_transitions": True,
}
OPEN = dict.fromkeys(FULL)


@pytest.fixture
def slots(api: Api) -> Slots:
    return Slots(api)


def put(api: Api, scope: str, query: str = "", headers: dict[str, str] | None = None, **policy: Any) -> httpx.Response:
    return api.client.put(f"{api.base}/policies/{scope}{query}", json=policy, headers=headers)


def delete(api: Api, scope: str, query: str = "", headers: dict[str, str] | None = None) -> httpx.Response:
    return api.client.delete(f"{api.base}/policies/{scope}{query}", headers=headers)


@pytest.mark.parametrize("scope", ["global", "pack/builders", "action/build"])
def test_a_policy_is_read_as_it_was_set(api: Api, scope: str) -> None:
    assert_problem(api.get(f"/policies/{scope}"), 404, "NOT_FOUND")
    answer = put(api, scope, **FULL)
    assert (answer.status_code, answer.json()) == (200, {"scope": scope, "version": 1, **FULL})
    read = api.get(f"/policies/{scope}")
    assert (read.json(), read.headers["etag"]) == (answer.json(), '"1"')
    assert put(api, scope, max_concurrent=2).json() == {"scope": scope, "version": 2, **OPEN, "max_concurrent": 2}
    for _ in range(2):
        assert delete(api, scope).json() == {"scope": scope, "version": 3}
    assert api.get("/policies").json() == {"policies": []}


def test_all_policies_are_listed_the_queues_own_limits_among_them(api: Api) -> None:
    put(api, "global", max_concurrent=9)
    put(api, "action/build", quota={"count": 1, "seconds": 60})
    api.client.put(f"{api.base}/actions/build/limit?group_key=eu", json={"max_concurrent": 4})
    listed = {one["scope"]: one for one in api.get("/policies").json()["policies"]}
    assert set(listed) == {"global", "action/build", "queue/build/eu"}
    assert listed["action/build"]["quota"] == {"count": 1, "seconds": 60}
    assert (listed["queue/build/eu"]["max_concurrent"], listed["queue/build/eu"]["version"]) == (4, 3)


def test_a_change_that_expects_another_version_is_refused(api: Api) -> None:
    assert put(api, "global", "?expected_version=0", max_concurrent=1).status_code == 200
    document = assert_problem(put(api, "global", "?expected_version=0", max_concurrent=2), 409, "CONFLICT")
    assert (document["expected_version"], document["version"]) == (0, 1)
    tag = api.get("/policies/global").headers["etag"]
    assert put(api, "global", headers={"If-Match": tag}, max_concurrent=3).json()["version"] == 2
    assert_problem(put(api, "global", headers={"If-Match": tag}, max_concurrent=4), 409, "CONFLICT")
    assert_problem(delete(api, "global", headers={"If-Match": tag}), 409, "CONFLICT")
    assert api.get("/policies/global").json()["max_concurrent"] == 3
    assert delete(api, "global", "?expected_version=2").json()["version"] == 3
    assert api.get("/policies").json() == {"policies": []}


def test_a_change_that_is_repeated_is_answered_as_it_was_the_first_time(api: Api) -> None:
    answers = [put(api, "global", "?expected_version=0", max_concurrent=1) for _ in range(2)]
    assert [answer.json()["version"] for answer in answers] == [1, 1]


@pytest.mark.parametrize(
    ("policy", "field"),
    [
        ({"max_concurrent": 0}, "max_concurrent"),
        ({"max_concurrent": 1.5}, "max_concurrent"),
        ({"rate_limit": 5}, "rate_limit"),
        ({"rate_limit": {"count": 5}}, "rate_limit.seconds"),
        ({"rate_limit": {"count": 0, "seconds": 1}}, "rate_limit.count"),
        ({"quota": {"count": 1, "seconds": 0}}, "quota.seconds"),
        ({"quota": {"count": 1, "seconds": 1, "per": "day"}}, "quota.per"),
        ({"max_queue_length": -1}, "max_queue_length"),
        ({"queue_timeout_seconds": 0}, "queue_timeout_seconds"),
        ({"log_transitions": "no"}, "log_transitions"),
        ({"max_slots": 1}, "max_slots"),
    ],
)
def test_what_is_wrong_with_a_policy_is_named(api: Api, policy: dict[str, Any], field: str) -> None:
    assert_problem(put(api, "global", **policy), 400, "INVALID_PARAMS", field)
    assert api.get("/policies/global").status_code == 404


@pytest.mark.parametrize(
    ("path", "headers", "field"),
    [
        ("queue/build", {}, "kind"),
        ("pack/a%20b", {}, "pack"),
        ("global?expected_version=x", {}, "expected_version"),
        ("global?version=1", {}, "version"),
        ("global", {"If-Match": "3"}, "If-Match"),
        ("global", {"If-Match": '"x"'}, "If-Match"),
        ("global?expected_version=1", {"If-Match": '"1"'}, "expected_version"),
    ],
)
def test_what_is_wrong_with_the_address_of_a_policy_is_named(
    api: Api, path: str, headers: dict[str, str], field: str
) -> None:
    answer = api.client.put(f"{api.base}/policies/{path}", json={}, headers=headers)
    assert_problem(answer, 400, "INVALID_PARAMS", field)


def test_the_most_specific_limit_wins(api: Api, slots: Slots) -> None:
    put(api, "global", max_concurrent=3)
    put(api, "pack/builders", max_concurrent=2)
    slots.hold("e1", pack="builders", max_concurrent=100)
    slots.hold("e2", pack="builders", max_concurrent=100)
    slots.queue("e3", pack="builders", max_concurrent=100)
    put(api, "action/build", max_concurrent=1)
    assert slots.stats()["max_concurrent"] == 1
    delete(api, "action/build")
    delete(api, "pack/builders")
    assert slots.stats()["max_concurrent"] == 3
    assert slots.state("e3") == "granted"


def test_a_raised_limit_hands_slots_out_to_who_polls(api: Api, slots: Slots) -> None:
    put(api, "action/build", max_concurrent=1)
    slots.hold("e1")
    slots.queue("e2")
    put(api, "action/build", max_concurrent=2)
    assert [event["kind"] for event in api.get("/events?kind=slot.granted").json()["events"]] == ["slot.granted"] * 2


def test_a_rate_that_allows_a_slot_in_time_lets_wait(api: Api, slots: Slots) -> None:
    put(api, "action/build", rate_limit={"count": 1, "seconds": 0.5})
    assert slots.take("e1").status_code == 200
    queued = slots.take("e2").json()
    assert (queued["state"], queued["limited_by"]) == ("queued", "rate")
    assert 0 < queued["retry_at"] - queued["time"] <= 0.5
    granted = slots.look("e2", "?wait_seconds=15").json()
    assert granted["state"] == "granted"
    assert granted["time"] >= queued["retry_at"]


def test_a_rate_that_allows_no_slot_in_time_refuses(api: Api, slots: Slots) -> None:
    put(api, "action/build", rate_limit={"count": 2, "seconds": 50})
    assert [slots.take(name).status_code for name in ("e1", "e2")] == [200, 200]
    for timeout_s in (0, 10):
        answer = slots.take("e3", queue_timeout_seconds=timeout_s)
        document = assert_problem(answer, 429, "RATE_LIMITED")
        assert 10 < document["retry_after_seconds"] <= 50
        assert document["retry_after_seconds"] <= int(answer.headers["retry-after"]) <= 50
    stats = slots.stats()
    assert (stats["active_count"], stats["queue_length"]) == (2, 0)


def test_a_quota_that_is_used_up_refuses(api: Api, slots: Slots) -> None:
    put(api, "action/build", quota={"count": 1, "seconds": 366 * 86_400})
    assert slots.take("e1").status_code == 200
    slots.leave("e1")
    answer = slots.take("e2")
    document = assert_problem(answer, 429, "QUOTA_EXCEEDED")
    assert int(answer.headers["retry-after"]) >= document["retry_after_seconds"] > 3600


def test_a_policys_line_is_as_long_as_it_says_and_stands_as_long(api: Api, slots: Slots) -> None:
    put(api, "global", max_concurrent=1, max_queue_length=1, queue_timeout_seconds=0.3)
    slots.hold("e1")
    queued = slots.take("e2", queue_timeout_seconds=3600).json()
    assert queued["queue_expires_at"] - queued["time"] == pytest.approx(0.3, abs=0.01)
    document = assert_problem(slots.take("e3", max_queue_length=1000), 429, "QUEUE_FULL")
    assert (document["length"], document["limit"]) == (1, 1)
    eventually(lambda: slots.state("e2") == "none", "the place of e2 is gone")


def test_a_policy_keeps_transitions_out_of_the_log(api: Api, slots: Slots) -> None:
    put(api, "action/build", log_transitions=False)
    slots.hold("e1")
    slots.leave("e1")
    assert api.get("/events").json()["events"] == []

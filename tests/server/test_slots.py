"""Slots over HTTP: asked for, looked at, renewed, left; refused with what was wrong."""

import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from eventlog_server import places

from tests.server.api import Api, assert_problem
from tests.server.slots_api import Slots, meanwhile
from tests.support.redis_process import eventually


@pytest.fixture
def slots(api: Api) -> Slots:
    return Slots(api)


def test_a_slot_goes_from_hand_to_hand_in_the_order_of_asking(slots: Slots) -> None:
    first = slots.hold("e1")
    assert [slots.queue("e2"), slots.queue("e3")] == [1, 2]
    assert slots.leave("e1") == "released"
    granted = slots.look("e2").json()
    assert (granted["state"], granted["fencing_token"] > first) == ("granted", True)
    assert slots.look("e3").json()["position"] == 1
    assert slots.leave("e2") == "released"
    assert slots.look("e3").json()["fencing_token"] > granted["fencing_token"]
    assert slots.leave("e3") == "released"
    stats = slots.stats()
    assert (stats["active_count"], stats["queue_length"]) == (0, 0)
    assert (stats["total_enqueued"], stats["total_completed"]) == (3, 3)


def test_an_answer_says_until_when_the_lease_and_the_place_stand(slots: Slots) -> None:
    granted = slots.take("e1", max_concurrent=1, lease_seconds=40).json()
    assert set(granted) == {"state", "fencing_token", "lease_expires_at", "max_concurrent", "time"}
    assert granted["lease_expires_at"] == pytest.approx(granted["time"] + 40, abs=0.01)
    assert granted["time"] == pytest.approx(time.time(), abs=20)
    queued = slots.take("e2", max_concurrent=1, queue_timeout_seconds=50).json()
    assert set(queued) == {"state", "position", "limited_by", "queue_expires_at", "max_concurrent", "time"}
    assert queued["queue_expires_at"] == pytest.approx(queued["time"] + 50, abs=0.01)
    assert queued["limited_by"] == "busy"


def test_an_execution_that_asks_again_is_told_where_it_stands_and_not_queued_twice(slots: Slots) -> None:
    token = slots.hold("e1")
    again = slots.take("e1", max_concurrent=1)
    assert (again.status_code, again.json()["fencing_token"], again.json()["already"]) == (200, token, True)
    slots.queue("e2")
    again = slots.take("e2", max_concurrent=1)
    assert (again.status_code, again.json()["position"], again.json()["already"]) == (202, 1, True)
    assert (slots.stats()["active_count"], slots.stats()["queue_length"]) == (1, 1)


def test_with_no_limit_everybody_holds_a_slot(slots: Slots) -> None:
    answers = [slots.take(f"e{n}") for n in range(5)]
    assert [(answer.status_code, answer.json()["max_concurrent"]) for answer in answers] == [(200, None)] * 5
    tokens = [answer.json()["fencing_token"] for answer in answers]
    assert tokens == sorted(set(tokens))
    assert slots.stats()["max_concurrent"] is None


def test_waiting_for_the_slot_answers_when_it_comes(slots: Slots) -> None:
    slots.hold("e1")
    with meanwhile(slots.take, "e2", max_concurrent=1, wait_seconds=15) as waiting:
        slots.waits("e2")
        began = time.monotonic()
        slots.leave("e1")
        answer = waiting.result(20)
    assert (answer.status_code, answer.json()["state"]) == (200, "granted")
    assert time.monotonic() - began < 1, "it is told of, not found by looking"


def test_waiting_on_a_place_answers_when_its_turn_comes(slots: Slots) -> None:
    slots.hold("e1")
    slots.queue("e2")
    with meanwhile(slots.look, "e2", "?wait_seconds=15") as waiting:
        slots.leave("e1")
        answer = waiting.result(20)
    assert (answer.status_code, answer.json()["state"]) == (200, "granted")


def test_a_wait_that_is_over_says_that_it_still_waits(slots: Slots) -> None:
    slots.hold("e1")
    began = time.monotonic()
    answer = slots.take("e2", max_concurrent=1, wait_seconds=0.3)
    assert (answer.status_code, answer.json()["position"]) == (202, 1)
    answer = slots.look("e2", "?wait_seconds=0.3")
    assert (answer.status_code, answer.json()["position"]) == (200, 1)
    assert 0.55 < time.monotonic() - began < 5


def test_a_lease_that_ends_hands_the_slot_at_once_to_who_polls(slots: Slots) -> None:
    late = []
    for n in range(4):
        slots.hold(f"a{n}", lease_seconds=0.3 + n / 10)
        expires_at = slots.look(f"a{n}").json()["lease_expires_at"]
        slots.queue(f"b{n}")
        granted = slots.look(f"b{n}", "?wait_seconds=15").json()
        assert granted["state"] == "granted"
        late.append(granted["time"] - expires_at)
        assert_problem(slots.renew(f"a{n}"), 409, "LEASE_LOST")
        assert slots.state(f"a{n}") == "none"
        slots.leave(f"b{n}")
    assert min(late) >= 0
    assert sorted(late)[1] < 0.2, "it looks when the lease is due, not now and then"


def test_renewing_keeps_the_slot_and_can_change_the_length_of_the_lease(slots: Slots) -> None:
    token = slots.hold("e1", lease_seconds=10)
    renewed = slots.renew("e1", lease_seconds=100, fencing_token=token).json()
    assert renewed["lease_expires_at"] == pytest.approx(renewed["time"] + 100, abs=0.01)
    kept = slots.client.put(f"{slots.path}/slots/e1/lease").json()
    assert (kept["fencing_token"], kept["lease_expires_at"] - kept["time"]) == (token, pytest.approx(100, abs=0.01))


def test_a_lease_is_renewed_by_its_own_token_only(slots: Slots) -> None:
    token = slots.hold("e1")
    document = assert_problem(slots.renew("e1", fencing_token=token + 1), 409, "LEASE_LOST")
    assert (document["queue"], document["execution_id"]) == ("build", "e1")
    assert_problem(slots.renew("nobody"), 409, "LEASE_LOST")
    slots.queue("e2")
    assert_problem(slots.renew("e2"), 409, "LEASE_LOST")


def test_leaving_says_what_was_done_and_may_be_repeated(slots: Slots) -> None:
    token = slots.hold("e1")
    slots.queue("e2")
    assert [slots.leave("e2"), slots.leave("e2")] == ["cancelled", "none"]
    assert slots.leave("e1", f"?fencing_token={token + 1}") == "none"
    assert slots.state("e1") == "granted"
    assert [slots.leave("e1", f"?fencing_token={token}"), slots.leave("e1")] == ["released", "none"]
    assert slots.leave("nobody") == "none"


def test_leaving_the_line_only_keeps_a_slot(slots: Slots) -> None:
    slots.hold("e1")
    slots.queue("e2")
    assert [slots.leave(name, "?only_queued=true") for name in ("e1", "e2")] == ["none", "cancelled"]
    assert [slots.state("e1"), slots.state("e2")] == ["granted", "none"]


def test_groups_are_queues_of_their_own(slots: Slots) -> None:
    slots.hold("e1")
    slots.hold("e1", group_key="g")
    slots.queue("e2", group_key="g")
    assert slots.state("e2") == "none"
    assert slots.state("e2", "?group_key=g") == "queued"
    assert slots.renew("e1", "?group_key=g").status_code == 200
    assert slots.leave("e1", "?group_key=g") == "released"
    assert [slots.state("e1"), slots.state("e2", "?group_key=g")] == ["granted", "granted"]
    stats = slots.stats("?group_key=g")
    assert (stats["group_key"], stats["active_count"]) == ("g", 1)


def test_who_is_in_no_queue_is_not_found(slots: Slots) -> None:
    document = assert_problem(slots.look("nobody"), 404, "NOT_FOUND")
    assert "nobody neither holds a slot of build nor waits for one" in document["detail"]


def test_a_full_line_is_told(slots: Slots) -> None:
    slots.hold("e1")
    slots.queue("e2", max_queue_length=1)
    answer = slots.take("e3", max_concurrent=1, max_queue_length=1)
    document = assert_problem(answer, 429, "QUEUE_FULL")
    assert (document["length"], document["limit"], answer.headers["retry-after"]) == (1, 1, "1")
    assert slots.state("e3") == "none"


def test_with_no_time_to_queue_there_is_a_free_slot_or_none(slots: Slots) -> None:
    slots.hold("e1", queue_timeout_seconds=0)
    answer = slots.take("e2", max_concurrent=1, queue_timeout_seconds=0, wait_seconds=5)
    assert_problem(answer, 429, "QUEUE_TIMEOUT")
    assert answer.headers["retry-after"] == "1"
    assert slots.stats()["queue_length"] == 0


def test_a_place_whose_time_is_over_is_told_to_who_waits_on_it(slots: Slots) -> None:
    slots.hold("e1")
    answer = slots.take("e2", max_concurrent=1, queue_timeout_seconds=0.3, wait_seconds=15)
    document = assert_problem(answer, 429, "QUEUE_TIMEOUT")
    assert 0.3 <= document["waited_seconds"] < 5
    assert slots.stats()["total_timed_out"] == 1


def test_who_is_cancelled_while_it_waits_is_told_so(slots: Slots) -> None:
    slots.hold("e1")
    with meanwhile(slots.take, "e2", max_concurrent=1, wait_seconds=15) as waiting:
        slots.waits("e2")
        assert slots.leave("e2") == "cancelled"
        document = assert_problem(waiting.result(20), 409, "CONFLICT")
    assert document["state"] == "cancelled"


def test_a_grant_that_runs_out_unheard_is_a_lease_that_was_lost(slots: Slots, monkeypatch: pytest.MonkeyPatch) -> None:
    wait, hears_again = places._wait, threading.Event()

    async def late(*args: Any) -> Any:
        await asyncio.to_thread(hears_again.wait, 20)
        return await wait(*args)

    monkeypatch.setattr(places, "_wait", late)
    slots.hold("e1")
    asked = {"max_concurrent": 1, "lease_seconds": 0.2, "wait_seconds": 15}
    with meanwhile(slots.take, "e2", **asked) as waiting, meanwhile(slots.take, "e3", **asked) as cancelled:
        slots.waits("e2")
        slots.waits("e3")
        slots.leave("e3")
        slots.leave("e1")
        eventually(lambda: slots.state("e2") == "none", "its lease has run out")
        hears_again.set()
        assert_problem(waiting.result(20), 409, "LEASE_LOST")
        assert assert_problem(cancelled.result(20), 409, "CONFLICT")["state"] == "cancelled"
    gone = assert_problem(slots.look("e2"), 404, "NOT_FOUND")
    assert gone["lease_expired_at"] == pytest.approx(time.time(), abs=20)
    assert "lease_expired_at" not in assert_problem(slots.look("e3"), 404, "NOT_FOUND")


def test_a_client_that_goes_away_while_it_waits_keeps_its_place(slots: Slots) -> None:
    slots.hold("e1")
    with pytest.raises(httpx.ReadTimeout):
        slots.client.post(
            f"{slots.path}/slots",
            json={"execution_id": "e2", "max_concurrent": 1, "wait_seconds": 30},
            timeout=0.3,
        )
    assert slots.queue("e3") == 2
    slots.leave("e1")
    assert [slots.state("e2"), slots.state("e3")] == ["granted", "queued"]


def test_two_who_wait_on_one_place_are_both_answered(slots: Slots) -> None:
    slots.hold("e1")
    slots.queue("e2")
    with ThreadPoolExecutor(2) as pool:
        waiting = [pool.submit(slots.look, "e2", "?wait_seconds=15") for _ in range(2)]
        slots.leave("e1")
        states = [one.result(20).json()["state"] for one in waiting]
    assert states == ["granted", "granted"]


def test_the_place_of_a_crowd_is_its_order(slots: Slots) -> None:
    slots.hold("e0")
    names = [f"e{n}" for n in range(1, 31)]
    for name in names:
        slots.queue(name)
    order = []
    with ThreadPoolExecutor(len(names)) as pool:
        waiting = {name: pool.submit(slots.look, name, "?wait_seconds=30") for name in names}
        slots.leave("e0")
        for name in names:
            order.append((waiting[name].result(30).json()["fencing_token"], name))
            slots.leave(name)
    assert [name for _, name in sorted(order)] == names


def test_the_log_tells_what_happened(slots: Slots) -> None:
    slots.hold("e1")
    slots.queue("e2", owner="ci@agent-7")
    slots.leave("e2")
    slots.leave("e1")
    events = slots.api.get("/events?kind=slot.*").json()["events"]
    assert [event["kind"] for event in events] == ["slot.granted", "slot.queued", "slot.cancelled", "slot.released"]
    assert events[0]["payload"]["owner"] == "http:127.0.0.1"
    assert events[1]["payload"] == {"action": "build", "execution_id": "e2", "owner": "ci@agent-7", "position": 1}


LONG = "x" * 129


@pytest.mark.parametrize(
    ("asked", "field"),
    [
        ({}, "execution_id"),
        ({"execution_id": ""}, "execution_id"),
        ({"execution_id": LONG}, "execution_id"),
        ({"execution_id": 7}, "execution_id"),
        ({"execution_id": None}, "execution_id"),
        ({"max_concurrent": 0}, "max_concurrent"),
        ({"max_concurrent": -1}, "max_concurrent"),
        ({"max_concurrent": 1.0}, "max_concurrent"),
        ({"max_concurrent": True}, "max_concurrent"),
        ({"max_concurrent": "1"}, "max_concurrent"),
        ({"max_concurrent": 10**9}, "max_concurrent"),
        ({"lease_seconds": 0}, "lease_seconds"),
        ({"lease_seconds": -5}, "lease_seconds"),
        ({"lease_seconds": 1e9}, "lease_seconds"),
        ({"lease_seconds": "30"}, "lease_seconds"),
        ({"lease_seconds": True}, "lease_seconds"),
        ({"wait_seconds": 61}, "wait_seconds"),
        ({"wait_seconds": -1}, "wait_seconds"),
        ({"queue_timeout_seconds": -1}, "queue_timeout_seconds"),
        ({"queue_timeout_seconds": 1e7}, "queue_timeout_seconds"),
        ({"max_queue_length": 0}, "max_queue_length"),
        ({"pack": "a/b"}, "pack"),
        ({"group_key": ""}, "group_key"),
        ({"owner": "two words"}, "owner"),
        ({"lease": 5}, "lease"),
    ],
)
def test_what_is_wrong_with_a_request_is_named(slots: Slots, asked: dict[str, Any], field: str) -> None:
    document = {"execution_id": "e", **asked} if asked else {}
    answer = slots.client.post(f"{slots.path}/slots", json=document)
    assert_problem(answer, 400, "INVALID_PARAMS", field)
    assert slots.stats()["total_enqueued"] == 0


def test_null_leaves_a_key_out(slots: Slots) -> None:
    assert slots.take("e", max_concurrent=None, pack=None, wait_seconds=None, owner=None).status_code == 200


@pytest.mark.parametrize(
    ("content", "content_type", "status", "code", "field"),
    [
        (b"", "application/json", 400, "INVALID_PARAMS", "execution_id"),
        (b"[]", "application/json", 400, "INVALID_PARAMS", "body"),
        (b'{"execution_id": NaN}', "application/json", 400, "INVALID_PARAMS", "body"),
        (b'{"execution_id": "e", "execution_id": "f"}', "application/json", 400, "INVALID_PARAMS", "body"),
        (b'{"execution_id": "\xff"}', "application/json", 400, "INVALID_PARAMS", "body"),
        (b'{"execution_id": "e", "lease_seconds": 1e999}', "application/json", 400, "INVALID_PARAMS", "body"),
        (b'{"execution_id": "e"}', "text/plain", 415, "UNSUPPORTED_MEDIA_TYPE", None),
        (b'{"execution_id": "e"}', "application/json; charset=latin-1", 415, "UNSUPPORTED_MEDIA_TYPE", None),
        (b" " * 1_100_000, "application/json", 413, "PAYLOAD_TOO_LARGE", "body"),
    ],
)
def test_a_body_that_is_no_object_is_refused(
    slots: Slots, content: bytes, content_type: str, status: int, code: str, field: str | None
) -> None:
    answer = slots.client.post(f"{slots.path}/slots", content=content, headers={"Content-Type": content_type})
    assert_problem(answer, status, code, field)


def test_a_web_page_of_another_site_cannot_ask_for_a_slot(slots: Slots) -> None:
    """A browser sends a body without a type, or with a simple one, from any site; ours then stays shut."""
    body = b'{"execution_id": "e"}'
    for headers in (
        {"Origin": "https://evil.example"},
        {"Origin": "https://evil.example", "Content-Type": "text/plain"},
    ):
        answer = slots.client.post(f"{slots.path}/slots", content=body, headers=headers)
        assert_problem(answer, 415, "UNSUPPORTED_MEDIA_TYPE")


@pytest.mark.parametrize(
    ("method", "path", "field"),
    [
        ("GET", "/actions/build/slots/e?wait_seconds=61", "wait_seconds"),
        ("GET", "/actions/build/slots/e?wait_seconds=-1", "wait_seconds"),
        ("GET", "/actions/build/slots/e?wait_seconds=x", "wait_seconds"),
        ("GET", "/actions/build/slots/e?wait=1", "wait"),
        ("GET", "/actions/build/slots/e?group_key=", "group_key"),
        ("GET", "/actions/build/slots/a%20b", "execution_id"),
        ("GET", "/actions/a%20b/slots/e", "ref"),
        ("GET", f"/actions/{LONG}/slots/e", "ref"),
        ("DELETE", "/actions/build/slots/e?fencing_token=0", "fencing_token"),
        ("DELETE", "/actions/build/slots/e?fencing_token=9007199254740993", "fencing_token"),
        ("DELETE", "/actions/build/slots/e?fencing_token=-1", "fencing_token"),
        ("DELETE", "/actions/build/slots/e?only_queued=1", "only_queued"),
        ("DELETE", "/actions/build/slots/e?only_queued=true&fencing_token=1", "only_queued"),
        ("POST", "/actions/build/slots?wait_seconds=1", "wait_seconds"),
        ("GET", "/actions/build/queue-stats?listed=1001", "listed"),
        ("GET", "/actions/build/queue-stats?listed=0", "listed"),
        ("GET", "/actions/build/queue-stats?listed=-1", "listed"),
        ("GET", "/actions?group_key=g", "group_key"),
        ("DELETE", "/actions/build/queue?listed=1", "listed"),
        ("DELETE", "/actions?group_key=g", "group_key"),
    ],
)
def test_what_is_wrong_with_an_address_is_named(slots: Slots, method: str, path: str, field: str) -> None:
    answer = slots.client.request(method, slots.api.base + path)
    assert_problem(answer, 400, "INVALID_PARAMS", field)


@pytest.mark.parametrize("body", [{"lease_seconds": 0}, {"fencing_token": 0}, {"fencing_token": "1"}, {"lease": 1}])
def test_what_is_wrong_with_a_renewal_is_named(slots: Slots, body: dict[str, Any]) -> None:
    slots.hold("e")
    assert_problem(slots.renew("e", **body), 400, "INVALID_PARAMS", next(iter(body)))


def test_a_route_that_takes_other_methods_says_which(slots: Slots) -> None:
    answer = slots.client.patch(f"{slots.path}/slots/e")
    assert_problem(answer, 405, "METHOD_NOT_ALLOWED")
    assert answer.headers["allow"] == "DELETE, GET, HEAD"


def test_all_queues_are_listed_with_who_holds_and_waits(slots: Slots) -> None:
    token = slots.hold("e1", owner="me")
    slots.queue("e2")
    Slots(slots.api, "deploy").hold("e1", group_key="eu")
    listed = slots.api.get("/actions").json()["actions"]
    assert [(one["action"], one["group_key"]) for one in listed] == [("build", None), ("deploy", "eu")]
    build = listed[0]
    assert (build["active_count"], build["queue_length"], build["max_concurrent"]) == (1, 1, 1)
    holder, waiter = build["holders"][0], build["waiters"][0]
    assert (holder["execution_id"], holder["fencing_token"], holder["owner"]) == ("e1", token, "me")
    assert (waiter["execution_id"], waiter["position"]) == ("e2", 1)
    assert build["oldest_enqueued_at"] == pytest.approx(waiter["enqueued_at"])
    slots.queue("e3")
    counted = slots.api.get("/actions?listed=1").json()["actions"][0]
    assert (len(counted["waiters"]), counted["queue_length"]) == (1, 2), "the counts are exact"


def test_a_queue_that_was_never_used_is_empty(slots: Slots) -> None:
    stats = slots.stats()
    assert (stats["active_count"], stats["queue_length"], stats["oldest_enqueued_at"]) == (0, 0, None)
    assert slots.api.get("/actions").json()["actions"] == [], "looking at a queue does not make one"


def test_a_queues_own_limit_goes_before_the_callers(slots: Slots) -> None:
    slots.hold("e1")
    slots.queue("e2")
    answer = slots.client.put(f"{slots.path}/limit", json={"max_concurrent": 2})
    assert answer.json() == {"action": "build", "group_key": None, "max_concurrent": 2, "version": 1}
    assert slots.state("e2") == "granted"
    slots.queue("e3", max_concurrent=100)
    answer = slots.client.delete(f"{slots.path}/limit")
    assert (answer.status_code, answer.json()["max_concurrent"]) == (200, None)
    assert slots.state("e3") == "queued", "the first caller's number stands again"
    for body in ({}, {"max_concurrent": 0}, {"max_concurrent": None}):
        assert_problem(slots.client.put(f"{slots.path}/limit", json=body), 400, "INVALID_PARAMS", "max_concurrent")


def test_the_emergency_reset_of_one_queue_leaves_the_others(slots: Slots) -> None:
    other = Slots(slots.api, "deploy")
    other.hold("e1")
    slots.hold("e1")
    slots.queue("e2")
    with meanwhile(slots.look, "e2", "?wait_seconds=15") as waiting:
        assert slots.client.delete(f"{slots.path}/queue").json() == {"holders": 1, "waiters": 1}
        assert_problem(waiting.result(20), 404, "NOT_FOUND")
    assert_problem(slots.renew("e1"), 409, "LEASE_LOST")
    assert other.state("e1") == "granted"
    slots.hold("e3")
    assert slots.client.delete(f"{slots.api.base}/actions").json() == {"holders": 2, "waiters": 0}
    assert [slots.state("e3"), other.state("e1")] == ["none", "none"]


def test_a_fence_outlives_a_reset(slots: Slots) -> None:
    before = slots.hold("e1")
    slots.client.delete(f"{slots.path}/queue")
    assert slots.hold("e1") > before


def test_workspaces_do_not_compete(slots: Slots) -> None:
    slots.hold("e1")
    Slots(Api(slots.client, slots.api.workspace + "2")).hold("e1")

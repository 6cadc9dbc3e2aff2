"""Runs over HTTP: the list, one, its replay by lane and seq, its stages."""

from typing import Any

import httpx
import pytest

from eventlog.model.events import Event
from tests.server.api import Api, assert_problem
from tests.server.conftest import Serve
from tests.support.redis_process import RedisProcess


def _runs(api: Api, query: str = "") -> list[str]:
    answer = api.get(f"/runs{query}")
    assert answer.status_code == 200, answer.text
    return [run["run_id"] for run in answer.json()["runs"]]


def _replay(api: Api, run: str, query: str = "") -> dict[str, Any]:
    answer = api.get(f"/runs/{run}/events{query}")
    assert answer.status_code == 200, answer.text
    page: dict[str, Any] = answer.json()
    return page


def _seqs(page: dict[str, Any]) -> list[tuple[str, int]]:
    return [(event["lane_id"], event["seq"]) for event in page["events"]]


def _lanes(api: Api, run: str, *lanes: str) -> list[dict[str, Any]]:
    """An event for each lane named, in that order."""
    answer = api.post([{"kind": "step", "run_id": run, "lane_id": lane} for lane in lanes])
    assert answer.status_code == 201, answer.text
    events: list[dict[str, Any]] = answer.json()["events"]
    return events


def test_runs_are_listed_with_the_latest_active_first(api: Api) -> None:
    assert api.get("/runs").json() == {"runs": [], "cursor": None, "at_end": True}
    api.post([{"kind": "a", "run_id": run} for run in ("r1", "r2", "r1", "r3", "r2")])
    assert _runs(api) == ["r2", "r3", "r1"]


def test_one_run_is_summed_up(api: Api) -> None:
    first = _lanes(api, "r", "main", "b", "b")[0]
    running = api.get("/runs/r").json()
    assert (running["status"], running["ended_id"], running["ended_at"]) == ("running", None, None)
    ended, later = api.post([{"kind": "run.error", "run_id": "r"}, {"kind": "late", "run_id": "r"}]).json()["events"]
    assert api.get("/runs/r").json() == {
        "run_id": "r",
        "status": "failed",
        "first_id": first["id"],
        "last_id": later["id"],
        "ended_id": ended["id"],
        "started_at": first["timestamp"],
        "last_event_at": later["timestamp"],
        "ended_at": ended["timestamp"],
        "duration_ms": round(1000 * (ended["timestamp"] - first["timestamp"])),
        "events": 5,
        "lanes": {"b": 2, "main": 3},
    }
    assert api.get("/runs").json()["runs"] == [api.get("/runs/r").json()]


def test_the_list_goes_on_by_its_cursor(api: Api) -> None:
    api.post([{"kind": "a", "run_id": f"r{n}"} for n in range(25)])
    found: list[str] = []
    query = "?limit=10"
    while True:
        page = api.get(f"/runs{query}").json()
        found += [run["run_id"] for run in page["runs"]]
        if page["at_end"]:
            break
        query = f"?limit=10&until={page['cursor']}"
    assert found == [f"r{n}" for n in reversed(range(25))]


def test_runs_are_found_by_their_status(api: Api) -> None:
    kinds = ("run.started", "run.finished", "run.failed", "run.error", "run.cancelled")
    api.post([{"kind": kind, "run_id": kind} for kind in kinds])
    assert _runs(api, "?status=running") == ["run.started"]
    assert _runs(api, "?status=finished") == ["run.finished"]
    assert _runs(api, "?status=failed") == ["run.error", "run.failed"]
    assert _runs(api, "?status=cancelled") == ["run.cancelled"]


def test_a_run_is_replayed_in_the_order_of_the_log(api: Api) -> None:
    events = _lanes(api, "r", "main", "b", "main", "b", "c")
    _lanes(api, "other", "main")
    page = _replay(api, "r")
    assert (page.pop("run_id"), page.pop("events"), page.pop("missed")) == ("r", events, {})
    assert page == {"cursor": page["cursor"], "at_end": True, "gap": None}
    page = _replay(api, "r")
    assert _seqs(page) == [("main", 1), ("b", 1), ("main", 2), ("b", 2), ("c", 1)]


def test_a_replay_starts_after_a_seq_of_every_lane_or_of_one(api: Api) -> None:
    _lanes(api, "r", "main", "b", "main", "b", "b")
    assert _seqs(_replay(api, "r", "?since_seq=1")) == [("main", 2), ("b", 2), ("b", 3)]
    assert _seqs(_replay(api, "r", "?lane_id=b")) == [("b", 1), ("b", 2), ("b", 3)]
    assert _seqs(_replay(api, "r", "?lane_id=b&since_seq=2")) == [("b", 3)]
    assert _seqs(_replay(api, "r", "?lane_id=b&since_seq=99")) == []
    assert _seqs(_replay(api, "r", "?lane_id=never")) == []


def test_a_replay_goes_on_by_its_cursor(api: Api) -> None:
    lanes = ["main", "b"] * 12
    events = _lanes(api, "r", *lanes)
    found: list[dict[str, Any]] = []
    query = "?limit=5"
    while True:
        page = _replay(api, "r", query)
        found += page["events"]
        if page["at_end"]:
            break
        query = f"?limit=5&since={page['cursor']}"
    assert found == events


def test_a_replay_takes_the_filters_of_a_page(api: Api) -> None:
    api.post([
        {"kind": "tool.invoked", "run_id": "r", "stage_name": "build"},
        {"kind": "tool.failed", "run_id": "r", "stage_name": "test", "visibility": "private"},
        {"kind": "turn.started", "run_id": "r", "stage_name": "test"},
    ])  # fmt: skip
    for query, offsets in {
        "kind=tool.*": [1, 2],
        "kind=tool.failed&kind=turn.started": [2, 3],
        "stage_name=test": [2, 3],
        "visibility=public": [1, 3],
        "stage_name=test&visibility=internal": [3],
    }.items():
        assert [event["offset"] for event in _replay(api, "r", f"?{query}")["events"]] == offsets, query


def test_what_is_gone_of_a_run_is_told_by_lane_and_count(serve: Serve, redis_server: RedisProcess) -> None:
    with serve(redis_server.url, log={"max_entries": 3}) as url, httpx.Client(base_url=url, timeout=20) as client:
        api = Api(client, "w")
        _lanes(api, "r", "main", "b", "b", "c", "main", "b", "main")
        page = _replay(api, "r")
        assert (_seqs(page), page["missed"]) == ([("main", 2), ("b", 3), ("main", 3)], {"b": 2, "c": 1, "main": 1})
        assert _replay(api, "r", "?since_seq=1")["missed"] == {"b": 1}
        assert _replay(api, "r", "?lane_id=main")["missed"] == {"main": 1}
        assert _replay(api, "r", "?lane_id=main&since_seq=1")["missed"] == {}
        assert api.get("/runs/r").json()["lanes"] == {"b": 3, "c": 1, "main": 3}
        api.fill(2)
        rest = _replay(api, "r", f"?since={page['events'][0]['id']}")
        gap = {"missed": 1, "from_offset": 6, "to_offset": 6, "reason": "trimmed"}
        assert (_seqs(rest), rest["missed"], rest["gap"]) == ([("main", 3)], {}, gap)
        api.fill(1)
        assert_problem(api.get("/runs/r/events"), 404, "NOT_FOUND")
        assert_problem(api.get("/runs/r/events?since=1"), 404, "NOT_FOUND")
        assert_problem(api.get("/runs/r"), 404, "NOT_FOUND")
        assert _runs(api) == []


def test_stages_are_folded_from_the_events_of_the_run(api: Api) -> None:
    api.post([
        {"kind": "stage.queued", "run_id": "r", "stage_name": "test", "payload": {"depends_on": ["build"]}},
        {"kind": "stage.started", "run_id": "r", "stage_name": "build", "group_id": "g1"},
        {"kind": "stage.started", "run_id": "other", "stage_name": "build"},
    ])  # fmt: skip
    answer = api.post({
        "kind": "stage.failed", "run_id": "r", "stage_name": "build",
        "payload": {"stage_attempt": 2, "exit_code": 3, "duration_ms": 500, "error": "no luck"},
    }).json()  # fmt: skip
    found = api.get("/runs/r/stages").json()
    assert found["run_id"] == "r"
    queued, failed = found["stages"]
    assert (queued["stage_name"], queued["status"], queued["group_id"]) == ("test", "queued", "g0")
    assert queued["depends_on"] == ["build"]
    assert failed == {
        "stage_name": "build",
        "status": "failed",
        "stage_attempt": 2,
        "group_id": "g1",
        "depends_on": [],
        "queued_at": None,
        "started_at": pytest.approx(answer["timestamp"] - 0.5),
        "completed_at": answer["timestamp"],
        "duration_ms": 500,
        "exit_code": 3,
        "error": "no luck",
        "reason": None,
    }


def test_a_run_without_stages_has_none(api: Api) -> None:
    api.fill(1, run_id="r")
    assert api.get("/runs/r/stages").json() == {"run_id": "r", "stages": []}


@pytest.mark.parametrize("value", [1e300, 2**63, -1, "x", None, [], {"a": []}, True])
def test_a_payload_that_tells_nonsense_breaks_no_stage(api: Api, value: Any) -> None:
    said = dict.fromkeys(("stage_attempt", "duration_ms", "exit_code", "error", "reason", "depends_on"), value)
    api.post({"kind": "stage.failed", "run_id": "r", "stage_name": "s", "payload": said})
    [stage] = api.get("/runs/r/stages").json()["stages"]
    assert (stage["stage_name"], stage["status"]) == ("s", "failed")


def test_events_come_as_they_are_stored(api: Api) -> None:
    payload = {"é": "\u2028\x7f", "big": 2**63, "list": [], "deep": {"a": [1.5, None]}}
    event = api.post({"kind": "a", "run_id": "r", "payload": payload}).json()
    answer = api.get("/runs/r/events")
    assert answer.content.isascii()
    assert answer.json()["events"] == [event]
    assert Event.from_dict(answer.json()["events"][0]).payload == payload


PATHS = ["", "/events", "/stages"]


@pytest.mark.parametrize("path", PATHS)
def test_a_run_that_is_not_there_is_404(api: Api, path: str) -> None:
    api.fill(1, run_id="another")
    document = assert_problem(api.get(f"/runs/r1{path}"), 404, "NOT_FOUND")
    assert "r1" in document["detail"]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("run", ["a%20b", "a" * 129, "%00", "r%0A", "%C3%A9", "a%2Fb"])
def test_what_is_no_run_id_is_refused(api: Api, run: str, path: str) -> None:
    answer = api.get(f"/runs/{run}{path}")
    # A slash, encoded or not, makes another path of it, which there is not.
    if "%2F" in run:
        assert_problem(answer, 404, "NOT_FOUND")
    else:
        assert_problem(answer, 400, "INVALID_PARAMS", "run_id")


@pytest.mark.parametrize(
    ("path", "field"),
    [
        ("/runs?limit=0", "limit"),
        ("/runs?limit=1001", "limit"),
        ("/runs?limit=abc", "limit"),
        ("/runs?limit=-1", "limit"),
        ("/runs?status=dead", "status"),
        ("/runs?status=", "status"),
        ("/runs?until=abc", "until"),
        ("/runs?until=", "until"),
        ("/runs?since=1", "since"),
        ("/runs?limit=1&limit=2", "limit"),
        ("/runs/r?x=1", "x"),
        ("/runs/r/events?since_seq=abc", "since_seq"),
        ("/runs/r/events?since_seq=-1", "since_seq"),
        ("/runs/r/events?since_seq=%2B1", "since_seq"),
        ("/runs/r/events?since_seq=1e3", "since_seq"),
        ("/runs/r/events?since_seq=1.0", "since_seq"),
        ("/runs/r/events?since_seq=", "since_seq"),
        ("/runs/r/events?since_seq=%D9%A3", "since_seq"),
        ("/runs/r/events?since_seq=9007199254740992", "since_seq"),
        ("/runs/r/events?lane_id=a%20b", "lane_id"),
        ("/runs/r/events?lane_id=", "lane_id"),
        ("/runs/r/events?since=abc", "since"),
        ("/runs/r/events?limit=1001", "limit"),
        ("/runs/r/events?limit=1e2", "limit"),
        ("/runs/r/events?kind=", "kind"),
        ("/runs/r/events?visibility=secret", "visibility"),
        ("/runs/r/events?run_id=r", "run_id"),
        ("/runs/r/events?order=desc", "order"),
        ("/runs/r/stages?x=1", "x"),
    ],
)
def test_bad_parameters_are_400_naming_the_parameter(api: Api, path: str, field: str) -> None:
    api.fill(1, run_id="r")
    assert_problem(api.get(path), 400, "INVALID_PARAMS", field)


@pytest.mark.parametrize("path", ["/runs", "/runs/r", "/runs/r/events", "/runs/r/stages"])
def test_runs_are_made_by_events_alone(api: Api, path: str) -> None:
    for method in ("POST", "PUT", "DELETE"):
        answer = api.client.request(method, api.base + path, json={"kind": "a"})
        assert_problem(answer, 405, "METHOD_NOT_ALLOWED")
        assert answer.headers["allow"] == "GET, HEAD"
    assert api.last_offset() == 0


def test_workspaces_do_not_see_each_others_runs(api: Api) -> None:
    other = Api(api.client, api.workspace + ".b")
    other.fill(1, run_id="r")
    assert _runs(api) == []
    assert_problem(api.get("/runs/r"), 404, "NOT_FOUND")

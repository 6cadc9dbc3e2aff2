"""Reading over HTTP: pages, one event, activity, the state of a log, clearing it, and the list of workspaces."""

import pytest

from tests.server.api import Api, assert_problem


def test_pages_by_cursor_show_every_event_once(api: Api) -> None:
    events = api.fill(25)
    found: list[object] = []
    cursor, at_end = "0", False
    while not at_end:
        page = api.get(f"/events?since={cursor}&limit=10").json()
        found += page["events"]
        cursor, at_end = page["cursor"], page["at_end"]
        assert page["gap"] is None
        assert page["epoch"]
    assert found == events


def test_without_since_a_page_begins_at_the_oldest_and_has_100_events(api: Api) -> None:
    api.fill(120)
    assert api.offsets("") == list(range(1, 101))


def test_descending_pages_go_back_by_until(api: Api) -> None:
    api.fill(7)
    first = api.get("/events?order=desc&limit=4").json()
    second = api.get(f"/events?order=desc&limit=4&until={first['cursor']}").json()
    assert [e["offset"] for e in first["events"] + second["events"]] == [7, 6, 5, 4, 3, 2, 1]
    assert (first["at_end"], second["at_end"]) == (False, True)


def test_until_is_exclusive_as_since_is(api: Api) -> None:
    api.fill(6)
    assert api.offsets("?since=2&until=5") == [3, 4]


def test_a_limit_of_zero_probes(api: Api) -> None:
    api.fill(3)
    page = api.get("/events?since=1&limit=0").json()
    assert (page["events"], page["cursor"], page["at_end"]) == ([], "1", False)


def test_filters_narrow_a_page(api: Api) -> None:
    api.post([
        {"kind": "tool.invoked", "run_id": "r1"},
        {"kind": "tool.failed", "run_id": "r1", "lane_id": "l2", "visibility": "internal"},
        {"kind": "turn.started", "run_id": "r2", "stage_name": "a b", "visibility": "private"},
        {"kind": "toolbox"},
    ])  # fmt: skip
    for query, offsets in {
        "kind=tool.*": [1, 2],
        "kind=tool.failed&kind=turn.started": [2, 3],
        "kind=*": [1, 2, 3, 4],
        "run_id=r1": [1, 2],
        "run_id=r1&lane_id=l2": [2],
        "stage_name=a+b": [3],
        "stage_name=a%20b": [3],
        "visibility=public": [1, 4],
        "visibility=internal": [1, 2, 4],
        "visibility=private": [1, 2, 3, 4],
        "run_id=r1&kind=turn.*": [],
    }.items():
        assert api.offsets(f"?since=0&{query}") == offsets, query


def test_since_time_leaves_out_what_is_older(api: Api) -> None:
    event = api.fill(1)[0]
    assert api.offsets(f"?since_time={event['timestamp']:.3f}") == [1]
    assert api.offsets(f"?since_time={event['timestamp'] - 0.3}") == [1]
    assert api.offsets("?since_time=0.30000000000000004") == [1]
    assert api.offsets(f"?since_time={event['timestamp'] + 1:.3f}") == []


def test_what_was_cleared_is_told_as_a_gap(api: Api) -> None:
    api.fill(5)
    assert api.client.delete(f"{api.base}/events").json() == {"removed": 5}
    api.fill(1)
    page = api.get("/events?since=2").json()
    assert page["gap"] == {"missed": 3, "from_offset": 3, "to_offset": 5, "reason": "trimmed"}
    assert [e["offset"] for e in page["events"]] == [6]


def test_a_cursor_of_another_epoch_is_told_as_a_reset(api: Api) -> None:
    api.fill(5)
    page = api.get("/events?since=3&epoch=somewhere-else").json()
    assert page["gap"]["reason"] == "reset"
    assert [e["offset"] for e in page["events"]] == [1, 2, 3, 4, 5]


def test_one_event_is_found_by_its_id_and_gone_when_cleared(api: Api) -> None:
    event = api.fill(3)[1]
    assert api.get(f"/events/{event['id']}").json() == event
    assert_problem(api.get(f"/events/{event['id'].split('-')[0]}-99"), 404, "NOT_FOUND")
    api.client.delete(f"{api.base}/events")
    assert_problem(api.get(f"/events/{event['id']}"), 404, "NOT_FOUND")


def test_activity_is_newest_first_with_a_summary(api: Api) -> None:
    api.fill(60)
    api.post({"kind": "run.failed", "run_id": "r1", "payload": {"error": "no \u001b[31mluck\u2028"}})
    page = api.get("/activity").json()
    assert [e["offset"] for e in page["events"]] == list(range(61, 11, -1))
    assert page["events"][0]["summary"] == "run r1 failed: no \\x1b[31mluck\\u2028"
    assert page["events"][1]["summary"] == 'made.up {"n":60}'
    older = api.get(f"/activity?until={page['cursor']}&limit=100").json()
    assert [e["offset"] for e in older["events"]] == list(range(11, 0, -1))
    assert older["at_end"] is True


def test_activity_takes_filters(api: Api) -> None:
    api.post([{"kind": "a"}, {"kind": "b"}, {"kind": "a"}])
    assert [e["offset"] for e in api.get("/activity?kind=a").json()["events"]] == [3, 1]


def test_the_state_of_a_log_is_told(api: Api) -> None:
    events = api.fill(3)
    state = api.get("/log").json()
    assert (state["workspace"], state["backend"], state["length"], state["trimmed"]) == (api.workspace, "redis", 3, 0)
    assert (state["first_id"], state["last_id"], state["last_offset"]) == (events[0]["id"], events[2]["id"], 3)
    assert state["bytes"] > 0
    assert state["retention"] == {"ttl_seconds": 3600, "max_entries": 10_000}


def test_workspaces_are_listed_with_the_latest_active_first(api: Api) -> None:
    other = Api(api.client, api.workspace + ".b")
    api.fill(2)
    event = other.fill(1)[0]
    listed = {one["workspace"]: one for one in api.client.get("/v1/workspaces").json()["workspaces"]}
    assert list(listed).index(other.workspace) <= list(listed).index(api.workspace)
    found = listed[other.workspace]
    assert (found["last_offset"], found["length"], found["last_activity"]) == (1, 1, event["timestamp"])
    assert found["bytes"] > 0


@pytest.mark.parametrize("limit", [1, 2, 3, 4])
def test_workspaces_come_page_by_page(api: Api, limit: int) -> None:
    names = [api.workspace + letter for letter in (".a", ".b", "-c", ".d")]
    for name in names:
        Api(api.client, name).fill(1)
    found: list[str] = []
    page = {"cursor": api.workspace, "at_end": False}
    while not page["at_end"] and not set(names) <= set(found):
        answer = api.client.get("/v1/workspaces", params={"after": page["cursor"], "limit": limit})
        page = answer.json()
        assert len(page["workspaces"]) <= limit
        found += sorted(one["workspace"] for one in page["workspaces"])
    assert [name for name in found if name in names] == sorted(names)
    assert api.client.get("/v1/workspaces?limit=1000").json()["at_end"] is True


@pytest.mark.parametrize(("query", "field"), [("limit=0", "limit"), ("limit=1001", "limit"), ("after=a/b", "after")])
def test_what_is_wrong_with_a_page_of_workspaces_is_named(api: Api, query: str, field: str) -> None:
    assert_problem(api.client.get(f"/v1/workspaces?{query}"), 400, "INVALID_PARAMS", field)


def test_workspaces_that_share_letters_share_nothing(api: Api) -> None:
    names = [api.workspace, api.workspace + ".", api.workspace.upper(), api.workspace + "-"]
    for number, name in enumerate(names, 1):
        Api(api.client, name).fill(number)
    assert [Api(api.client, name).last_offset() for name in names] == [1, 2, 3, 4]


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/docs", "/openapi.json", "/v1/workspaces"])
def test_what_lies_outside_of_workspaces_is_there(api: Api, path: str) -> None:
    assert api.client.get(path).status_code == 200

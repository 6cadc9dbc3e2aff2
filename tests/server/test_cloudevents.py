"""CloudEvents 1.0 over HTTP: structured, binary, batched, and back out."""

import base64
from typing import Any

import pytest

from tests.server.api import Api, assert_problem

STRUCTURED = "application/cloudevents+json"
BATCH = "application/cloudevents-batch+json"
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def cloudevent(**more: Any) -> dict[str, Any]:
    return {"specversion": "1.0", "id": "1", "source": "/build", "type": "build.done", "data": {"ok": True}, **more}


FULL = cloudevent(
    time="2020-01-01T00:00:00Z",
    subject="s",
    datacontenttype="application/json",
    runid="r1",
    laneid="l1",
    stagename="compile",
    groupid="g1",
    visibility="internal",
    traceparent=TRACE,
)


def test_a_structured_event_becomes_one_of_ours(api: Api) -> None:
    answer = api.post(FULL, STRUCTURED)
    assert answer.status_code == 201
    event = answer.json()
    assert event["timestamp"] > 1_700_000_000, "the log's clock counts, not the producer's"
    del event["id"], event["timestamp"]
    assert event == {
        "offset": 1,
        "kind": "build.done",
        "payload": {"ok": True},
        "run_id": "r1",
        "lane_id": "l1",
        "seq": 1,
        "stage_name": "compile",
        "group_id": "g1",
        "visibility": "internal",
        "source": "/build",
        "traceparent": TRACE,
    }


def test_a_redelivery_is_a_duplicate_and_another_source_is_not(api: Api) -> None:
    first = api.post(cloudevent(), STRUCTURED)
    again = api.post(cloudevent(data={"ok": False}), STRUCTURED + "; charset=UTF-8")
    other = api.post(cloudevent(source="/other"), STRUCTURED)
    assert [answer.status_code for answer in (first, again, other)] == [201, 200, 201]
    assert again.json() == {**first.json(), "duplicate": True}


def test_a_binary_event_has_its_attributes_in_headers(api: Api) -> None:
    headers = {"ce-specversion": "1.0", "ce-id": "7", "ce-source": "/caf%C3%A9", "ce-type": "a.b", "ce-runid": "r"}
    answer = api.post({"x": 1}, **headers)
    assert answer.status_code == 201
    assert (answer.json()["source"], answer.json()["payload"], answer.json()["run_id"]) == ("/café", {"x": 1}, "r")
    assert api.post({"x": 1}, **headers).status_code == 200
    assert api.post(b"", None, **{**headers, "ce-id": "8"}).json()["payload"] == {}


def test_a_batch_is_atomic_and_ordered(api: Api) -> None:
    answer = api.post([cloudevent(id="1"), cloudevent(id="2", type="b")], BATCH)
    assert answer.status_code == 201
    assert [event["kind"] for event in answer.json()["events"]] == ["build.done", "b"]
    refused = api.post([cloudevent(id="3"), cloudevent(id="4", type="")], BATCH)
    assert assert_problem(refused, 400, "INVALID_PARAMS", "type")["index"] == 1
    assert api.last_offset() == 2


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"specversion": "0.3"}, "specversion"),
        ({"id": ""}, "id"),
        ({"id": 7}, "id"),
        ({"source": None}, "source"),
        ({"type": "a b"}, "type"),
        ({"data": "text"}, "data"),
        ({"data": [1]}, "data"),
        ({"data_base64": base64.b64encode(b"x").decode()}, "data_base64"),
        ({"datacontenttype": "text/xml"}, "datacontenttype"),
        ({"run_id": "r"}, "run_id"),
        ({"runid": "a b"}, "runid"),
        ({"runid": 7}, "runid"),
        ({"laneid": "l"}, "laneid"),
        ({"visibility": "all"}, "visibility"),
        ({"stagename": "\u0007"}, "stagename"),
    ],
)
def test_a_bad_attribute_is_named_as_cloudevents_name_it(api: Api, change: dict[str, Any], field: str) -> None:
    assert_problem(api.post(cloudevent(**change), STRUCTURED), 400, "INVALID_PARAMS", field)
    assert api.last_offset() == 0


@pytest.mark.parametrize("content", [b"[]", b"1", b"{}", b"x"])
def test_what_is_no_cloudevent_is_400(api: Api, content: bytes) -> None:
    field = "specversion" if content == b"{}" else "body"
    assert_problem(api.post(content, STRUCTURED), 400, "INVALID_PARAMS", field)


def test_a_batch_that_is_no_array_is_400(api: Api) -> None:
    assert_problem(api.post(cloudevent(), BATCH), 400, "INVALID_PARAMS", "body")


def test_a_header_key_beside_a_cloudevent_is_refused(api: Api) -> None:
    assert_problem(api.post(cloudevent(), STRUCTURED, Idempotency_Key="k"), 400, "INVALID_PARAMS", "Idempotency-Key")


def test_binary_data_that_is_not_json_is_415(api: Api) -> None:
    headers = {"ce-specversion": "1.0", "ce-id": "7", "ce-source": "/x", "ce-type": "a.b"}
    assert_problem(api.post(b"<x/>", "application/xml", **headers), 415, "UNSUPPORTED_MEDIA_TYPE")


def test_a_header_that_names_no_attribute_is_named(api: Api) -> None:
    assert_problem(api.post({"x": 1}, **{"ce-": "7"}), 400, "INVALID_PARAMS", "ce-")
    assert_problem(api.post({"x": 1}, **{"ce-a.b": "7"}), 400, "INVALID_PARAMS", "a.b")


def test_what_goes_in_comes_out(api: Api) -> None:
    api.post([FULL, cloudevent(id="2", data={"text": "é\u2028"})], BATCH)
    api.post({"kind": "ours"})
    answer = api.get("/events?since=0&limit=10", Accept=f"{BATCH}, application/json;q=0.1")
    assert answer.headers["content-type"] == BATCH
    assert answer.content.isascii()
    first, second, third = answer.json()
    kept = ("specversion", "source", "type", "datacontenttype", "data", "runid", "laneid", "stagename", "groupid")
    assert {name: first[name] for name in kept} == {name: FULL[name] for name in kept}
    assert (first["visibility"], first["traceparent"]) == ("internal", TRACE)
    assert second["data"] == {"text": "é\u2028"}
    assert third["source"] == api.base
    ours = api.get("/events?since=0").json()
    assert [e["id"] for e in (first, second, third)] == [e["id"] for e in ours["events"]]
    assert first["time"].endswith("Z")
    assert (answer.headers["eventlog-cursor"], answer.headers["eventlog-at-end"]) == (ours["cursor"], "true")
    assert answer.headers["eventlog-epoch"] == ours["epoch"]
    assert "eventlog-gap" not in answer.headers


def test_what_came_out_goes_into_another_log(api: Api) -> None:
    api.post([FULL, cloudevent(id="2")], BATCH)
    out = api.get("/events?since=0", Accept=BATCH).content
    other = Api(api.client, api.workspace + "-copy")
    assert other.post(out, BATCH).status_code == 201
    assert other.post(out, BATCH).status_code == 200
    assert [e["payload"] for e in other.get("/events?since=0").json()["events"]] == [{"ok": True}] * 2


def test_a_gap_is_told_in_a_header(api: Api) -> None:
    api.fill(3)
    api.client.delete(f"{api.base}/events")
    answer = api.get("/events?since=1", Accept=BATCH)
    assert answer.json() == []
    assert '"missed":2' in answer.headers["eventlog-gap"]

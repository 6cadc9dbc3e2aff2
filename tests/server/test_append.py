"""Appending over HTTP: one event, batches, repetition, conditions, content types."""

import pytest

from tests.server.api import Api, assert_problem


def test_one_event_is_answered_201_with_the_event(api: Api) -> None:
    answer = api.post({"kind": "tool.invoked", "payload": {"a": [1, None, "é\u2028"]}, "run_id": "r1", "source": "me"})
    assert answer.status_code == 201
    assert answer.headers["content-type"] == "application/json"
    event = answer.json()
    assert event["payload"] == {"a": [1, None, "é\u2028"]}
    assert (event["offset"], event["run_id"], event["lane_id"], event["seq"]) == (1, "r1", "main", 1)
    assert event["id"] == f"{round(event['timestamp'] * 1000)}-1"
    assert "duplicate" not in event
    assert answer.content.isascii()
    assert api.get(f"/events/{event['id']}").json() == event


def test_a_batch_is_contiguous_and_in_order(api: Api) -> None:
    events = api.fill(5)
    assert [(e["offset"], e["payload"]["n"]) for e in events] == [(n, n) for n in range(1, 6)]


def test_a_batch_with_one_bad_event_appends_nothing_and_names_it(api: Api) -> None:
    answer = api.post([{"kind": "a"}, {"kind": "b", "visibility": "secret"}, {"kind": "c"}])
    assert assert_problem(answer, 400, "INVALID_PARAMS", "visibility")["index"] == 1
    assert api.last_offset() == 0


def test_the_route_for_batches_takes_an_array_and_nothing_else(api: Api) -> None:
    path = f"{api.base}/events/batch"
    batch, key = [{"kind": "a"}, {"kind": "b"}], {"Idempotency-Key": "k"}
    first, again = (api.client.post(path, json=batch, headers=key) for _ in range(2))
    assert (first.status_code, [event["offset"] for event in first.json()["events"]]) == (201, [1, 2])
    assert (again.status_code, again.json()["duplicate"]) == (200, True)
    refused = api.client.post(path, json=[{"kind": "c"}, {"kind": ""}])
    assert assert_problem(refused, 400, "INVALID_PARAMS", "kind")["index"] == 1
    assert_problem(api.client.post(path, json={"kind": "a"}), 400, "INVALID_PARAMS", "body")
    assert_problem(api.client.post(path + "?expected_offset=7", json=batch), 409, "CONFLICT")
    for kind in ("application/x-ndjson", "application/cloudevents-batch+json", "text/plain"):
        answer = api.client.post(path, content="[]", headers={"Content-Type": kind})
        assert_problem(answer, 415, "UNSUPPORTED_MEDIA_TYPE")
    assert api.last_offset() == 2


def test_an_empty_batch_appends_nothing(api: Api) -> None:
    answer = api.post([])
    assert (answer.status_code, answer.json()) == (201, {"events": []})
    assert api.last_offset() == 0


@pytest.mark.parametrize("by_header", [True, False])
def test_a_repeated_key_returns_the_first_event_as_a_duplicate(api: Api, by_header: bool) -> None:
    headers = {"Idempotency_Key": "k1"} if by_header else {}
    own = {} if by_header else {"idempotency_key": "k1"}
    first = api.post({"kind": "a", "payload": {"n": 1}, **own}, **headers)
    again = api.post({"kind": "b", "payload": {"n": 2}, **own}, **headers)
    assert (first.status_code, again.status_code) == (201, 200)
    assert again.json() == {**first.json(), "duplicate": True}
    assert api.last_offset() == 1


def test_a_repeated_batch_returns_the_first_batch(api: Api) -> None:
    batch = [{"kind": "a"}, {"kind": "b", "run_id": "r"}]
    first = api.post(batch, Idempotency_Key="k2")
    again = api.post(batch, Idempotency_Key="k2")
    assert (first.status_code, again.status_code) == (201, 200)
    assert again.json()["duplicate"] is True
    assert again.json()["events"] == [{**event, "duplicate": True} for event in first.json()["events"]]
    assert api.last_offset() == 2


def test_a_batch_that_repeats_in_part_is_201_and_marks_the_repeated(api: Api) -> None:
    api.post({"kind": "a", "idempotency_key": "k"})
    answer = api.post([{"kind": "a", "idempotency_key": "k"}, {"kind": "b"}])
    assert answer.status_code == 201
    assert [event.get("duplicate") for event in answer.json()["events"]] == [True, None]
    assert "duplicate" not in answer.json()


@pytest.mark.parametrize("batch", [True, False])
def test_a_key_in_header_and_event_is_refused(api: Api, batch: bool) -> None:
    event = {"kind": "a", "idempotency_key": "k"}
    answer = api.post([event] if batch else event, Idempotency_Key="k")
    assert_problem(answer, 400, "INVALID_PARAMS", "idempotency_key")
    assert api.last_offset() == 0


def test_expected_offset_lets_one_of_two_writers_win(api: Api) -> None:
    assert api.post({"kind": "a"}, query="?expected_offset=0").status_code == 201
    document = assert_problem(api.post({"kind": "a"}, query="?expected_offset=0"), 409, "CONFLICT")
    assert (document["expected_offset"], document["last_offset"]) == (0, 1)
    assert api.post([{"kind": "a"}, {"kind": "b"}], query="?expected_offset=1").status_code == 201
    assert api.last_offset() == 3


@pytest.mark.parametrize(
    "content_type",
    [
        "application/json",
        "application/json; charset=utf-8",
        'application/JSON;charset="UTF-8"',
        "application/vnd.acme.event+json",
        None,
    ],
)
def test_json_is_taken_under_its_names(api: Api, content_type: str | None) -> None:
    assert api.post(b'{"kind":"a"}', content_type).status_code == 201


@pytest.mark.parametrize(
    "content_type",
    [
        "text/plain",
        "application/xml",
        "application/json; charset=latin-1",
        "multipart/form-data; boundary=x",
        "json",
        "",
    ],
)
def test_other_types_are_415_and_append_nothing(api: Api, content_type: str) -> None:
    assert_problem(api.post(b'{"kind":"a"}', content_type), 415, "UNSUPPORTED_MEDIA_TYPE")
    assert api.last_offset() == 0


def test_a_compressed_body_is_415(api: Api) -> None:
    assert_problem(api.post(b"\x1f\x8b", Content_Encoding="gzip"), 415, "UNSUPPORTED_MEDIA_TYPE")


def test_the_framework_and_the_fast_path_answer_alike(api: Api) -> None:
    """A path with an escaped letter is decoded before either sees it, and the trailing slash is no other route."""
    answer = api.client.post(f"/v1/workspaces/%77{api.workspace[1:]}/events", json={"kind": "a"})
    assert answer.status_code == 201
    assert api.last_offset() == 1


def test_a_web_page_of_another_site_cannot_append_unasked(api: Api) -> None:
    """A browser sends a body without a type from anywhere; one with our type it asks about first."""
    assert_problem(api.post(b'{"kind":"a"}', None, Origin="https://elsewhere.example"), 415, "UNSUPPORTED_MEDIA_TYPE")
    assert api.last_offset() == 0
    assert api.post(b'{"kind":"a"}', "application/json", Origin="http://127.0.0.1:8707").status_code == 201

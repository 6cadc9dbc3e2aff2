"""Bad input: the contract's problem, naming the field (and the index), and nothing appended."""

from typing import Any

import pytest

from tests.server.api import Api, assert_problem

DEEP = b'{"kind":"a","payload":' + b'{"a":' * 100_000 + b"1" + b"}" * 100_000 + b"}"
LONG = b"9" * 5000

BAD_BODIES: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "body"),
    "blank": (b" \n", "body"),
    "not JSON": (b"{kind}", "body"),
    "cut off": (b'{"kind":"a"', "body"),
    "two documents": (b'{"kind":"a"} {"kind":"b"}', "body"),
    "not UTF-8": (b'{"kind":"a","source":"\xff"}', "body"),
    "UTF-16": ('{"kind":"a"}'.encode("utf-16"), "body"),
    "lone surrogate": (rb'{"kind":"a","payload":{"x":"\ud800"}}', "body"),
    "NaN": (b'{"kind":"a","payload":{"x":NaN}}', "body"),
    "Infinity": (b'{"kind":"a","payload":{"x":-Infinity}}', "body"),
    "1e400": (b'{"kind":"a","payload":{"x":1e400}}', "body"),
    "depth 100,000": (DEEP, "body"),
    "depth 300": (b'{"kind":"a","payload":' + b'{"a":' * 300 + b"1" + b"}" * 301, "body"),
    "5,000 digits": (b'{"kind":"a","payload":{"x":' + LONG + b"}}", "body"),
    "2^64": (b'{"kind":"a","payload":{"x":18446744073709551616}}', "body"),
    "-2^63-1": (b'{"kind":"a","payload":{"x":[-9223372036854775809]}}', "body"),
    "key twice": (b'{"kind":"a","kind":"b"}', "body"),
    "key twice within": (b'{"kind":"a","payload":{"x":[{"y":1,"y":2}]}}', "body"),
    "key twice, escaped": (rb'{"kind":"a","payload":{"x":1,"\u0078":2}}', "body"),
    "a string": (b'"kind"', "body"),
    "a number": (b"1", "body"),
    "null": (b"null", "body"),
    "no kind": (b"{}", "kind"),
    "kind null": (b'{"kind":null}', "kind"),
    "kind empty": (b'{"kind":""}', "kind"),
    "kind a number": (b'{"kind":1}', "kind"),
    "kind with a blank": (b'{"kind":"a b"}', "kind"),
    "kind with a newline at its end": (rb'{"kind":"a\n"}', "kind"),
    "kind too long": (b'{"kind":"' + b"a" * 129 + b'"}', "kind"),
    "kind not ASCII": ('{"kind":"é"}'.encode(), "kind"),
    "unknown field": (b'{"kind":"a","colour":"red"}', "colour"),
    "field of the answer": (b'{"kind":"a","offset":7}', "offset"),
    "payload a list": (b'{"kind":"a","payload":[]}', "payload"),
    "payload a string": (b'{"kind":"a","payload":"x"}', "payload"),
    "run_id empty": (b'{"kind":"a","run_id":""}', "run_id"),
    "run_id a number": (b'{"kind":"a","run_id":7}', "run_id"),
    "lane without run": (b'{"kind":"a","lane_id":"l"}', "lane_id"),
    "visibility unknown": (b'{"kind":"a","visibility":"secret"}', "visibility"),
    "visibility null": (b'{"kind":"a","visibility":null}', "visibility"),
    "visibility a list": (b'{"kind":"a","visibility":[]}', "visibility"),
    "source with a control character": (rb'{"kind":"a","source":"\u001b[2J"}', "source"),
    "traceparent": (b'{"kind":"a","traceparent":"00-xyz"}', "traceparent"),
    "key empty": (b'{"kind":"a","idempotency_key":""}', "idempotency_key"),
    "key too long": (b'{"kind":"a","idempotency_key":"' + b"k" * 257 + b'"}', "idempotency_key"),
}


@pytest.mark.parametrize("name", BAD_BODIES)
def test_a_bad_body_is_400_and_appends_nothing(api: Api, name: str) -> None:
    raw, field = BAD_BODIES[name]
    document = assert_problem(api.post(raw), 400, "INVALID_PARAMS", field)
    assert len(document["detail"]) < 600
    assert api.last_offset() == 0


@pytest.mark.parametrize("name", [name for name, (_, field) in BAD_BODIES.items() if field != "body"])
def test_a_bad_event_in_a_batch_is_named_by_its_index(api: Api, name: str) -> None:
    raw, field = BAD_BODIES[name]
    document = assert_problem(api.post(b'[{"kind":"fine"},' + raw + b"]"), 400, "INVALID_PARAMS", field)
    assert document["index"] == 1
    assert api.last_offset() == 0


@pytest.mark.parametrize("event", [1, "a", None, [], True])
def test_a_batch_of_what_are_no_events_is_400(api: Api, event: Any) -> None:
    assert assert_problem(api.post([event]), 400, "INVALID_PARAMS", "event")["index"] == 0


@pytest.mark.parametrize(
    "raw",
    [
        b'{"kind":"a","payload":{"x":18446744073709551615,"y":-9223372036854775808}}',
        b'{"kind":"a","payload":{"x":"12345678901234567890123","y":1234567890123456789,"z":1234567890e10}}',
        rb'{"kind":"a","payload":{"x\"y":1,"x":2,"y":"\\"}}',
        b'{"kind":"a","payload":' + b'{"a":' * 200 + b"1" + b"}" * 201,
        b'{"kind":"a","payload":{"":{"":0}}}',
        b'\n{"kind" : "a" }\r\n',
    ],
)
def test_what_only_looks_bad_is_appended(api: Api, raw: bytes) -> None:
    assert api.post(raw).status_code == 201


BAD_QUERIES = {
    "since=abc": "since",
    "since=$": "since",
    "since=": "since",
    "since=-1": "since",
    "since=18446744073709551616": "since",
    "since=1-18446744073709551616": "since",
    "since=%D9%A3": "since",
    "since=1&since=2": "since",
    "until=x": "until",
    "limit=-1": "limit",
    "limit=1001": "limit",
    "limit=1e3": "limit",
    "limit=%205": "limit",
    "limit=5%20": "limit",
    "limit=%2B5": "limit",
    "limit=5.0": "limit",
    "limit=%D9%A3": "limit",
    "limit=": "limit",
    "limit=1&limit=1": "limit",
    "limit=99999999999999999999999": "limit",
    "kind=": "kind",
    "kind=a%20b": "kind",
    "kind=*.a": "kind",
    "&".join(["kind=a"] * 65): "kind",
    "run_id=": "run_id",
    "run_id=a%0Ab": "run_id",
    "lane_id=%00": "lane_id",
    "visibility=secret": "visibility",
    "visibility=": "visibility",
    "order=up": "order",
    "order=": "order",
    "since_time=now": "since_time",
    "since_time=-1": "since_time",
    "since_time=nan": "since_time",
    "since_time=1e999": "since_time",
    "since_time=9999999999999": "since_time",
    "epoch=%22": "epoch",
    "colour=red": "colour",
    "Limit=1": "Limit",
    "run_id=%FF": "query",
    "&".join(["kind=a"] * 300): "query",
}


@pytest.mark.parametrize(("query", "field"), BAD_QUERIES.items())
def test_a_bad_query_of_a_page_is_400_naming_the_parameter(api: Api, query: str, field: str) -> None:
    assert_problem(api.get(f"/events?{query}"), 400, "INVALID_PARAMS", field)


@pytest.mark.parametrize(
    ("path", "field"),
    [
        ("/events/stream?since=abc", "since"),
        ("/events/stream?limit=5", "limit"),
        ("/events/stream?until_terminal=true", "until_terminal"),
        ("/events/stream?until_terminal=yes&run_id=r", "until_terminal"),
        ("/events/stream?kind=", "kind"),
        ("/activity?since=1", "since"),
        ("/activity?limit=1001", "limit"),
        ("/log?x=1", "x"),
        ("/events/abc", "id"),
        ("/events/1-18446744073709551616", "id"),
        ("/events/1-2?x=1", "x"),
    ],
)
def test_bad_parameters_of_other_routes_are_400(api: Api, path: str, field: str) -> None:
    assert_problem(api.get(path), 400, "INVALID_PARAMS", field)


def test_a_bad_last_event_id_is_400(api: Api) -> None:
    answer = api.get("/events/stream", Last_Event_ID="abc")
    assert_problem(answer, 400, "INVALID_PARAMS", "Last-Event-ID")


@pytest.mark.parametrize(
    ("query", "field"),
    [("?expected_offset=-1", "expected_offset"), ("?expected_offset=1e3", "expected_offset"), ("?x=1", "x")],
)
def test_bad_parameters_of_an_append_are_400_and_append_nothing(api: Api, query: str, field: str) -> None:
    assert_problem(api.post({"kind": "a"}, query=query), 400, "INVALID_PARAMS", field)
    assert api.last_offset() == 0


@pytest.mark.parametrize("key", ["", "a b", "k" * 257, "a\tb"])
def test_a_bad_idempotency_key_is_400(api: Api, key: str) -> None:
    assert_problem(api.post({"kind": "a"}, Idempotency_Key=key), 400, "INVALID_PARAMS", "idempotency_key")
    assert_problem(api.post([{"kind": "a"}], Idempotency_Key=key), 400, "INVALID_PARAMS", "idempotency_key")
    assert api.last_offset() == 0


@pytest.mark.parametrize("name", ["a%20b", "%00", "a%0A", "%D9%A3", "a" * 65, "a*", "{x}"])
@pytest.mark.parametrize("path", ["events", "log", "activity", "events/stream", "events/1-1"])
def test_a_name_that_is_no_workspace_is_400(api: Api, name: str, path: str) -> None:
    assert_problem(api.client.get(f"/v1/workspaces/{name}/{path}"), 400, "INVALID_PARAMS", "workspace")
    posted = api.client.post(f"/v1/workspaces/{name}/events", json={"kind": "a"})
    assert_problem(posted, 400, "INVALID_PARAMS", "workspace")


def test_an_unknown_path_is_404_and_an_unknown_method_405(api: Api) -> None:
    assert_problem(api.client.get("/v1/nothing"), 404, "NOT_FOUND")
    answer = api.client.put(f"{api.base}/events", json={})
    assert_problem(answer, 405, "METHOD_NOT_ALLOWED")
    assert answer.headers["allow"] == "DELETE, GET, HEAD, POST"


def test_a_workspace_that_nobody_wrote_to_is_empty_not_unknown(api: Api) -> None:
    page = api.get("/events?since=0").json()
    assert (page["events"], page["gap"], page["at_end"]) == ([], None, True)
    assert api.get("/log").json()["length"] == 0

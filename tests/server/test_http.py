"""HTTP as it is spoken: by probes, proxies, polyfills and old clients, and by pages that should not speak it."""

import json

import httpx
import pytest
from eventlog_server import ServerSettings

from eventlog.errors import InvalidInput
from tests.server.api import NDJSON, Api, assert_problem, following, take
from tests.server.conftest import Serve
from tests.server.raw import RawConnection
from tests.support.redis_process import RedisProcess


def paths(api: Api) -> list[str]:
    """A path of every GET route that has an end."""
    document = api.client.get("/openapi.json").json()
    known = {"workspace": api.workspace, "run_id": "r", "ref": "a", "execution_id": "e", "kind": "pack", "name": "p"}
    known["event_id"] = api.get("/events?limit=1").json()["events"][0]["id"]
    found = [path.format(**known) for path, operations in document["paths"].items() if "get" in operations]
    return [path for path in [*found, "/docs", "/openapi.json"] if not path.endswith("/stream")]


def a_bit_of_everything(api: Api) -> None:
    api.fill(3, run_id="r")
    api.client.post(f"{api.base}/actions/a/slots", json={"execution_id": "e"}).raise_for_status()
    for scope in ("pack/p", "global"):
        api.client.put(f"{api.base}/policies/{scope}", json={"max_concurrent": 1}).raise_for_status()


def test_head_is_answered_as_get_is_but_without_the_body(api: Api) -> None:
    a_bit_of_everything(api)
    varying = ("/readyz", "/v1/workspaces", "/slots/e", "/queue-stats", "/actions", "/log")
    for path in paths(api):
        got, head = api.client.get(path), api.client.head(path)
        assert (head.status_code, head.headers.get("content-type")) == (200, got.headers["content-type"]), path
        assert head.content == b""
        assert path.endswith(varying) or head.headers["content-length"] == str(len(got.content))


@pytest.mark.parametrize("accept", ["text/event-stream", NDJSON])
def test_head_of_a_stream_has_an_end(api: Api, server_url: str, accept: str) -> None:
    with RawConnection(server_url) as connection:
        path = f"{api.base}/events/stream?since=0"
        connection.send(f"HEAD {path} HTTP/1.1\r\nhost: x\r\naccept: {accept}\r\n\r\n".encode())
        head = connection.until(b"\r\n\r\n")
        assert b" 200 " in head
        assert accept.encode() in head
        connection.send(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n")
        assert connection.response().json()["ok"], "nothing of a body came between"


def test_head_of_what_is_not_there_or_not_allowed_is_what_get_is(api: Api) -> None:
    for path in ("/nothing", api.base + "/runs/none", api.base + "/actions/a/limit", api.base + "/events?limit=x"):
        assert api.client.head(path).status_code == api.client.get(path).status_code >= 400
    assert api.client.put(api.base + "/events").headers["allow"] == "DELETE, GET, HEAD, POST"


def test_a_slash_behind_a_path_changes_nothing_and_leads_nowhere_else(api: Api) -> None:
    a_bit_of_everything(api)
    through_tls = {"X-Forwarded-Proto": "https", "X-Forwarded-Host": "log.example.com"}
    for path in paths(api):
        answer = api.client.get(path + "/", headers=through_tls)
        assert (answer.status_code, answer.headers.get("location")) == (200, None), path
    appended = api.client.post(f"{api.base}/events/", json={"kind": "a"}, headers=through_tls)
    assert (appended.status_code, appended.json()["kind"]) == (201, "a")
    assert api.client.put(f"{api.base}/policies/global/", json={"max_concurrent": 2}).json()["max_concurrent"] == 2
    assert api.client.delete(f"{api.base}/events/").json() == {"removed": 5}
    for nowhere in ("//", "/nothing/", api.base + "/events//", api.base + "/"):
        assert_problem(api.client.get(nowhere, headers=through_tls), 404, "NOT_FOUND")


@pytest.mark.parametrize("slash", ["%2F", "%2f"])
def test_a_slash_that_is_encoded_parts_no_names(api: Api, slash: str) -> None:
    api.fill(1, run_id="r")
    for method, path in (
        ("POST", f"{slash}events"),
        ("DELETE", f"{slash}events"),
        ("GET", f"{slash}log"),
        ("GET", f"/runs/r{slash}events"),
        ("POST", f"/events{slash}"),
        ("PUT", f"/policies/pack{slash}p"),
    ):
        answer = api.client.request(method, api.base + path, json={"kind": "a"})
        assert "%2F" in assert_problem(answer, 404, "NOT_FOUND")["detail"]
    assert api.last_offset() == 1


@pytest.mark.parametrize("name", ["lastEventId", "lastEventID", "last-event-id", "Last-Event-ID", "last_event_id"])
def test_a_stream_resumes_by_the_parameter_of_a_polyfill(api: Api, name: str) -> None:
    ids = [event["id"] for event in api.fill(3)]
    for query in (f"?{name}={ids[0]}", f"?since={ids[2]}&{name}={ids[0]}", f"?{name}={ids[0]}&since=0"):
        with following(api, query) as stream:
            assert [message.id for message in take(stream, 2)] == ids[1:]
    with following(api, f"?{name}={ids[0]}", Last_Event_ID=ids[1]) as stream:
        assert take(stream, 1)[0].id == ids[2]
    with following(api, f"?{name}=&since={ids[1]}") as stream:
        assert take(stream, 1)[0].id == ids[2]


@pytest.mark.parametrize(
    ("query", "field"), [("lastEventId=x", "lastEventId"), ("lastEventID=1&last-event-id=1", "last-event-id")]
)
def test_a_bad_parameter_of_a_polyfill_is_refused_by_name(api: Api, query: str, field: str) -> None:
    assert_problem(api.get(f"/events/stream?{query}"), 400, "INVALID_PARAMS", field)
    assert_problem(api.get("/events?lastEventId=1"), 400, "INVALID_PARAMS", "lastEventId")


FOREIGN = ["rebound.example", "rebound.example:8707", "localhost.rebound.example", "10.1.1.1.rebound.example",
           "192.0.2.7", "192.0.2.7:80", "[2001:db8::1]", "a.b.", "x.", "user@localhost", "localhost:80:8",
           "localhost#", "localhost,x", "%6cocalhost", "localhost..", "[::ffff:192.0.2.7]"]  # fmt: skip
OURS = ["localhost", "LOCALHOST:1", "localhost.", "app.localhost:8707", "127.0.0.1", "127.8.8.8:99", "[::1]:8707",
        "0.0.0.0:8707", "eventlog", "eventlog:8707", "[::ffff:127.0.0.1]:8707"]  # fmt: skip


@pytest.mark.parametrize("host", FOREIGN)
def test_a_host_that_is_not_ours_is_neither_served_nor_obeyed(api: Api, host: str) -> None:
    api.fill(1)
    other = {"Host": host, "Origin": f"http://{host}", "Sec-Fetch-Site": "same-origin"}
    for method, path, body in (
        ("GET", "/events", None),
        ("HEAD", "/events", None),
        ("GET", "/events/stream", None),
        ("POST", "/events", {"kind": "evil"}),
        ("DELETE", "/events", None),
        ("DELETE", "/actions", None),
        ("PUT", "/policies/global", {}),
        ("POST", "/actions/a/slots", {"execution_id": "e"}),
    ):
        answer = api.client.request(method, api.base + path, json=body, headers=other)
        assert answer.status_code == 421, (method, path)
    problem = assert_problem(api.get("/log", **other), 421, "HOST_NOT_ALLOWED")
    assert "EVENTLOG_ALLOWED_HOSTS" in problem["detail"]
    assert api.last_offset() == 1


@pytest.mark.parametrize("host", OURS)
def test_a_host_that_is_ours_is_served(api: Api, host: str) -> None:
    assert api.get("/log", Host=host).status_code == 200
    assert api.post({"kind": "a"}, Host=host).status_code == 201


def test_several_hosts_are_refused_and_none_is_old(server_url: str, api: Api) -> None:
    with RawConnection(server_url) as connection:
        connection.send(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\nhost: evil.example\r\n\r\n")
        assert_problem(connection.response(), 400, "INVALID_PARAMS", "Host")
        connection.send(b"GET /healthz HTTP/1.1\r\n\r\n")
        assert_problem(connection.response(), 400, "INVALID_PARAMS", "Host")
        connection.send(b"GET /healthz HTTP/1.1\r\nhost: \tlocalhost\t \r\n\r\n")
        assert connection.response().status_code == 200
        connection.send(b"GET /healthz HTTP/1.0\r\n\r\n")
        assert connection.response().status_code == 200


@pytest.mark.parametrize(
    ("target", "fields", "status"),
    [
        ("http://localhost:8707", b"host: evil.example\r\n", 200),
        ("HTTP://user@LOCALHOST", b"host: localhost\r\n", 200),
        ("http://[::1]:8707", b"host: localhost\r\n", 200),
        ("http://evil.example", b"host: localhost\r\n", 421),
        ("http://localhost@evil.example:80", b"host: localhost\r\n", 421),
        ("http://evil.example", b"", 421),
        ("http://localhost", b"host: localhost\r\nhost: localhost\r\n", 400),
    ],
)
@pytest.mark.parametrize("offer", [b"", b"connection: upgrade\r\nupgrade: h2c\r\n"])
@pytest.mark.parametrize("version", ["1.1", "1.0"])
def test_a_host_in_the_target_goes_before_the_field(
    server_url: str, target: str, fields: bytes, status: int, offer: bytes, version: str
) -> None:
    with RawConnection(server_url) as connection:
        connection.send(b"GET %s/healthz HTTP/%s\r\n" % (target.encode(), version.encode()) + fields + offer + b"\r\n")
        assert connection.response().status_code == status


def test_other_names_are_the_operators_to_give(redis_server: RedisProcess, serve: Serve) -> None:
    names = ("log.example.com.", "*.Example.org", "192.0.2.9")
    with serve(redis_server.url, host="0.0.0.0", allowed_hosts=names) as url, httpx.Client(base_url=url) as client:
        served = {
            host: client.get("/healthz", headers={"Host": host}).status_code
            for host in ("LOG.example.com:443", "a.b.example.org", "192.0.2.7", "[2001:db8::1]:80", "example.org")
        }
    assert list(served.values()) == [200, 200, 200, 200, 421]
    with serve(redis_server.url, allowed_hosts="*") as url:
        assert httpx.get(url + "/healthz", headers={"Host": "anything.example"}).status_code == 200


@pytest.mark.parametrize(
    "wrong", ["https://log.example.com", "log.example.com:443", "", "*example.com", "a b", "a/b", "é.example.com", "."]
)
def test_a_name_that_is_none_is_refused_by_its_variable(wrong: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        ServerSettings.load(environ={"EVENTLOG_ALLOWED_HOSTS": f"log.example.com,{wrong}"})
    assert caught.value.field == "EVENTLOG_ALLOWED_HOSTS"
    assert repr(wrong) in caught.value.problem


# What lies under HTTP: framing, old versions, offers of other protocols

EVENT = b'{"kind":"a"}'
LENGTH = b"content-length: 12"
CHUNKED = b"transfer-encoding: chunked"
CHUNKS = b"c\r\n" + EVENT + b"\r\n0\r\n\r\n"
OFFERS = [
    (b"connection: Upgrade, HTTP2-Settings", b"upgrade: h2c", b"http2-settings: AAMAAABkAAQBAAAAAAIAAAAA"),
    (b"connection: keep-alive, upgrade", b"upgrade: websocket", b"sec-websocket-version: 13"),
    (b"Upgrade: h2c, foo/1", b"CONNECTION: UPGRADE", b"upgrade: bar"),
]


def request(body: bytes, *fields: bytes, path: str, method: str = "POST", version: str = "1.1") -> bytes:
    line = f"{method} {path} HTTP/{version}".encode()
    return b"\r\n".join((line, b"host: localhost", *fields, b"", body))


def events_of(api: Api) -> list[tuple[str, dict[str, int]]]:
    return [(event["kind"], event["payload"]) for event in api.get("/events").json()["events"]]


@pytest.mark.parametrize("offer", OFFERS)
@pytest.mark.parametrize("chunked", [False, True])
def test_an_offer_to_speak_another_protocol_costs_no_body(
    server_url: str, api: Api, offer: tuple[bytes, ...], chunked: bool
) -> None:
    def ask(connection: RawConnection, method: str, path: str, body: bytes, kind: str = "application/json") -> None:
        framing = CHUNKED if chunked else b"content-length: %d" % len(body)
        chunks = b"%x\r\n%s\r\n" % (len(body), body) if body else b""
        framed = chunks + b"0\r\n\r\n" if chunked else body
        fields = (*offer, framing, b"content-type: " + kind.encode())
        connection.send(request(framed, *fields, path=api.base + path, method=method))

    with RawConnection(server_url) as connection:
        ask(connection, "POST", "/events", b'{"kind":"a","payload":{"n":1}}')
        assert connection.response().status_code == 201
        ask(connection, "PUT", "/policies/global", b'{"max_concurrent":5}')
        assert connection.response().json()["max_concurrent"] == 5
        ask(connection, "POST", "/actions/build/slots", b'{"execution_id":"e"}')
        assert connection.response().json()["state"] == "granted"
        ask(connection, "PUT", "/actions/build/slots/e/lease", b'{"fencing_token":1}')
        assert connection.response().status_code == 409
        ask(connection, "GET", "/log", b"")
        assert connection.response().json()["last_offset"] >= 1
        ask(connection, "POST", "/events", b'{"kind":"b"}\n{"kind":"c"}\n' * 500, NDJSON)
        connection.until(b"0\r\n\r\n")
        ask(connection, "POST", "/events", b"[]")
        assert connection.response().json() == {"events": []}, "the connection is in step"
    kinds = [kind for kind, _ in events_of(api) if not kind.startswith("slot.")]
    assert kinds == ["a", *["b", "c"] * 500][: len(kinds)]
    assert api.last_offset() >= 1001


@pytest.mark.parametrize("version", ["1.0", "0.9", "2.0"])
@pytest.mark.parametrize("accept", ["text/event-stream", NDJSON])
def test_a_version_without_chunks_gets_none(server_url: str, api: Api, version: str, accept: str) -> None:
    api.fill(1, run_id="r")
    api.post({"kind": "run.finished", "run_id": "r"})
    with RawConnection(server_url) as connection:
        path = f"{api.base}/events/stream?since=0&run_id=r&until_terminal=true"
        connection.send(request(b"", b"accept: " + accept.encode(), path=path, method="GET", version=version))
        head, body = connection.until(b"\r\n\r\n"), connection.rest()
    assert b"transfer-encoding" not in head
    assert b"connection: close" in head
    assert body.startswith(b'{"id"' if accept == NDJSON else b"id: ")
    assert body.endswith(b"\n")


def test_lines_and_documents_over_http_1_0_are_whole(server_url: str, api: Api) -> None:
    lines = b'{"kind":"a"}\n' * 3
    with RawConnection(server_url) as connection:
        fields = (b"content-type: " + NDJSON.encode(), b"content-length: %d" % len(lines), b"connection: keep-alive")
        connection.send(request(lines, *fields, path=api.base + "/events", version="1.0"))
        connection.until(b"\r\n\r\n")
        assert [json.loads(line)["offset"] for line in connection.rest().splitlines()] == [1, 2, 3]
    with RawConnection(server_url) as connection:
        fields = (LENGTH, b"expect: 100-continue")
        connection.send(request(EVENT, *fields, path=api.base + "/events", version="1.0"))
        assert connection.response().status_code == 201
        assert connection.closed_by_server()


@pytest.mark.parametrize("offer", [(), OFFERS[0]])
def test_a_client_that_was_not_told_to_go_on_is_not_waited_for(
    server_url: str, api: Api, offer: tuple[bytes, ...]
) -> None:
    path = api.base + "/events"
    for fields, status in (
        ((b"content-length: 99999999",), 413),
        ((LENGTH, b"content-type: text/plain"), 415),
        ((CHUNKED, b"content-encoding: gzip"), 415),
    ):
        with RawConnection(server_url) as connection:
            connection.send(request(b"", *fields, *offer, b"expect: 100-continue", path=path))
            answer = connection.response()
            assert (answer.status_code, answer.headers["connection"]) == (status, "close")
            assert connection.closed_by_server()
    with RawConnection(server_url) as connection:
        connection.send(request(b"", LENGTH, *offer, b"expect: 100-continue", path=path))
        assert connection.until(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.send(EVENT)
        assert connection.response().status_code == 201
        connection.send(request(b"", b"expect: 100-continue", path="/healthz", method="GET"))
        connection.send(request(b"", path="/healthz", method="GET"))
        assert [connection.response().status_code for _ in range(2)] == [200, 200], "there was no body to wait for"
    assert api.last_offset() == 1


@pytest.mark.parametrize(
    ("fields", "body"),
    [
        ((LENGTH, LENGTH), EVENT),
        ((LENGTH, b"content-length: 5"), EVENT),
        ((b"content-length: 12, 12",), EVENT),
        ((b"content-length: +12",), EVENT),
        ((b"content-length: 0xc",), EVENT),
        ((b"content-length: -1",), EVENT),
        ((b"content-length:",), EVENT),
        ((b"content-length: 99999999999999999999999",), EVENT),
        ((b"content-length : 12",), EVENT),
        ((LENGTH, CHUNKED), CHUNKS),
        ((CHUNKED, LENGTH), CHUNKS),
        ((CHUNKED, CHUNKED), CHUNKS),
        ((b"transfer-encoding: chunked, identity",), CHUNKS),
        ((b"transfer-encoding: xchunked",), CHUNKS),
        ((b"transfer-encoding: \x0bchunked",), CHUNKS),
        ((b"transfer-encoding : chunked",), CHUNKS),
        ((LENGTH, b"x: a\r\n b"), EVENT),
        ((LENGTH, b"x: a\0b"), EVENT),
        ((LENGTH, b"x"), EVENT),
        ((CHUNKED,), b"0xc\r\n" + EVENT + b"\r\n0\r\n\r\n"),
        ((CHUNKED,), b"c\n" + EVENT + b"\n0\n\n"),
        ((CHUNKED,), b"c\r\n" + EVENT + b"0\r\n\r\n"),
        ((CHUNKED,), b"fffffffffffffffff\r\n" + EVENT),
        ((*OFFERS[0], LENGTH, CHUNKED), CHUNKS),
        ((*OFFERS[0], CHUNKED), b"c\r\n" + EVENT + b"x"),
    ],
)
def test_a_body_that_could_be_read_in_two_ways_is_refused(
    server_url: str, api: Api, fields: tuple[bytes, ...], body: bytes
) -> None:
    path = api.base + "/events"
    with RawConnection(server_url) as connection:
        connection.send(request(EVENT, LENGTH, path=path) + request(body, *fields, path=path))
        assert connection.response().status_code == 201, "what came before it is answered, and first"
        assert_problem(connection.response(), 400, "INVALID_PARAMS", "request")
        assert connection.closed_by_server()
    assert api.last_offset() == 1


@pytest.mark.parametrize(
    ("fields", "body"),
    [
        ((b"content-length: 13",), EVENT),
        ((b"content-length: 100000",), EVENT + b" " * 50_000),
        ((CHUNKED,), b""),
        ((CHUNKED,), b"c\r\n" + EVENT),
        ((CHUNKED,), b"c\r\n" + EVENT + b"\r\n"),
        ((CHUNKED,), b"c\r\n" + EVENT + b"\r\n0\r\n"),
        ((*OFFERS[0], b"content-length: 13"), EVENT),
        ((b"content-length: 30", b"content-type: " + NDJSON.encode()), EVENT),
    ],
)
@pytest.mark.parametrize("ends", ["sending", "all"])
def test_a_body_that_is_cut_is_never_taken_for_whole(
    server_url: str, api: Api, fields: tuple[bytes, ...], body: bytes, ends: str
) -> None:
    with RawConnection(server_url) as connection:
        connection.send(request(body, *fields, path=api.base + "/events"))
        if ends == "sending":
            connection.end_sending()
            assert connection.closed_by_server()
    assert api.post({"kind": "b"}).json()["offset"] == 1


@pytest.mark.parametrize("target", ["localhost:443", "/healthz"])
def test_connect_is_refused_once(server_url: str, target: str) -> None:
    with RawConnection(server_url) as connection:
        connection.send(request(b"", path=target, method="CONNECT"))
        assert_problem(connection.response(), 400, "INVALID_PARAMS", "request")
        assert connection.rest() == b""

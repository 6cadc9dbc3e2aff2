"""Limits of bodies, batches, payloads and patience."""

import gc
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import httpx
import pytest
from eventlog_server.connection import GuardedConnection
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from tests.server.api import Api, assert_problem
from tests.server.conftest import Serve
from tests.server.raw import RawConnection
from tests.support.redis_process import RedisProcess

MIB = 1024 * 1024


def event_of(size: int) -> bytes:
    """An event whose payload has this many bytes encoded."""
    return b'{"kind":"a","payload":{"x":"' + b"y" * (size - 8) + b'"}}'


def test_a_payload_at_its_limit_is_taken_and_a_byte_more_is_413(api: Api) -> None:
    assert api.post(event_of(65536)).status_code == 201
    assert_problem(api.post(event_of(65537)), 413, "PAYLOAD_TOO_LARGE", "payload")
    assert api.last_offset() == 1


def test_a_large_payload_in_a_batch_is_named_by_its_index(api: Api) -> None:
    answer = api.post(b"[" + event_of(9) + b"," + event_of(65537) + b"]")
    document = assert_problem(answer, 413, "PAYLOAD_TOO_LARGE", "payload")
    assert document["index"] == 1
    assert api.last_offset() == 0


def test_a_batch_at_its_limit_is_taken_and_an_event_more_is_413(api: Api) -> None:
    assert api.post([{"kind": "a"}] * 1000).status_code == 201
    assert_problem(api.post([{"kind": "a"}] * 1001), 413, "PAYLOAD_TOO_LARGE", "events")
    assert api.last_offset() == 1000


def test_a_body_over_a_mebibyte_is_413(api: Api) -> None:
    assert_problem(api.post(b" " * (MIB + 1)), 413, "PAYLOAD_TOO_LARGE", "body")
    assert api.post(b'{"kind":"a"}' + b" " * (MIB - 12)).status_code == 201


def test_a_body_that_says_it_is_too_large_is_refused_before_it_is_sent(server_url: str, workspace: str) -> None:
    with RawConnection(server_url) as connection:
        connection.post_head(workspace, "content-type: application/json", f"content-length: {300 * MIB}")
        assert_problem(connection.response(), 413, "PAYLOAD_TOO_LARGE", "body")


def test_a_chunked_body_is_counted_and_refused_while_it_is_sent(server_url: str, workspace: str) -> None:
    with RawConnection(server_url) as connection:
        connection.post_head(workspace, "content-type: application/json", "transfer-encoding: chunked")
        for _ in range(17):
            connection.chunk(b" " * 65536)
        assert_problem(connection.response(), 413, "PAYLOAD_TOO_LARGE", "body")


def test_a_body_in_many_small_pieces_is_one_body(server_url: str, api: Api) -> None:
    with RawConnection(server_url) as connection:
        connection.post_head(api.workspace, "content-type: application/json", "transfer-encoding: chunked")
        for byte in b'{"kind":"a.b"}':
            connection.chunk(bytes([byte]))
        connection.chunk(b"")
        assert connection.response().json()["kind"] == "a.b"
    assert api.last_offset() == 1


def test_a_client_that_expects_100_continue_is_told_to_go_on(server_url: str, workspace: str) -> None:
    with RawConnection(server_url) as connection:
        connection.post_head(workspace, "expect: 100-continue", "content-length: 12")
        assert connection.until(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.send(b'{"kind":"a"}')
        assert connection.response().status_code == 201


def test_what_is_not_http_is_answered_with_a_problem(server_url: str) -> None:
    with RawConnection(server_url) as connection:
        connection.send(b"nonsense\r\n\r\n")
        assert_problem(connection.response(), 400, "INVALID_PARAMS", "request")
        assert connection.closed_by_server()


def test_a_body_that_does_not_arrive_in_time_is_408(redis_server: RedisProcess, serve: Serve, workspace: str) -> None:
    with serve(redis_server.url, receive_timeout_s=0.3) as url, RawConnection(url) as connection:
        connection.post_head(workspace, "content-length: 12")
        connection.send(b'{"kind"')
        assert_problem(connection.response(), 408, "REQUEST_TIMEOUT")
        assert connection.closed_by_server()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> float:
    monkeypatch.setattr(GuardedConnection, "head_timeout_s", 0.4)
    return 0.4


@pytest.mark.parametrize("said", [b"", b"GET /heal", b"GET /healthz HTTP/1.1\r\nhost: x\r\n"])
def test_a_client_that_never_finishes_its_head_is_let_go(
    redis_server: RedisProcess, serve: Serve, impatient: float, said: bytes
) -> None:
    with serve(redis_server.url) as url, RawConnection(url) as connection:
        began = time.monotonic()
        if said:
            connection.send(said)
        assert connection.closed_by_server()
        assert time.monotonic() - began < impatient + 5


def test_a_head_that_drips_is_let_go_all_the_same(redis_server: RedisProcess, serve: Serve, impatient: float) -> None:
    with serve(redis_server.url) as url, RawConnection(url) as connection:
        connection.send(b"GET / HTTP/1.1\r\nx: ")
        assert connection.refuses_before_long(b"y", pause_s=0.02)


def test_a_connection_in_use_outlives_the_deadline_of_a_head(
    redis_server: RedisProcess, serve: Serve, impatient: float
) -> None:
    with serve(redis_server.url) as url, RawConnection(url) as connection:
        until = time.monotonic() + 3 * impatient
        while time.monotonic() < until:
            connection.send(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n")
            assert connection.response().status_code == 200


def test_too_many_streams_are_refused(redis_server: RedisProcess, serve: Serve, workspace: str) -> None:
    with serve(redis_server.url, streams_max=1) as url, RawConnection(url) as first, RawConnection(url) as second:
        head = f"GET /v1/workspaces/{workspace}/events/stream HTTP/1.1\r\nhost: x\r\n\r\n".encode()
        first.send(head)
        first.until(b"caught_up")
        second.send(head)
        answer = second.response()
        assert_problem(answer, 503, "BACKEND_UNAVAILABLE")
        assert int(answer.headers["retry-after"]) >= 1


def test_more_workspaces_than_are_kept_open_all_work(redis_server: RedisProcess, serve: Serve) -> None:
    with serve(redis_server.url, workspaces_max=2) as url, httpx.Client(base_url=url) as client:
        for number in (1, 2, 3, 1, 2, 3):
            assert client.post(f"/v1/workspaces/w{number}/events", json={"kind": "a"}).status_code == 201
        listed = client.get("/v1/workspaces").json()["workspaces"]
    assert {one["workspace"]: one["last_offset"] for one in listed} == {"w1": 2, "w2": 2, "w3": 2}


# One client against all

GET = b"GET /healthz HTTP/1.1\r\nhost: x\r\n"
FIELDS = b"".join(b"a%d: b\r\n" % number for number in range(120))


@pytest.mark.parametrize(
    "head",
    [
        GET + FIELDS + b"\r\n",
        GET + FIELDS * 20,
        GET + FIELDS[:21] + b"x: " + b"y" * 20_000,
        GET + b"y" * 20_000,
        b"GET /healthz?" + b"y" * 20_000,
        b"y" * 20_000,
        b"POST /v1/workspaces/w/events HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: h2c\r\n"
        + FIELDS
        + b"\r\n",
        b"POST /v1/workspaces/w/runs/r/telemetry HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n0\r\n"
        + FIELDS * 20,
    ],
    ids=["fields", "fields without end", "a value", "a name", "a path", "a method", "with an offer", "trailers"],
)
def test_a_head_that_is_too_large_is_refused(server_url: str, head: bytes) -> None:
    with RawConnection(server_url) as connection:
        connection.send(head)
        status, code = (400, "INVALID_PARAMS") if head[:1] == b"y" else (431, "HEAD_TOO_LARGE")
        assert_problem(connection.response(), status, code, "request" if status == 400 else None)
        assert connection.closed_by_server()


def test_a_head_within_its_limits_is_taken_and_trailers_change_nothing(server_url: str, api: Api) -> None:
    fields = b"".join(b"a%d: b\r\n" % number for number in range(90))
    with RawConnection(server_url) as connection:
        connection.post_head(api.workspace, "transfer-encoding: chunked", "x: " + "y" * 12_000, fields.decode().strip())
        connection.send(b'c\r\n{"kind":"a"}\r\n0\r\ncontent-type: text/csv\r\nx-trailer: 1\r\n\r\n')
        assert connection.response().json()["offset"] == 1


def test_a_trailer_without_end_stops_a_stream_too(server_url: str, workspace: str) -> None:
    with RawConnection(server_url) as connection:
        path = f"/v1/workspaces/{workspace}/events/stream"
        connection.send(f"GET {path} HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n0\r\n".encode())
        connection.until(b"\r\n\r\n")
        assert connection.refuses_before_long(b"x: " + b"y" * 10_000)


def test_requests_that_are_sent_ahead_are_answered_in_order(server_url: str, api: Api) -> None:
    body = b'{"kind":"a","payload":{"x":"' + b"y" * 3000 + b'"}}'
    one = b"POST %s/events HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % (api.base.encode(), len(body)) + body
    with RawConnection(server_url) as connection:
        sending = threading.Thread(target=connection.send, args=((one + GET + b"\r\n") * 300,))
        sending.start()
        for number in range(1, 301):
            assert connection.response().json()["offset"] == number
            assert connection.response().json()["ok"]
        sending.join()


def test_of_requests_whose_answers_are_not_read_few_are_parsed(redis_server: RedisProcess, serve: Serve) -> None:
    with serve(redis_server.url, send_timeout_s=30) as url, RawConnection(url, 0.3, small_buffer=True) as connection:
        with pytest.raises(TimeoutError):
            connection.send((GET + b"\r\n") * 1_000_000)
        assert sum(type(one) is RequestResponseCycle for one in gc.get_objects()) < 300
        with httpx.Client(base_url=url) as client:
            assert client.get("/healthz").status_code == 200


def test_a_client_that_does_not_read_its_answers_is_let_go(
    redis_server: RedisProcess, serve: Serve, workspace: str
) -> None:
    with serve(redis_server.url, send_timeout_s=0.2) as url, RawConnection(url, small_buffer=True) as connection:
        httpx.post(f"{url}/v1/workspaces/{workspace}/events", content=b"[" + b",".join([event_of(60_000)] * 16) + b"]")
        page = f"GET /v1/workspaces/{workspace}/events HTTP/1.1\r\nhost: x\r\n\r\n".encode()
        assert connection.refuses_before_long(page * 10, pause_s=0.02)


def test_a_stream_ends_with_its_client_whatever_was_sent_behind_it(
    redis_server: RedisProcess, serve: Serve, workspace: str
) -> None:
    path = f"/v1/workspaces/{workspace}/events/stream"
    with serve(redis_server.url, streams_max=1, heartbeat_s=0.1) as url, httpx.Client(base_url=url) as client:
        with RawConnection(url) as connection:
            connection.send(f"GET {path} HTTP/1.1\r\nhost: x\r\n\r\n".encode() + GET + b"\r\n")
            connection.until(b"\r\n\r\n")
            assert client.get(path).status_code == 503
        until(lambda: client.head(path).status_code == 200)


def until(is_so: Callable[[], bool], patience_s: float = 15.0) -> None:
    deadline = time.monotonic() + patience_s
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@contextmanager
def begun(url: str, workspace: str, kind: str, first: bytes, rest: bytes) -> Iterator[RawConnection]:
    """A body of which all but the end has arrived."""
    with RawConnection(url) as connection:
        length = len(first) + len(rest)
        connection.post_head(workspace, f"content-type: {kind}", f"content-length: {length}")
        connection.send(first)
        yield connection


@pytest.mark.parametrize("kind", ["application/json", "application/x-ndjson"])
def test_what_bodies_hold_is_bounded_and_given_back(
    redis_server: RedisProcess, serve: Serve, workspace: str, kind: str
) -> None:
    first, rest = event_of(900_000)[:-2], b'"}'
    with serve(redis_server.url, held_max_bytes=MIB, log={"payload_max_bytes": MIB}) as url:
        post = lambda size: httpx.post(f"{url}/v1/workspaces/{workspace}/events", content=event_of(size))  # noqa: E731
        with begun(url, workspace, kind, first, rest):
            until(lambda: post(300_000).status_code == 503)
            assert_problem(post(300_000), 503, "BACKEND_UNAVAILABLE")
            assert post(1000).status_code == 201
        until(lambda: post(300_000).status_code == 201)
        with begun(url, workspace, kind, first + b"!", b"") as connection:
            connection.until(b"\r\n\r\n")
        assert post(900_000).status_code == 201, "one that is large has room alone"


def test_more_connections_than_may_be_are_refused_with_503(redis_server: RedisProcess, serve: Serve) -> None:
    with serve(redis_server.url, connections_max=2) as url, RawConnection(url) as first:
        with RawConnection(url) as second:
            for connection in (first, second):
                connection.send(GET + b"\r\n")
                assert connection.response().status_code == 200
            with RawConnection(url) as third:
                problem = third.response()
                assert_problem(problem, 503, "BACKEND_UNAVAILABLE")
                assert int(problem.headers["retry-after"]) >= 1
                assert third.closed_by_server()
            first.send(GET + b"\r\n")
            assert first.response().status_code == 200

        def has_room() -> bool:
            with RawConnection(url) as fourth:
                fourth.send(GET + b"\r\n")
                return fourth.response().status_code == 200

        until(has_room)


def test_lines_that_drip_are_let_go_and_a_pause_between_lines_is_not(
    redis_server: RedisProcess, serve: Serve, workspace: str
) -> None:
    ndjson = ("content-type: application/x-ndjson", "transfer-encoding: chunked")
    with serve(redis_server.url, receive_timeout_s=0.3) as url:
        with RawConnection(url) as connection:
            connection.post_head(workspace, *ndjson)
            for _ in range(5):
                connection.chunk(b" ")
                time.sleep(0.02)
            assert_problem(connection.response(), 408, "REQUEST_TIMEOUT")
        with RawConnection(url) as connection:
            connection.post_head(workspace, *ndjson)
            connection.chunk(b'{"kind":"a"}\n')
            assert b'"offset":1' in connection.until(b"\r\n\r\n") + connection.until(b"}\n\r\n")
            time.sleep(0.5)
            connection.chunk(b'{"kind":"b"}\n{"kind":')
            assert b'"offset":2' in connection.until(b"}\n\r\n")
            refused = connection.until(b"0\r\n\r\n")
            assert b'"status":408' in refused
            assert b'"line":3' in refused


def test_a_body_behind_its_answer_is_not_waited_for(redis_server: RedisProcess, serve: Serve, impatient: float) -> None:
    with serve(redis_server.url) as url, RawConnection(url) as connection:
        connection.send(GET + b"content-length: 100000\r\n\r\n")
        assert connection.response().status_code == 200
        assert connection.refuses_before_long(b" ", pause_s=0.02)

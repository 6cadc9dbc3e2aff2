"""Limits of bodies, batches, payloads and patience."""

import time

import httpx
import pytest
from eventlog_server.connection import GuardedConnection

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

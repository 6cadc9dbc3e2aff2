"""Long polls at their ends: clients that go, a server that stops, and more waiting than there is room for."""

import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import httpx
import pytest
import redis

from tests.server.api import Api, assert_problem
from tests.server.conftest import Serve
from tests.server.raw import RawConnection
from tests.server.slots_api import Slots, meanwhile
from tests.server.test_shutdown import server_process
from tests.support.redis_process import RedisProcess, eventually


@contextmanager
def client_of(url: str) -> Iterator[httpx.Client]:
    limits = httpx.Limits(max_connections=None)
    with httpx.Client(base_url=url, timeout=20, limits=limits) as client:
        yield client


def poll(connection: RawConnection, slots: Slots, execution: str, wait_s: float = 60) -> None:
    """Ask for a slot and wait for it, without reading the answer."""
    body = b'{"execution_id": "%s", "max_concurrent": 1, "wait_seconds": %d}' % (execution.encode(), wait_s)
    head = f"POST {slots.path}/slots HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
    connection.send(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_answers_50_long_polls_at_once_and_keeps_their_places(
    redis_server: RedisProcess, key_prefix: str, how: signal.Signals
) -> None:
    environ = {"EVENTLOG_REDIS_URL": redis_server.url, "EVENTLOG_KEY_PREFIX": key_prefix}
    with server_process(**environ) as (process, url), client_of(url) as client:
        slots = Slots(Api(client, "w"))
        slots.hold("e0")
        polls = [RawConnection(url) for _ in range(50)]
        for number, connection in enumerate(polls, 1):
            poll(connection, slots, f"e{number}")
            slots.waits(f"e{number}")
        began = time.monotonic()
        process.send_signal(how)
        answers = [connection.response() for connection in polls]
        told = time.monotonic() - began
        assert process.wait(timeout=20) == 0
        taken = time.monotonic() - began
        assert process.stderr is not None
        assert process.stderr.read() == ""
        for connection in polls:
            assert connection.closed_by_server()
            connection.close()
    assert [(answer.status_code, answer.json()["position"]) for answer in answers] == [(202, n) for n in range(1, 51)]
    # It takes 0.2 s, and as long again until the process is gone; the bounds leave room for a busy machine.
    assert told < 2, f"told after {told:.2f} s"
    assert taken < 4, f"ended after {taken:.2f} s"
    with server_process(**environ) as (process, url), client_of(url) as client:
        slots = Slots(Api(client, "w"))
        assert slots.leave("e0") == "released"
        assert [slots.state("e1"), slots.look("e2").json()["position"]] == ["granted", 1]


def test_clients_that_go_away_free_the_room_of_their_polls(
    serve: Serve, redis_server: RedisProcess, caplog: pytest.LogCaptureFixture
) -> None:
    with serve(redis_server.url, streams_max=3) as url, client_of(url) as client:
        slots = Slots(Api(client, "w"))
        slots.hold("e0")
        for round_ in range(3):
            polls = [RawConnection(url) for _ in range(3)]
            for number, connection in enumerate(polls):
                poll(connection, slots, f"e{round_}{number}")
                slots.waits(f"e{round_}{number}")
            assert_problem(slots.look("e00", "?wait_seconds=5"), 503, "BACKEND_UNAVAILABLE")
            assert slots.state("e00") == "queued", "looking takes no room"
            for connection in polls:
                connection.close()
            eventually(lambda: slots.look("e00", "?wait_seconds=0.01").status_code == 200, "there is room again")
        assert slots.stats()["queue_length"] == 9
    assert caplog.text == "", "that a client goes is nothing to complain of"


def test_a_client_that_goes_away_within_its_body_is_nothing_to_complain_of(
    serve: Serve, redis_server: RedisProcess, caplog: pytest.LogCaptureFixture
) -> None:
    with serve(redis_server.url) as url, client_of(url) as client:
        slots = Slots(Api(client, "w"))
        for method, path in (("POST", "/slots"), ("PUT", "/slots/e/lease"), ("PUT", "/limit")):
            with RawConnection(url) as connection:
                head = f"{method} {slots.path}{path} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
                connection.send(head.encode() + b'content-length: 1000\r\n\r\n{"execution_id": "e"')
        slots.hold("after")
        assert slots.stats()["total_enqueued"] == 1
    assert caplog.text == ""


def test_a_body_that_does_not_arrive_is_told(serve: Serve, redis_server: RedisProcess) -> None:
    with serve(redis_server.url, receive_timeout_s=0.3) as url, RawConnection(url) as connection:
        connection.send(b"POST /v1/workspaces/w/actions/a/slots HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\n{")
        assert_problem(connection.response(), 408, "REQUEST_TIMEOUT")


def _inboxes(client: redis.Redis) -> int:
    return [one["cmd"] for one in client.client_list()].count("blmpop")


def test_more_workspaces_can_wait_than_there_are_connections_for(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("eventlog_server.logs.INBOXES", 2)
    with RedisProcess(appendonly=False) as own, serve(own.url) as url, client_of(url) as client:
        all_slots = [Slots(Api(client, f"w{n}")) for n in range(8)]
        for slots in all_slots:
            slots.hold("e0")
            slots.queue("e1")
        with ThreadPoolExecutor(8) as pool, own.client() as looking:
            waiting = [pool.submit(slots.look, "e1", "?wait_seconds=30") for slots in all_slots]
            eventually(lambda: _inboxes(looking) == 2, "two inboxes are read")
            began = time.monotonic()
            for slots in all_slots:
                assert slots.leave("e0") == "released"
            assert [one.result(20).json()["state"] for one in waiting] == ["granted"] * 8
            assert time.monotonic() - began < 4, "those without a connection look every two seconds"
            assert _inboxes(looking) <= 2


def test_a_workspace_that_is_forgotten_meanwhile_still_answers_its_polls(
    serve: Serve, redis_server: RedisProcess
) -> None:
    with serve(redis_server.url, workspaces_max=2) as url, client_of(url) as client:
        slots = Slots(Api(client, "w"))
        slots.hold("e1")
        slots.queue("e2")
        with meanwhile(slots.look, "e2", "?wait_seconds=15") as waiting:
            slots.waits("e2")
            for name in ("x", "y", "z"):
                Slots(Api(client, name)).hold("e1")
            slots.leave("e1")
            assert waiting.result(20).json()["state"] == "granted"


def test_a_thousand_ask_at_once_and_get_their_slots_in_order(serve: Serve, redis_server: RedisProcess) -> None:
    with serve(redis_server.url) as url, client_of(url) as client, ThreadPoolExecutor(32) as pool:
        slots = Slots(Api(client, "w"))
        asked = list(pool.map(lambda n: slots.take(f"e{n}", max_concurrent=10), range(1000)))
        granted = [answer.json() for answer in asked if answer.status_code == 200]
        positions = sorted(answer.json()["position"] for answer in asked if answer.status_code == 202)
        assert [a.text for a in asked if a.status_code not in (200, 202)] == []
        assert (len(granted), positions) == (10, list(range(1, 991)))
        stats = slots.stats("?listed=1000")
        line = [waiter["execution_id"] for waiter in stats["waiters"]]
        holders = [holder["execution_id"] for holder in stats["holders"]]
        left = []
        while line:
            left += [slots.leave(name) for name in holders]
            holders, line = line[:10], line[10:]
            assert {holder["execution_id"] for holder in slots.stats()["holders"]} == set(holders)
        assert set(left) == {"released"}


def test_without_redis_slots_are_those_of_the_server_itself(serve: Serve) -> None:
    with serve("redis://nowhere.invalid", log={"backend": "memory"}) as url, client_of(url) as client:
        slots = Slots(Api(client, "w"))
        slots.hold("e1")
        slots.queue("e2")
        with meanwhile(slots.look, "e2", "?wait_seconds=15") as waiting:
            slots.waits("e2")
            assert slots.leave("e1") == "released"
            assert waiting.result(20).json()["state"] == "granted"
        assert slots.stats()["total_completed"] == 1

"""Starting and ending: signals, open streams, the embedded Redis, ports that are taken."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from eventlog_server import AddressUnavailable, ServerSettings, background

from eventlog.config import EventLogConfig
from eventlog.embedded import EmbeddedRedisError
from tests.server.api import Api, following, take
from tests.server.raw import RawConnection
from tests.support.redis_process import RedisProcess, eventually

ROOT = Path(__file__).parents[2]
SERVE = """
import sys
from eventlog_server import ServerSettings, run
run(ServerSettings.load(), on_ready=lambda address: print(address.url, flush=True))
"""


@contextmanager
def server_process(**environ: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A server in a process of its own, set up by its environment alone; yields it and its URL."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("EVENTLOG_")}
    process = subprocess.Popen(
        [sys.executable, "-W", "error", "-c", SERVE],
        env={**clean, "EVENTLOG_PORT": "0", **environ},
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        assert url.startswith("http://127.0.0.1:"), process.communicate(timeout=20)[1]
        yield process, url
    finally:
        process.kill()
        process.communicate(timeout=20)


@pytest.mark.parametrize(("grace_s", "signals"), [("60", 2), ("0.3", 1)])
def test_a_request_that_is_not_waited_for_leaves_no_trace(
    redis_server: RedisProcess, key_prefix: str, grace_s: str, signals: int
) -> None:
    environ = {"EVENTLOG_REDIS_URL": redis_server.url, "EVENTLOG_KEY_PREFIX": key_prefix, "EVENTLOG_GRACE_S": grace_s}
    with server_process(**environ) as (process, url):
        with RawConnection(url) as connection:
            connection.post_head("w", "content-length: 12")
            connection.send(b'{"kind"')
            for _ in range(signals):
                process.send_signal(signal.SIGINT)
                eventually(lambda: refuses_connections(url), "the server listens no more")
            output, errors = process.communicate(timeout=20)
        assert (process.returncode, output, errors) == (0, "", "")


def refuses_connections(url: str) -> bool:
    try:
        socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2]))).close()
    except ConnectionRefusedError:
        return True
    return False


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_tells_100_streams_and_ends_the_process_at_once(
    redis_server: RedisProcess, key_prefix: str, how: signal.Signals
) -> None:
    with server_process(EVENTLOG_REDIS_URL=redis_server.url, EVENTLOG_KEY_PREFIX=key_prefix) as (process, url):
        streams = [RawConnection(url) for _ in range(100)]
        idle = RawConnection(url)
        for number, stream in enumerate(streams):
            stream.send(f"GET /v1/workspaces/w{number % 7}/events/stream HTTP/1.1\r\nhost: x\r\n\r\n".encode())
        for stream in streams:
            stream.until(b"caught_up")
        began = time.monotonic()
        process.send_signal(how)
        for stream in streams:
            stream.until(b"event: closing\nid: 0-0\ndata: ")
        told = time.monotonic() - began
        assert process.wait(timeout=20) == 0
        taken = time.monotonic() - began
        assert process.stderr is not None
        assert process.stderr.read() == ""
        for connection in (*streams, idle):
            assert connection.closed_by_server()
            connection.close()
    # On an idle machine it takes 0.4 s; the bound leaves room for a busy one.
    assert told < 1, f"told after {told:.2f} s"
    # Far below the grace that requests in flight are given: the streams were asked to close.
    assert taken < 5, f"ended after {taken:.2f} s"


def test_a_client_that_reads_nothing_does_not_keep_the_server_from_ending(
    redis_server: RedisProcess, key_prefix: str
) -> None:
    with (
        server_process(EVENTLOG_REDIS_URL=redis_server.url, EVENTLOG_KEY_PREFIX=key_prefix) as (process, url),
        RawConnection(url, small_buffer=True) as frozen,
        httpx.Client(base_url=url, timeout=20) as client,
    ):
        api = Api(client, "w")
        frozen.send(b"GET /v1/workspaces/w/events/stream?since=0 HTTP/1.1\r\nhost: x\r\n\r\n")
        frozen.until(b"caught_up")
        with following(api, "?since=0") as stream:
            for _ in range(15):
                api.post([{"kind": "a", "payload": {"x": "y" * 20_000}}] * 40)
                take(stream, 40)
        began = time.monotonic()
        process.terminate()
        assert process.wait(timeout=20) == 0
    assert time.monotonic() - began < 3


def test_without_a_redis_url_the_embedded_redis_is_started_and_stopped(tmp_path: Path) -> None:
    data = tmp_path / "d"
    for expected in (1, 2):
        with server_process(EVENTLOG_DATA_DIR=str(data)) as (process, url):
            answer = httpx.post(f"{url}/v1/workspaces/w/events", json={"kind": "a"})
            assert answer.json()["offset"] == expected
            assert httpx.get(f"{url}/readyz").json()["warnings"] == []
            process.terminate()
            assert process.wait(timeout=20) == 0
        eventually(lambda: not list(data.rglob("*.sock")), "the embedded Redis has stopped")


def test_a_second_server_on_the_same_port_is_refused_clearly() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        settings = ServerSettings(port=port, log=EventLogConfig(backend="memory"))
        with pytest.raises(AddressUnavailable, match=f"cannot listen on 127.0.0.1:{port}: Address already in use"):
            background(settings).__enter__()


def test_a_host_that_is_none_of_ours_is_refused_clearly() -> None:
    settings = ServerSettings(host="no-such-host.invalid", port=0, log=EventLogConfig(backend="memory"))
    with pytest.raises(AddressUnavailable, match=r"cannot listen on no-such-host\.invalid:0"):
        background(settings).__enter__()


def test_a_data_directory_that_cannot_be_used_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    settings = ServerSettings(port=0, log=EventLogConfig(data_dir=tmp_path / "file"))
    with pytest.raises(EmbeddedRedisError):
        background(settings).__enter__()


def test_listening_beyond_loopback_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    with background(ServerSettings(host="0.0.0.0", port=0, log=EventLogConfig(backend="memory"))) as address:
        assert httpx.get(address.url + "/healthz").status_code == 200
    assert "all that can reach it" in caplog.text
    caplog.clear()
    with background(ServerSettings(port=0, log=EventLogConfig(backend="memory"))) as address:
        assert address.is_loopback
    assert caplog.text == ""

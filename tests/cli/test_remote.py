"""`EventLogClient`, and the command line with `--url http://…`, through a real server on a real Redis."""

import json
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from eventlog import EventLog, EventLogConfig, EventLogError, create_event_log
from eventlog.client import EventLogClient
from eventlog.errors import BackendUnavailable, Conflict, InvalidInput, NotFound, PayloadTooLarge
from eventlog.model.events import Body
from tests.support.redis_process import RedisProcess

from .program import PATIENCE_S, Program
from .serving import Server, free_port, serving


@pytest.fixture(scope="module")
def shared(redis_server: RedisProcess) -> Iterator[tuple[Server, dict[str, str]]]:
    """One server for all tests that do not stop it, and the variables of what it serves."""
    variables = {"EVENTLOG_REDIS_URL": redis_server.url, "EVENTLOG_KEY_PREFIX": f"t{uuid.uuid4().hex[:12]}"}
    with serving(Program(variables)) as running:
        yield running, variables


@pytest.fixture
def server(shared: tuple[Server, dict[str, str]]) -> Server:
    """A server that must be left running."""
    return shared[0]


@pytest.fixture
def variables(shared: tuple[Server, dict[str, str]]) -> dict[str, str]:
    """Every test has a workspace of its own."""
    return {**shared[1], "EVENTLOG_WORKSPACE": f"w{uuid.uuid4().hex[:12]}"}


@pytest.fixture
def log(variables: dict[str, str]) -> Iterator[EventLog]:
    config = EventLogConfig.load(environ=variables)
    with create_event_log("redis", config=config) as opened:
        yield opened


@pytest.fixture
def own_server(program: Program) -> Iterator[Server]:
    """A server that may be stopped."""
    with serving(program) as running:
        yield running


@pytest.fixture
def remote(server: Server, log: EventLog) -> Iterator[EventLogClient]:
    with EventLogClient(server.url, workspace=log.workspace) as opened:
        yield opened


def test_the_calls_of_a_log_have_the_same_answers_through_a_server(remote: EventLogClient, log: EventLog) -> None:
    first = remote.append("tool.a", {"n": 1, "é": "\u2028"}, run_id="r", stage_name="s", source="me")
    rest = remote.append_many([{"kind": "b", "run_id": "r"}, Body.of("tool.c", visibility="private")])
    assert [first, *rest] == log.query()
    assert (first.seq, first.duplicate) == (1, False)
    assert remote.query() == log.query()
    assert remote.query(kind="tool.*", order="desc") == log.query(kind="tool.*", order="desc")
    assert remote.query(since=first, visibility="internal") == log.query(since=first, visibility="internal")
    assert remote.query(until=rest[1], limit=1) == [first]
    assert remote.query(limit=0) == []
    assert remote.query(since_time=log.info().time + 60) == []
    assert remote.get(first.id) == first
    mine, theirs = remote.page(0, 2), log.page(0, 2)
    assert mine.to_dict() == theirs.to_dict()
    assert remote.info().to_dict() | {"time": 0} == log.info().to_dict() | {"time": 0}
    assert remote.clear() == 3
    gone = remote.page(0)
    assert gone.gap is not None
    assert gone.gap == (3, 1, 3, "trimmed")
    assert remote.append_many([]) == []


def test_more_than_a_page_is_read_page_by_page(remote: EventLogClient, log: EventLog) -> None:
    log.append_many([{"kind": "a"}] * 2300)
    assert [event.offset for event in remote.query()] == list(range(1, 2301))
    assert [event.offset for event in remote.query(order="desc", limit=1200)] == list(range(2300, 1100, -1))


def test_errors_are_those_of_the_library(remote: EventLogClient, log: EventLog) -> None:
    with pytest.raises(InvalidInput, match=r"^kind: "):
        remote.append("no good")
    with pytest.raises(InvalidInput, match=r"^events\[1\]\.kind: "):
        remote.append_many([{"kind": "a"}, {"kind": "no good"}])
    with pytest.raises(PayloadTooLarge) as large:
        remote.append_many([{"kind": "a"}, {"kind": "a", "payload": {"x": "y" * 70_000}}])
    assert (large.value.field, large.value.index) == ("payload", 1)
    with pytest.raises(Conflict) as conflict:
        remote.append("a", expected_offset=5)
    assert (conflict.value.expected_offset, conflict.value.last_offset) == (5, 0)
    with pytest.raises(NotFound):
        remote.get("5-1")
    with pytest.raises(InvalidInput, match=r"^since: "):
        remote.page("abc")
    assert log.query() == []


def test_a_repeated_key_is_a_duplicate_through_a_server_too(remote: EventLogClient, log: EventLog) -> None:
    first = remote.append("a", idempotency_key="k")
    again = remote.append("a", idempotency_key="k")
    assert (again, first.duplicate, again.duplicate) == (first, False, True)
    batch = remote.append_many([{"kind": "b"}, {"kind": "c"}], idempotency_key="kk")
    repeated = remote.append_many([{"kind": "b"}, {"kind": "c"}], idempotency_key="kk")
    assert repeated == batch
    assert all(event.duplicate for event in repeated)
    assert len(log.query()) == 3


def test_a_lost_answer_costs_no_second_event(server: Server, log: EventLog) -> None:
    with (
        _cutting(server.port, answers_to_lose=3) as port,
        EventLogClient(f"http://127.0.0.1:{port}", workspace=log.workspace) as remote,
    ):
        event = remote.append("once")
        assert (event.offset, event.duplicate) == (1, False)
        assert [one.offset for one in remote.append_many([{"kind": "a"}, {"kind": "b"}])] == [2, 3]
    assert [one.kind for one in log.query()] == ["once", "a", "b"]


def test_a_server_that_is_away_is_told_within_the_deadline() -> None:
    began = time.monotonic()
    with EventLogClient(f"http://127.0.0.1:{free_port()}", deadline_s=0.5) as remote:
        with pytest.raises(BackendUnavailable, match="no answer from http://127") as away:
            remote.append("a")
        assert away.value.outcome_unknown is False
        with pytest.raises(BackendUnavailable):
            remote.follow()
    assert time.monotonic() - began < 3.0


def test_something_that_is_no_eventlog_server_is_named_as_such() -> None:
    empty = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}"
    with _answering(empty) as port, EventLogClient(f"http://127.0.0.1:{port}") as remote:
        with pytest.raises(EventLogError, match="did not answer as an eventlog server does"):
            remote.page()
        with pytest.raises(EventLogError, match="did not answer as an eventlog server does"):
            remote.append("a")


def test_a_follower_sees_everything_once_over_cut_connections_and_keeps_its_filter(
    server: Server, log: EventLog
) -> None:
    log.append_many([{"kind": "a"}, {"kind": "b"}] * 50)
    with (
        _cutting(server.port, cut_after_bytes=1500) as port,
        EventLogClient(f"http://127.0.0.1:{port}", workspace=log.workspace) as remote,
    ):
        follower = remote.follow(0, kind="a")
        offsets = []
        for event in follower:
            offsets.append(event.offset)
            if len(offsets) == 20:
                log.append_many([{"kind": "b"}, {"kind": "a"}] * 20)
            if event.offset == 140:
                break
        assert offsets == [*range(1, 101, 2), *range(102, 141, 2)]
        assert follower.cursor == log.query(since=139)[0].id


def test_a_follower_from_now_sees_what_is_appended_after_the_call(remote: EventLogClient, log: EventLog) -> None:
    log.append("before")
    follower = remote.follow()
    log.append("after")
    assert next(iter(follower)).kind == "after"


def test_a_follower_is_told_what_it_missed(remote: EventLogClient, log: EventLog) -> None:
    log.append_many([{"kind": "a"}] * 3)
    log.clear()
    log.append("b")
    gaps: list[object] = []
    follower = remote.follow(1, on_gap=gaps.append)
    assert next(iter(follower)).offset == 4
    assert gaps == [(2, 2, 3, "trimmed")]


def test_until_terminal_ends_by_itself_also_where_the_run_had_ended(remote: EventLogClient, log: EventLog) -> None:
    log.append("run.started", run_id="r")
    log.append("run.finished", run_id="r")
    log.append("after", run_id="r")
    assert [event.kind for event in remote.follow(0, run_id="r", until_terminal=True)] == [
        "run.started",
        "run.finished",
    ]
    assert [event.kind for event in remote.follow(2, run_id="r", until_terminal=True)] == ["after"]
    assert list(remote.follow(3, run_id="r", until_terminal=True)) == []


def test_closing_a_follower_from_another_thread_ends_it_at_once(remote: EventLogClient) -> None:
    follower = remote.follow()
    threading.Timer(0.5, follower.close).start()
    began = time.monotonic()
    assert list(follower) == []
    assert time.monotonic() - began < 3.0


def test_an_outage_is_waited_out_and_no_longer_than_the_patience(own_server: Server, log: EventLog) -> None:
    log.append("one")
    with EventLogClient(own_server.url, workspace=log.workspace) as remote:
        follower = remote.follow(0, patience_s=30)
        events = iter(follower)
        assert next(events).kind == "one"
        own_server.stop()
        log.append("two")
        threading.Timer(0.5, own_server.start).start()
        assert next(events).kind == "two"
        impatient = iter(remote.follow(2, patience_s=0.2))
        own_server.stop()
        with pytest.raises(BackendUnavailable):
            next(impatient)


def test_the_commands_work_through_a_server(program: Program, server: Server, log: EventLog) -> None:
    through = ("--url", server.url)
    (first,) = program.ids("tool.a", '{"n": 1}', "--run", "r", *through)
    assert first == log.query()[0].id
    piped = program("append", *through, stdin=b'{"kind": "b"}\n{"kind": "no good"}\n{"kind": "c"}\n')
    assert piped.returncode == 1
    assert piped.stderr.startswith(b"line 2: kind: ")
    assert program("query", *through).stdout == program("query").stdout
    assert program("query", EVENTLOG_URL=server.url).stdout == program("query").stdout
    assert program("query", "-k", "tool.*", "--desc", "--since-time", "1h", *through).stdout.count(b"\n") == 1
    assert program("append", "a", "--expected-offset", "9", *through).returncode == 1
    missing = program("query", "-w", "other", *through)
    assert (missing.returncode, missing.stdout) == (0, b"")
    checks = [json.loads(line) for line in program("doctor", "-o", "json", *through).stdout.splitlines()]
    assert [check["status"] for check in checks if check["name"] == "server"] == ["ok"]


def test_a_line_that_only_the_server_refuses_refuses_only_itself(
    program: Program, server: Server, log: EventLog
) -> None:
    large = json.dumps({"kind": "large", "payload": {"x": "y" * 70_000}}).encode()
    done = program("append", "--url", server.url, stdin=b'{"kind": "a"}\n' + large + b'\n{"kind": "b"}\n')
    assert done.returncode == 1
    assert [event.kind for event in log.query()] == ["a", "b"]
    assert done.stderr.decode().startswith("line 2: payload: ")


def test_a_large_file_goes_through_a_server_whole(program: Program, server: Server, log: EventLog) -> None:
    lines = b"".join(b'{"kind": "n", "payload": {"n": %d, "x": "%s"}}\n' % (n, b"x" * 900) for n in range(3000))
    assert program("append", "--url", server.url, stdin=lines).returncode == 0
    assert [event.payload["n"] for event in log.query()] == list(range(3000))


def test_follow_survives_a_restart_of_the_server(program: Program, own_server: Server, log: EventLog) -> None:
    log.append("one")
    with program.start("follow", "--since", "0", "-o", "json", "--url", own_server.url) as running:
        running.lines(1)
        own_server.stop()
        log.append("two")
        running.until(lambda: running.err, "a word about the outage")
        own_server.start()
        log.append("three")
        assert [json.loads(line)["kind"] for line in running.lines(3)] == ["one", "two", "three"]
        running.signal(signal.SIGINT)
        assert running.end() == 130
        assert len(running.err) == 1
        assert running.err[0].startswith("--- ")


def test_follow_through_a_server_ends_with_its_reader(program: Program, server: Server, log: EventLog) -> None:
    log.append("a")
    command = [sys.executable, "-m", "eventlog", "follow", "--since", "0", "--url", server.url]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=program.environ) as follow:
        assert follow.stdout is not None
        assert follow.stderr is not None
        assert b"#1 a" in follow.stdout.readline()
        follow.stdout.close()
        assert follow.wait(PATIENCE_S) == 0
        assert follow.stderr.read() == b""


def test_a_server_that_is_away_is_exit_code_3(program: Program) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    for args in (["query"], ["append", "a"], ["follow"]):
        done = program(*args, "--url", url, EVENTLOG_DEADLINE_SECONDS="0.3")
        assert (done.returncode, done.stderr.count(b"\n")) == (3, 1)
        assert b"no answer from " + url.encode() in done.stderr


def test_serve_warns_where_others_can_reach_it_and_refuses_a_port_that_is_taken(program: Program) -> None:
    port = free_port()
    with program.start("serve", "--host", "0.0.0.0", "--port", str(port)) as running:
        running.until(lambda: any("0.0.0.0: all that can reach it" in line for line in running.err), "it")
        running.until(lambda: _accepts(port), "the server listens")
        taken = program("serve", "--port", str(port), "--host", "127.0.0.1")
        assert taken.returncode not in (0, 70)
        assert str(port) in taken.stderr.decode()
        running.signal(signal.SIGINT)
        assert running.end() in (0, 130)


def _accepts(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def _listening() -> Iterator[socket.socket]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener


@contextmanager
def _answering(answer: bytes) -> Iterator[int]:
    """A server that says the same to everybody."""

    def serve(listener: socket.socket) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                connection.recv(65536)
                connection.sendall(answer)

    with _listening() as listener:
        thread = threading.Thread(target=serve, args=(listener,), daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(PATIENCE_S)


@contextmanager
def _cutting(upstream: int, *, answers_to_lose: int = 0, cut_after_bytes: int | None = None) -> Iterator[int]:
    """A proxy that loses whole answers, then cuts every connection after so many bytes of answer."""
    left = [answers_to_lose]

    def carry(connection: socket.socket) -> None:
        with connection, socket.create_connection(("127.0.0.1", upstream)) as server:
            pump = threading.Thread(target=_pump, args=(connection, server), daemon=True)
            pump.start()
            carried = 0
            while answer := _received(server):
                if left[0]:
                    left[0] -= 1
                    break
                if cut_after_bytes is not None:
                    answer = answer[: cut_after_bytes - carried]
                carried += len(answer)
                if not _sent(connection, answer) or carried == cut_after_bytes:
                    break
            for end in (connection, server):
                _shut(end)
            pump.join(PATIENCE_S)

    def serve(listener: socket.socket) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=carry, args=(connection,), daemon=True).start()

    with _listening() as listener:
        thread = threading.Thread(target=serve, args=(listener,), daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        _shut(listener)
        thread.join(PATIENCE_S)


def _pump(source: socket.socket, sink: socket.socket) -> None:
    while data := _received(source):
        if not _sent(sink, data):
            return


def _received(source: socket.socket) -> bytes:
    try:
        return source.recv(65536)
    except OSError:
        return b""


def _sent(sink: socket.socket, data: bytes) -> bool:
    try:
        sink.sendall(data)
    except OSError:
        return False
    return True


def _shut(end: socket.socket) -> None:
    try:
        end.shutdown(socket.SHUT_RDWR)
    except OSError:
        return

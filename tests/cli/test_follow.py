"""`eventlog follow`: the habits of `tail -f`, over a real Redis that may go away."""

import json
import signal
import subprocess
import sys
import time

import pytest

from eventlog import EventLog, create_event_log
from tests.support.redis_process import RedisProcess

from .conftest import Here
from .program import PATIENCE_S, Program, Running


def _kinds(running: Running, count: int) -> list[str]:
    return [json.loads(line)["kind"] for line in running.lines(count)]


def _follows(running: Running, log: EventLog) -> None:
    """Wait until what is appended from here on is seen: the follower stands at its place."""
    deadline = time.monotonic() + PATIENCE_S
    while not running.out:
        log.append("knock")
        assert time.monotonic() < deadline
        running.process.poll()
        time.sleep(0.05)


def test_events_come_as_they_are_appended_from_now_on(program: Program, log: EventLog) -> None:
    log.append("before")
    with program.start("follow", "-o", "json") as running:
        _follows(running, log)
        sent = time.monotonic()
        log.append("after")
        running.until(lambda: any('"after"' in line for line in running.out), "the event")
        assert time.monotonic() - sent < 5.0
        assert not any('"before"' in line for line in running.out)


def test_since_starts_there_and_filters_hold(program: Program, log: EventLog) -> None:
    for kind in ("tool.a", "turn.a", "tool.b"):
        log.append(kind, run_id="r1")
    log.append("tool.c", run_id="r2")
    with program.start("follow", "--since", "0", "-k", "tool.*", "--run", "r1", "-o", "json") as running:
        assert _kinds(running, 2) == ["tool.a", "tool.b"]
        log.append("turn.b", run_id="r1")
        log.append("tool.d", run_id="r1")
        assert _kinds(running, 3) == ["tool.a", "tool.b", "tool.d"]


def test_the_last_events_come_first_each_once(program: Program, log: EventLog) -> None:
    for number in range(10):
        log.append(f"k{number}", run_id="even" if number % 2 == 0 else "odd")
    with program.start("follow", "-n", "3", "--run", "even", "-o", "json") as running:
        assert _kinds(running, 3) == ["k4", "k6", "k8"]
        log.append("new", run_id="even")
        assert _kinds(running, 4) == ["k4", "k6", "k8", "new"]


def test_until_terminal_ends_with_the_run(program: Program, log: EventLog) -> None:
    with program.start("follow", "--run", "r1", "--until-terminal", "--since", "0") as running:
        log.append("run.started", run_id="r1")
        log.append("run.finished", run_id="r2")
        log.append("run.failed", run_id="r1")
        assert running.end() == 0
        assert len(running.out) == 2
    # One that had ended before.
    done = program("follow", "--run", "r1", "--until-terminal", "-n", "1", "-o", "json")
    assert (done.returncode, json.loads(done.stdout)["kind"]) == (0, "run.failed")
    assert program("follow", "--run", "r1", "--until-terminal").returncode == 0


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--since", "abc"], "since: "),
        (["--since", "0", "-n", "1"], "last: "),
        (["-n", "-1"], "last: "),
        (["--until-terminal"], "until_terminal: needs a run_id"),
    ],
)
def test_bad_input_is_named(args: list[str], said: str, here: Here) -> None:
    done = here("follow", *args)
    assert done.returncode == 2
    assert said in done.stderr.decode()


@pytest.mark.parametrize("since", [[], ["--since", "0"]])
def test_ctrl_c_ends_it_quietly_and_soon(since: list[str], program: Program, log: EventLog) -> None:
    log.append("a")
    with program.start("follow", *since) as running:
        _follows(running, log)
        asked = time.monotonic()
        running.signal(signal.SIGINT)
        assert running.end() == 130
        assert time.monotonic() - asked < 2.0
        assert running.err == []


def test_a_reader_that_goes_away_ends_it_quietly(program: Program, log: EventLog) -> None:
    log.append_many([{"kind": "a"}] * 5)
    follow = subprocess.Popen(
        [sys.executable, "-m", "eventlog", "follow", "--since", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=program.environ,
    )
    with follow:
        assert follow.stdout is not None
        assert follow.stderr is not None
        assert b"#1 a" in follow.stdout.readline()
        # No event follows that could fail to be written: it notices all the same.
        follow.stdout.close()
        assert follow.wait(PATIENCE_S) == 0
        assert follow.stderr.read() == b""


def test_a_pipe_that_is_closed_in_mid_output_is_no_error(program: Program, log: EventLog) -> None:
    log.append_many([{"kind": "a", "payload": {"x": "y" * 1000}}] * 1000)
    query = subprocess.Popen(
        [sys.executable, "-m", "eventlog", "query", "--all"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=program.environ,
    )
    with query:
        assert query.stdout is not None
        assert query.stderr is not None
        query.stdout.readline()
        query.stdout.close()
        assert query.wait(PATIENCE_S) == 0
        assert query.stderr.read() == b""


def test_what_was_missed_is_marked_on_stderr_or_as_a_control_line(program: Program, log: EventLog) -> None:
    log.append_many([{"kind": "a"}] * 3)
    log.clear()
    log.append("b")
    with program.start("follow", "--since", "1") as running:
        assert "#4 b" in running.lines(1)[0]
        running.until(lambda: running.err, "the gap on stderr")
        assert running.err[0].startswith("--- gap: 2 events missed, offsets 2 to 3:")
    with program.start("follow", "--since", "1", "-o", "json") as running:
        first, second = map(json.loads, running.lines(2))
        assert first == {"control": "gap", "missed": 2, "from_offset": 2, "to_offset": 3, "reason": "trimmed"}
        assert second["kind"] == "b"


def test_it_survives_a_redis_that_goes_away_and_shows_every_event_once(program: Program) -> None:
    with RedisProcess(appendfsync="always") as server, create_event_log("redis", url=server.url) as log:
        with Program({}).start("follow", "--since", "0", "--url", server.url, "-o", "json") as running:
            log.append("one")
            running.lines(1)
            server.kill()
            running.until(lambda: running.err, "a word about the outage")
            server.start()
            log.append("two")
            assert _kinds(running, 2) == ["one", "two"]
            server.restart()
            log.append("three")
            assert _kinds(running, 3) == ["one", "two", "three"]
        assert running.err[0].startswith("--- Redis did not answer")
        assert "gap" not in "".join(running.err)


def test_a_log_that_was_wiped_under_it_is_told(program: Program, log: EventLog) -> None:
    with RedisProcess() as server, create_event_log("redis", url=server.url) as own:
        own.append("old")
        with Program({}).start("follow", "--since", "0", "--url", server.url, "-o", "json") as running:
            running.lines(1)
            with server.client() as client:
                client.flushall()
            own.append("new")
            lines = [json.loads(line) for line in running.lines(3)]
        assert [line.get("kind", line.get("reason")) for line in lines] == ["old", "reset", "new"]


def test_without_any_url_the_embedded_redis_is_shared(tmp_path: object) -> None:
    program = Program({"EVENTLOG_DATA_DIR": f"{tmp_path}/d"})
    with program.start("follow", "--since", "0") as running:
        program.ids("hello.world")
        assert "#1 hello.world" in running.lines(1)[0]
        running.signal(signal.SIGINT)
        assert running.end() == 130
    assert b"#1 hello.world" in program("query").stdout

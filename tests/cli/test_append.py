"""`eventlog append`: one event, and NDJSON on stdin."""

import json

import pytest

from eventlog import EventLog

from .conftest import Here
from .program import Program


def test_an_event_is_appended_with_all_its_parts_and_its_id_is_printed(program: Program, log: EventLog) -> None:
    (event_id,) = program.ids(
        *("tool.invoked", '{"tool": "grep"}', "--run", "r1", "--lane", "l1", "--stage", "build", "--group", "g0"),
        *("--visibility", "internal", "--source", "me", "--traceparent", f"00-{'a' * 32}-{'b' * 16}-01"),
    )
    event = log.get(event_id)
    assert event.to_dict() == {
        "id": event_id,
        "offset": 1,
        "timestamp": event.timestamp,
        "kind": "tool.invoked",
        "payload": {"tool": "grep"},
        "run_id": "r1",
        "lane_id": "l1",
        "seq": 1,
        "stage_name": "build",
        "group_id": "g0",
        "visibility": "internal",
        "source": "me",
        "traceparent": f"00-{'a' * 32}-{'b' * 16}-01",
    }


def test_as_json_the_whole_event_is_printed(program: Program, log: EventLog) -> None:
    done = program("append", "a", '{"n": 1}', "-o", "json")
    assert json.loads(done.stdout) == log.query()[0].to_dict()


def test_a_repeated_key_appends_nothing_and_prints_the_first_id(program: Program, log: EventLog) -> None:
    first = program("append", "a", "--idempotency-key", "k")
    again = program("append", "a", "--idempotency-key", "k")
    assert (again.returncode, again.stdout) == (0, first.stdout)
    assert b"nothing appended" in again.stderr
    assert len(log.query()) == 1


def test_an_expected_offset_that_does_not_hold_is_refused(program: Program, log: EventLog) -> None:
    log.append("a")
    done = program("append", "b", "--expected-offset", "7")
    assert done.returncode == 1
    assert done.stderr == b"eventlog: expected_offset is 7, but the last offset is 1\n"
    assert program("append", "b", "--expected-offset", "1").returncode == 0


def test_the_workspace_is_the_one_asked_for(program: Program, log: EventLog) -> None:
    program.ids("a", "-w", "other")
    assert log.query() == []
    assert len(program("query", "--workspace", "other").stdout.splitlines()) == 1
    assert len(program("query", EVENTLOG_WORKSPACE="other").stdout.splitlines()) == 1


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["bad kind"], "kind: 'bad kind' does not match"),
        (["a", "[1]"], "payload: must be an object, not array"),
        (["a", '{"n": NaN}'], "payload: "),
        (["a", "nope"], "payload: "),
        (["a", '{"n": 1, "n": 2}'], "payload: "),
        (["a", "--lane", "l"], "lane_id: a lane belongs to a run"),
        (["a", "--run", "r 1"], "run_id: 'r 1' does not match"),
        (["a", "--visibility", "secret"], "visibility: 'secret' is not one of"),
        (["a", "--traceparent", "x"], "traceparent: 'x' does not match"),
        (["a", "--expected-offset", "-1"], "expected_offset: -1 is not an integer from 0 to"),
        (["a", "--expected-offset", "x"], "--expected-offset"),
        (["a", "-w", "a/b"], "workspace: 'a/b'"),
        (["a", "--url", "ftp://x"], "url: 'ftp://x' does not begin with one of http://"),
        (["a", "--url", "redis://x", "--data-dir", "/x"], "data_dir: "),
        (["-", "{}"], "payload: is for one event"),
        (["-", "--idempotency-key", "k"], "idempotency_key: is for one event"),
        (["a", "--bogus"], "No such option"),
    ],
)
def test_bad_input_is_named_in_one_line_and_nothing_is_appended(
    args: list[str], said: str, here: Here, log: EventLog
) -> None:
    done = here("append", *args)
    assert done.returncode == 2
    assert done.stdout == b""
    assert said in done.stderr.decode()
    assert done.stderr.count(b"\n") == 1
    assert log.query() == []


def test_a_bad_line_refuses_only_itself_and_is_told_by_its_number(program: Program, log: EventLog) -> None:
    lines = [
        b'{"kind": "a", "payload": {"n": 1}}',
        b'{"kind": "no good"}',
        b"",
        b"not json",
        b'{"kind": "b", "run_id": "r"}',
        b"[]",
        b'{"kind": "c", "extra": 1}',
        b'{"kind": "d"}',
    ]
    done = program("append", stdin=b"\n".join(lines))
    assert done.returncode == 1
    assert [event.kind for event in log.query()] == ["a", "b", "d"]
    assert done.stdout.decode().split() == [event.id for event in log.query()]
    told = done.stderr.decode().splitlines()
    assert [line.split(":")[0] for line in told] == ["line 2", "line 4", "line 6", "line 7"]
    assert "kind: 'no good' does not match" in told[0]


def test_hidden_reasoning_is_refused_in_one_line(program: Program, log: EventLog) -> None:
    done = program("append", "x", '{"chain_of_thought": "s"}')
    assert (done.returncode, done.stdout) == (2, b"")
    assert done.stderr.startswith(b"eventlog: payload.chain_of_thought: ")
    assert done.stderr.count(b"\n") == 1
    lines = b'{"kind": "a"}\n{"kind": "b", "payload": {"chain_of_thought": "s"}}'
    told = program("append", stdin=lines).stderr.decode().splitlines()
    assert [line.split(":")[0] for line in told] == ["line 2"]
    assert [event.kind for event in log.query()] == ["a"]


def test_a_line_that_only_the_log_refuses_refuses_only_itself_too(program: Program, log: EventLog) -> None:
    large = json.dumps({"kind": "large", "payload": {"x": "y" * 5000}}).encode()
    small = b'{"kind": "small"}'
    done = program("append", stdin=b"\n".join([small, large, small, large, small]), EVENTLOG_PAYLOAD_MAX_BYTES="1000")
    assert done.returncode == 1
    assert [event.kind for event in log.query()] == ["small"] * 3
    assert [line.split(":")[0] for line in done.stderr.decode().splitlines()] == ["line 2", "line 4"]


def test_many_lines_are_appended_in_order(program: Program, log: EventLog) -> None:
    lines = b"".join(b'{"kind": "n", "payload": {"n": %d}}\n' % n for n in range(2500))
    done = program("append", "-", stdin=lines)
    assert done.returncode == 0
    assert [event.payload["n"] for event in log.query()] == list(range(2500))
    assert len(done.stdout.split()) == 2500


def test_options_are_defaults_for_lines_that_do_not_say(program: Program, log: EventLog) -> None:
    program("append", "--run", "r1", "--source", "me", stdin=b'{"kind": "a"}\n{"kind": "b", "run_id": "r2"}\n')
    assert [(event.run_id, event.source) for event in log.query()] == [("r1", "me"), ("r2", "me")]


def test_a_slow_pipe_is_live(program: Program, log: EventLog) -> None:
    with program.start("append") as running:
        for count in (1, 2, 3):
            running.write(b'{"kind": "slow"}\n')
            assert running.lines(count)[-1] == log.query()[-1].id
        running.write(b'{"kind": "without.a.line.end"}')
        assert running.process.stdin is not None
        running.process.stdin.close()
        assert running.end() == 0
    assert [event.kind for event in log.query()] == ["slow"] * 3 + ["without.a.line.end"]

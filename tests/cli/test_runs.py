"""`eventlog runs`: what people and scripts are told of runs, their stages, lanes, events and telemetry."""

import json
import re
import signal
import subprocess
import sys
import unicodedata
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from eventlog import EventLog, EventLogConfig, create_event_log
from eventlog.cli.quantities import shown_bytes, shown_ms
from eventlog.cli.tables import Cell, put_table
from eventlog.printing.output import shown_time
from tests.support.redis_process import RedisProcess

from .conftest import Here
from .program import Program
from .serving import free_port, serving
from .test_output import HOSTILE


def _said(here: Here, *args: str) -> str:
    done = here("runs", *args)
    assert done.returncode == 0, done.stderr
    text: str = done.stdout.decode()
    return text


def _lines(here: Here, *args: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in _said(here, *args, "-o", "json").splitlines()]


def _build(log: EventLog, run: str = "r1") -> None:
    """A run of two stages, of which the second failed twice, told on two lanes."""
    log.append("run.started", run_id=run)
    log.append("stage.started", {"stage_attempt": 1}, run_id=run, stage_name="build")
    log.append("stage.queued", {"depends_on": ["build"]}, run_id=run, stage_name="test")
    log.append("stage.succeeded", {"duration_ms": 3200, "exit_code": 0}, run_id=run, stage_name="build")
    for attempt in (1, 2):
        said = {"stage_attempt": attempt}
        log.append("stage.started", said, run_id=run, lane_id="w1", stage_name="test")
        failed = {**said, "duration_ms": 125_000, "exit_code": 1, "error": "AssertionError: 1 != 2"}
        log.append("stage.failed", failed, run_id=run, lane_id="w1", stage_name="test")
    log.append("run.failed", {"error": "test failed"}, run_id=run)


def test_runs_are_listed_with_the_latest_active_first(here: Here, log: EventLog) -> None:
    assert _said(here, "ls").split() == ["RUN", "STATUS", "EVENTS", "LANES", "STARTED", "LAST", "EVENT", "TOOK"]
    _build(log)
    log.append("a", run_id="r2")
    _, second, first = _said(here, "ls").splitlines()
    assert second.split()[:4] == ["r2", "running", "1", "1"]
    assert first.split()[:4] == ["r1", "failed", "9", "2"]
    assert [run["run_id"] for run in _lines(here, "ls")] == ["r2", "r1"]
    assert _lines(here, "ls")[1] == log.run("r1").to_dict()


def test_runs_are_listed_by_status(here: Here, log: EventLog) -> None:
    _build(log)
    log.append("run.finished", run_id="r2")
    log.append("a", run_id="r3")
    assert [run["run_id"] for run in _lines(here, "ls", "--status", "failed")] == ["r1"]
    assert [run["run_id"] for run in _lines(here, "ls", "--status", "running")] == ["r3"]
    assert _lines(here, "ls", "--status", "cancelled") == []


def test_that_there_are_more_runs_is_told_with_the_cursor_to_go_on_from(here: Here, log: EventLog) -> None:
    log.append_many([{"kind": "a", "run_id": f"r{n}"} for n in range(5)])
    done = here("runs", "ls", "-n", "2", "-o", "json")
    assert [json.loads(line)["run_id"] for line in done.stdout.splitlines()] == ["r4", "r3"]
    _, _, _, cursor, _ = done.stderr.decode().split()
    assert [run["run_id"] for run in _lines(here, "ls", "--until", cursor)] == ["r2", "r1", "r0"]
    assert here("runs", "ls", "-n", "5").stderr == b""


def test_more_runs_than_a_page_has_are_listed_page_by_page(here: Here, log: EventLog) -> None:
    log.append_many([{"kind": "a", "run_id": f"r{n}"} for n in range(1300)])
    named = [f"r{n}" for n in reversed(range(1300))]
    assert [run["run_id"] for run in _lines(here, "ls", "--all")] == named
    assert [run["run_id"] for run in _lines(here, "ls", "-n", "1200")] == named[:1200]


def test_one_run_is_shown_with_its_stages_and_lanes(here: Here, log: EventLog) -> None:
    _build(log)
    run, stages, lanes = _said(here, "show", "r1").split("\n\n")
    facts = dict(line.split(maxsplit=1) for line in run.splitlines())
    assert (facts["run"], facts["status"], facts["events"]) == ("r1", "failed", "9")
    assert {"started", "ended", "last", "took"} <= set(facts)
    _, build, test = stages.splitlines()
    assert build.split()[:4] == ["build", "succeeded", "1", "g0"]
    assert build.split()[-3:] == ["3.2", "s", "0"]
    assert test.split()[:4] == ["test", "failed", "2", "g0"]
    assert test.split(maxsplit=12)[6:] == ["2", "m", "05", "s", "1", "build", "AssertionError: 1 != 2"]
    assert [line.split() for line in lanes.splitlines()] == [["LANE", "EVENTS"], ["main", "5"], ["w1", "4"]]
    [as_json] = _lines(here, "show", "r1")
    assert as_json == {**log.run("r1").to_dict(), "stages": [stage.to_dict() for stage in log.stages("r1")]}


def test_a_run_without_stages_that_has_not_ended_says_since_when_it_runs(here: Here, log: EventLog) -> None:
    log.append("a", run_id="r1")
    run, lanes = _said(here, "show", "r1").split("\n\n")
    assert [line.split()[0] for line in run.splitlines()] == ["run", "status", "started", "last", "runs", "events"]
    assert lanes.split() == ["LANE", "EVENTS", "main", "1"]


def test_the_stages_of_a_run_are_listed(here: Here, log: EventLog) -> None:
    _build(log)
    assert [line.split()[:2] for line in _said(here, "stages", "r1").splitlines()] == [
        ["STAGE", "STATUS"],
        ["build", "succeeded"],
        ["test", "failed"],
    ]
    assert _lines(here, "stages", "r1") == [stage.to_dict() for stage in log.stages("r1")]
    log.append("a", run_id="r2")
    assert _lines(here, "stages", "r2") == []


def test_a_stage_that_waits_says_since_when_and_one_without_a_start_when_it_ended(here: Here, log: EventLog) -> None:
    log.append("stage.queued", run_id="r1", stage_name="a")
    log.append("stage.skipped", run_id="r1", stage_name="b")
    log.append("stage.started", run_id="r1", stage_name="c")
    stages = log.stages("r1")
    times = [stages[0].queued_at, stages[1].completed_at, stages[2].started_at]
    rows = [re.split("  +", line) for line in _said(here, "stages", "r1").splitlines()[1:]]
    for (*_, told), word, time in zip(rows, ("queued ", "ended ", ""), times, strict=True):
        assert time is not None
        assert told == word + shown_time(time)


def test_a_long_reason_is_cut_in_the_table_and_whole_in_json(here: Here, log: EventLog) -> None:
    log.append("stage.failed", {"error": "x" * 60_000}, run_id="r1", stage_name="s")
    _, line = _said(here, "stages", "r1").splitlines()
    assert line.endswith(" " + "x" * 99 + "…")
    assert _lines(here, "stages", "r1")[0]["error"] == "x" * 60_000


def _seqs(lines: list[dict[str, Any]]) -> list[tuple[str, int]]:
    return [(event["lane_id"], event["seq"]) for event in lines]


@pytest.mark.parametrize(
    ("args", "seqs"),
    [
        ([], [("main", 1), ("b", 1), ("main", 2), ("b", 2), ("b", 3)]),
        (["--lane", "b"], [("b", 1), ("b", 2), ("b", 3)]),
        (["--since-seq", "1"], [("main", 2), ("b", 2), ("b", 3)]),
        (["--lane", "b", "--since-seq", "2"], [("b", 3)]),
        (["-k", "tool.*"], [("b", 1), ("b", 2), ("b", 3)]),
        (["--visibility", "public"], [("main", 1), ("b", 1), ("main", 2), ("b", 2)]),
        (["--stage", "s"], [("main", 2)]),
        (["-n", "2"], [("main", 1), ("b", 1)]),
    ],
)
def test_a_run_is_replayed(args: list[str], seqs: list[tuple[str, int]], here: Here, log: EventLog) -> None:
    log.append("a", run_id="r1")
    log.append("tool.a", run_id="r1", lane_id="b")
    log.append("elsewhere", run_id="r2")
    log.append("a", run_id="r1", stage_name="s")
    log.append_many([
        {"kind": "tool.b", "run_id": "r1", "lane_id": "b"},
        {"kind": "tool.c", "run_id": "r1", "lane_id": "b", "visibility": "private"},
    ])  # fmt: skip
    assert _seqs(_lines(here, "replay", "r1", *args)) == seqs


def test_a_replay_that_was_cut_off_goes_on_by_its_cursor(here: Here, log: EventLog) -> None:
    log.append_many([{"kind": "a", "run_id": "r1"}] * 5)
    done = here("runs", "replay", "r1", "-n", "3", "-o", "json")
    _, _, _, cursor, _ = done.stderr.decode().split()
    assert _seqs(_lines(here, "replay", "r1", "--since", cursor)) == [("main", 4), ("main", 5)]


def test_more_events_than_a_page_has_are_replayed_page_by_page(here: Here, log: EventLog) -> None:
    log.append_many([{"kind": "a", "run_id": "r1"}] * 2300)
    assert _seqs(_lines(here, "replay", "r1")) == [("main", seq) for seq in range(1, 2301)]


def test_what_is_gone_of_a_run_is_told_by_lane(here: Here, redis_server: RedisProcess, key_prefix: str) -> None:
    with create_event_log("redis", url=redis_server.url, key_prefix=key_prefix, max_entries=2) as small:
        for lane in ("main", "b", "b", "main", "main"):
            small.append("a", run_id="r1", lane_id=lane)
    done = here("runs", "replay", "r1")
    assert done.stderr.decode() == "--- gone: 2 of lane b, 1 of lane main; they were evicted ---\n"
    control, *events = _lines(here, "replay", "r1")
    assert control == {"control": "missed", "missed": {"b": 2, "main": 1}}
    assert _seqs(events) == [("main", 2), ("main", 3)]


def test_a_replay_follows_the_run_to_its_end(program: Program, log: EventLog) -> None:
    log.append("a", run_id="r1")
    log.append("b", run_id="r1", lane_id="w")
    with program.start("runs", "replay", "r1", "--follow", "-o", "json") as running:
        running.lines(2)
        log.append("elsewhere", run_id="r2")
        log.append("run.finished", run_id="r2")
        log.append("c", run_id="r1")
        running.lines(3)
        log.append("run.finished", run_id="r1")
        assert running.end() == 0
        assert [json.loads(line)["kind"] for line in running.out] == ["a", "b", "c", "run.finished"]
    # One that has ended already.
    assert program("runs", "replay", "r1", "-f").stdout.count(b"\n") == 4


def test_a_replay_of_one_lane_follows_to_the_end_of_the_run(program: Program, log: EventLog) -> None:
    log.append("a", run_id="r1")
    log.append("b", run_id="r1", lane_id="w")
    with program.start("runs", "replay", "r1", "--lane", "w", "-f", "-o", "json") as running:
        running.lines(1)
        log.append("c", run_id="r1")
        log.append("run.failed", run_id="r1")
        assert running.end() == 0
        assert [json.loads(line)["kind"] for line in running.out] == ["b", "run.failed"]


def test_interrupted_while_it_follows_it_is_quiet(program: Program, log: EventLog) -> None:
    log.append("a", run_id="r1")
    with program.start("runs", "replay", "r1", "--follow") as running:
        running.lines(1)
        running.signal(signal.SIGINT)
        assert running.end() == 130
        assert running.err == []


HOST = {"rss_bytes": 123_456_789, "cpu_percent": 98.54, "io_read_bytes": 512, "io_write_bytes": 1 << 30}


def test_samples_are_told_in_lines(program: Program, log: EventLog) -> None:
    log.append("a", run_id="r1")
    first, _ = log.push_telemetry(
        "r1", [{"stage_name": "build", "host": HOST}, {"source": "vm-1", "guest": {"gpu": 1, "é": HOSTILE}}]
    )
    host, guest = program("runs", "telemetry", "r1", TZ="UTC").stdout.decode().splitlines()
    stamp = datetime.fromtimestamp(first.timestamp, UTC).strftime("%Y-%m-%d %H:%M:%S")
    assert host.startswith(stamp)
    assert host[23:] == " #1 stage=build cpu=98.5% rss=117.7 MiB read=512 B written=1.0 GiB"
    assert guest[23:].startswith(' #2 source=vm-1 guest={"gpu":1,"é":"')
    assert all(char.isprintable() for char in guest)


def test_samples_are_given_as_json_and_by_place_stage_and_number(here: Here, log: EventLog) -> None:
    log.append("a", run_id="r1")
    for _ in range(3):
        log.push_telemetry("r1", [{"stage_name": f"s{n % 2}", "guest": {"x": HOSTILE}} for n in range(400)])
    samples = log.telemetry("r1").samples
    assert _lines(here, "telemetry", "r1") == [sample.to_dict() for sample in samples]
    assert _said(here, "telemetry", "r1", "-o", "json").replace("\n", "").isprintable()
    for args, seqs in {
        ("--from-seq", "1198"): [1199, 1200],
        ("--stage", "s1", "--from-seq", "1196"): [1198, 1200],
        ("-n", "2"): [1, 2],
        ("-n", "700"): list(range(1, 701)),
        ("--stage", "never"): [],
    }.items():
        assert [sample["seq"] for sample in _lines(here, "telemetry", "r1", *args)] == seqs, args


def test_samples_that_were_evicted_are_told_with_their_count(here: Here, log: EventLog) -> None:
    log.append("a", run_id="r1")
    log.push_telemetry("r1", [{"guest": {}}] * 5, capacity=2)
    done = here("runs", "telemetry", "r1", "--from-seq", "1")
    assert done.stderr.decode() == "--- gone: 2 samples; the ring of the run holds the newest ---\n"
    control, *samples = _lines(here, "telemetry", "r1")
    assert control == {"control": "missed", "missed": 3}
    assert [sample["seq"] for sample in samples] == [4, 5]


def test_samples_that_were_freed_are_told_as_such(here: Here, log: EventLog) -> None:
    log.append("a", run_id="r1")
    log.push_telemetry("r1", [{"stage_name": "s", "guest": {}}] * 3)
    assert here("runs", "telemetry", "r1", "--stage", "other").stderr == b"--- no samples ---\n"
    log.push_telemetry("r1", [], capacity=0)
    done = here("runs", "telemetry", "r1")
    assert (done.returncode, done.stdout) == (0, b"")
    assert done.stderr.decode() == "--- gone: 3 samples; the ring of the run was freed ---\n"
    assert _lines(here, "telemetry", "r1") == [{"control": "missed", "missed": 3}]


def test_samples_that_were_cut_tell_where_to_go_on(here: Here, log: EventLog) -> None:
    log.append("a", run_id="r1")
    log.push_telemetry("r1", [{"stage_name": f"s{n % 2}", "guest": {}} for n in range(6)])
    for args, told in {
        ("-n", "3"): b"--- more: --from-seq 3 ---\n",
        ("-n", "3", "--from-seq", "3"): b"",
        ("-n", "5", "--from-seq", "3"): b"",
        ("-n", "2", "--stage", "s0"): b"--- more: --from-seq 3 ---\n",
        ("-n", "1", "--stage", "s0", "--from-seq", "3"): b"",
        ("--from-seq", "3"): b"",
    }.items():
        done = here("runs", "telemetry", "r1", *args)
        assert (done.returncode, done.stderr) == (0, told), args


def test_samples_are_followed_to_the_end_of_the_run(program: Program, log: EventLog) -> None:
    log.append("a", run_id="r1")
    log.push_telemetry("r1", [{"guest": {"n": 1}}])
    with program.start("runs", "telemetry", "r1", "--follow", "-o", "json") as running:
        running.lines(1)
        log.push_telemetry("r1", [{"guest": {"n": 2}}])
        running.lines(2)
        log.push_telemetry("r1", [{"guest": {"n": 3}}])
        log.append("run.finished", run_id="r1")
        assert running.end() == 0
        assert [json.loads(line)["guest"]["n"] for line in running.out] == [1, 2, 3]


def test_an_outage_is_waited_out_while_samples_are_followed() -> None:
    with RedisProcess() as server, create_event_log("redis", url=server.url) as log:
        log.append("a", run_id="r1")
        log.push_telemetry("r1", [{"guest": {"n": 1}}])
        program = Program({"EVENTLOG_REDIS_URL": server.url, "EVENTLOG_DEADLINE_SECONDS": "0.3"})
        with program.start("runs", "telemetry", "r1", "-f", "-o", "json") as running:
            running.lines(1)
            server.kill()
            running.until(lambda: any("waiting for it to come back" in line for line in running.err), "it is told")
            server.start()
            log.append("run.finished", run_id="r1")
            assert running.end() == 0
            assert len(running.err) == 1


def test_a_log_that_is_cleared_while_samples_are_followed_is_waited_for(program: Program, log: EventLog) -> None:
    log.append("a", run_id="r1")
    log.push_telemetry("r1", [{"guest": {"n": 1}}, {"guest": {"n": 2}}])
    with program.start("runs", "telemetry", "r1", "-f", "-o", "json") as running:
        running.lines(2)
        log.clear()
        running.until(lambda: running.err, "it is told")
        log.append("a", run_id="r1")
        log.push_telemetry("r1", [{"guest": {"n": 3}}])
        running.lines(3)
        log.append("run.finished", run_id="r1")
        assert running.end() == 0
        assert [json.loads(line)["guest"]["n"] for line in running.out] == [1, 2, 3]
        assert len(running.err) == 1
        assert running.err[0].endswith("; waiting for it to come back ---")


def test_where_there_is_nothing_to_print_a_person_is_told_so(here: Here, log: EventLog) -> None:
    log.append("a", run_id="r1")
    for args, told in (
        (("runs", "telemetry", "r1"), b"--- no samples ---\n"),
        (("runs", "replay", "r1", "-k", "b"), b"--- no events ---\n"),
        (("query", "-k", "b"), b"--- no events ---\n"),
        (("query",), b""),
        (("query", "-n", "0"), b""),
        (("runs", "replay", "r1"), b""),
    ):
        done = here(*args)
        assert (done.returncode, done.stderr) == (0, told), args
        assert here(*args, "-o", "json").stderr == b""
        assert done.stdout == b"" or not told
    log.push_telemetry("r1", [{"guest": {}}])
    assert here("runs", "telemetry", "r1").stderr == b""


@pytest.mark.parametrize("command", ["show", "stages", "replay", "telemetry"])
def test_a_run_that_is_not_there_is_exit_code_1_and_one_line(here: Here, log: EventLog, command: str) -> None:
    log.append("a", run_id="another")
    done = here("runs", command, "r1")
    assert (done.returncode, done.stdout) == (1, b"")
    assert done.stderr.startswith(b"eventlog: run r1 ")
    assert done.stderr.count(b"\n") == 1


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["ls", "--status", "dead"], "status: 'dead' is not one of running, finished, failed, cancelled"),
        (["ls", "--limit", "0"], "limit: 0 is not 1 or more"),
        (["ls", "--until", "abc"], "until: 'abc' is not a cursor"),
        (["show", "a b"], "run_id: 'a b'"),
        (["stages", ""], "run_id: "),
        (["replay", "\x1b[31m"], "run_id: "),
        (["replay", "r1", "--since-seq", "-1"], "since_seq: "),
        (["replay", "r1", "--since-seq", "abc"], "--since-seq"),
        (["replay", "r1", "--since", "abc"], "since: 'abc' is not a cursor"),
        (["replay", "r1", "--lane", "a b"], "lane_id: 'a b'"),
        (["replay", "r1", "-n", "0"], "limit: 0 is not 1 or more"),
        (["replay", "r1", "-n", "1", "--follow"], "limit: has no meaning with --follow"),
        (["telemetry", "r1", "--from-seq", "-1"], "from_seq: "),
        (["telemetry", "r1", "--from-seq", "x"], "--from-seq"),
        (["telemetry", "a b"], "run_id: 'a b'"),
        (["telemetry", "r1", "-n", "1", "--follow"], "limit: has no meaning with --follow"),
    ],
)
def test_bad_input_is_named(args: list[str], said: str, here: Here, log: EventLog) -> None:
    log.append("a", run_id="r1")
    done = here("runs", *args)
    assert done.returncode == 2, done.stdout
    assert said in done.stderr.decode()
    assert (done.stderr.count(b"\n"), b"\x1b" in done.stderr) == (1, False)


@pytest.mark.parametrize("output", ["text", "json"])
@pytest.mark.parametrize("command", ["ls", "show", "stages", "replay"])
def test_nothing_that_a_run_holds_can_act_on_the_terminal(here: Here, log: EventLog, command: str, output: str) -> None:
    payload = {"error": HOSTILE, "depends_on": [HOSTILE], "stage_name": HOSTILE, "group_id": HOSTILE}
    log.append("stage.failed", payload, run_id="r1", source="\u202eme")
    done = here("runs", command, *([] if command == "ls" else ["r1"]), "-o", output)
    assert done.returncode == 0, done.stderr
    said = done.stdout.decode()
    assert "r1" in said or command == "stages"
    assert [char for char in said if unicodedata.category(char) in {"Cc", "Cf", "Zl", "Zp"} and char != "\n"] == []


def test_a_lane_that_was_written_past_the_library_is_harmless_too(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    put_table(["LANE"], [["\x1b[2J\n"], [Cell("\u202ered", "31")]], colour=True)
    assert capfdbinary.readouterr().out.decode() == "LANE\n\\u001b[2J\\u000a\n\x1b[31m\\u202ered\x1b[0m\n"


def test_columns_line_up_under_wide_letters(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    put_table(["A", "B"], [["日本", "1"], ["é", "2"]])
    assert capfdbinary.readouterr().out.decode() == "A     B\n日本  1\né     2\n"


@pytest.mark.parametrize(
    ("ms", "told"),
    [
        (0, "0 ms"),
        (999.9, "999 ms"),
        (1000, "1.0 s"),
        (59_999, "59.9 s"),
        (60_000, "1 m 00 s"),
        (125_400, "2 m 05 s"),
        (3_599_999, "59 m 59 s"),
        (3_720_000, "1 h 02 m"),
        (273_600_000, "3 d 04 h"),
    ],
)
def test_durations_are_told_in_two_units_at_the_most(ms: float, told: str) -> None:
    assert shown_ms(ms) == told


@pytest.mark.parametrize(
    ("count", "told"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1536, "1.5 KiB"),
        (1024**2 - 1, "1023.9 KiB"),
        (123.45 * 1024**2, "123.4 MiB"),
        (2**40, "1.0 TiB"),
        (2**53, "8192.0 TiB"),
    ],
)
def test_sizes_are_told_in_binary_units(count: float, told: str) -> None:
    assert shown_bytes(count) == told


def test_a_pipe_that_is_closed_ends_it_quietly(program: Program, log: EventLog) -> None:
    log.append_many([{"kind": "a", "payload": {"x": "y" * 1000}, "run_id": "r1"}] * 500)
    with subprocess.Popen(
        [sys.executable, "-m", "eventlog", "runs", "replay", "r1"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=program.environ,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert (process.wait(30), process.stderr.read()) == (0, b"")


@pytest.fixture(scope="module")
def served(redis_server: RedisProcess) -> Iterator[tuple[str, dict[str, str]]]:
    """The URL of a server, and the variables of what it serves."""
    variables = {"EVENTLOG_REDIS_URL": redis_server.url, "EVENTLOG_KEY_PREFIX": f"t{uuid.uuid4().hex[:12]}"}
    with serving(Program(variables)) as server:
        yield server.url, variables


def test_through_a_server_all_is_told_as_it_is_straight_on_redis(
    here: Here, served: tuple[str, dict[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    url, variables = served
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with create_event_log("redis", config=EventLogConfig.load(environ=variables)) as log:
        _build(log)
        log.append("run.finished", run_id="r2")
        log.append_many([{"kind": "a", "run_id": "r3"}] * 1100)
        log.push_telemetry("r1", [{"stage_name": "build", "host": HOST}, {"guest": {}}])
    for args in (
        ("ls", "--status", "failed"),
        ("ls", "--status", "finished", "-o", "json"),
        ("show", "r1"),
        ("stages", "r1"),
        ("replay", "r1", "--lane", "w1", "--since-seq", "1"),
        ("replay", "r3", "-o", "json"),
        ("replay", "r1", "--follow", "-k", "run.*"),
        ("telemetry", "r1", "--stage", "build"),
        ("show", "r4"),
        ("telemetry", "r4"),
        ("replay", "r1", "--since-seq", "-1"),
        ("ls", "--status", "dead"),
    ):
        direct, remote = here("runs", *args), here("runs", *args, "--url", url)
        assert remote.stdout == direct.stdout, args
        assert (remote.returncode, remote.stderr) == (direct.returncode, direct.stderr), args


def test_a_server_or_a_redis_that_is_away_is_exit_code_3_and_one_line(program: Program, tmp_path: Path) -> None:
    for url in (f"unix://{tmp_path}/none", f"http://127.0.0.1:{free_port()}"):
        for args in (("ls",), ("show", "r1"), ("telemetry", "r1"), ("replay", "r1", "--follow")):
            done = program("runs", *args, "--url", url, EVENTLOG_DEADLINE_SECONDS="0.3")
            assert done.returncode == 3, done.stderr
            assert done.stderr.count(b"\n") == 1

"""`eventlog exec` as stages of runs: what waits, true attempts, retries, samples, and what the command is told."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from eventlog import EventLog
from eventlog.slots.blocking import SlotQueue
from tests.support.redis_process import eventually

from .exec_stage import pids_said, python, until_gone
from .program import PATIENCE_S, Program
from .serving import serving
from .test_exec import WAIT, _end, _exec

# Fails until it was started as often as its first argument says; counts in the file that the second names.
FLAKY = """
    import pathlib, sys
    count = pathlib.Path(sys.argv[2])
    count.write_text("x" + (count.read_text() if count.exists() else ""))
    print("try", len(count.read_text()))
    sys.exit(0 if len(count.read_text()) >= int(sys.argv[1]) else 3)
"""


# Ends with the exit code that it is given.
OBEDIENT = "import sys; print('up'); sys.exit(int(input()))"

needs_last_look = pytest.mark.skipif(
    not hasattr(os, "waitid"), reason="this system does not let us look at a process that has ended"
)


@pytest.fixture
def slots(log: EventLog) -> Iterator[SlotQueue]:
    with log.slots() as opened:
        yield opened


def _attempts(log: EventLog, run_id: str) -> list[tuple[str, int]]:
    """The beginnings and ends of the attempts at all stages of a run."""
    kinds = ("stage.started", "stage.succeeded", "stage.failed")
    return [(event.kind, event.payload["stage_attempt"]) for event in log.query(run_id=run_id, kind=kinds)]


def test_operators_see_a_stage_that_waits_for_its_slot(program: Program, log: EventLog, slots: SlotQueue) -> None:
    command = _exec(run="r1", stage="test", depends_on="build", stage_group="g2")
    with slots.acquire("build", "first", max_concurrent=1), program.start(*command, *python("pass")) as running:
        eventually(lambda: log.query(run_id="r1", kind="stage.queued"), "it is told")
        [view] = log.stages("r1")
        assert (view.stage_name, view.status, view.group_id) == ("test", "queued", "g2")
        assert list(view.depends_on) == ["build"]
        assert log.run("r1").status == "running"
        [queued] = log.query(kind="stage.queued")
        assert (queued.payload["action"], queued.payload["max_concurrent"]) == ("build", 1)
        eventually(lambda: slots.stats("build").queue_length == 1, "it queues")
        running.signal(signal.SIGTERM)
        assert running.end() == 128 + 15


def test_a_stage_that_comes_after_others_names_them_all(program: Program, log: EventLog) -> None:
    command = (*_exec(run="r1")[:-1], "--depends-on", "lint", "--depends-on", "compile", "--")
    assert program(*command, "true").returncode == 0
    assert list(log.stages("r1")[0].depends_on) == ["lint", "compile"]
    assert log.query(kind="stage.started")[0].payload["depends_on"] == ["lint", "compile"]


def test_executions_of_one_stage_of_one_run_count_their_attempts(program: Program, log: EventLog) -> None:
    for code in (1, 2, 0):
        command = (*_exec(run="r1", stage="test")[:-1], "--stage-only", "--")
        assert program(*command, "sh", "-c", f"exit {code}").returncode == code
    assert _attempts(log, "r1") == [
        *(("stage.started", 1), ("stage.failed", 1)),
        *(("stage.started", 2), ("stage.failed", 2)),
        *(("stage.started", 3), ("stage.succeeded", 3)),
    ]
    [view] = log.stages("r1")
    assert (view.status, view.stage_attempt, view.exit_code) == ("succeeded", 3, 0)


def test_executions_that_start_at_once_are_different_attempts(program: Program, log: EventLog) -> None:
    command = ["exec", "--action", "a", "--no-limit", "--run", "r1", "--stage", "test", "--stage-only", "--"]
    running = [program.start(*command, "true") for _ in range(4)]
    for one in running:
        with one:
            assert one.end() == 0
    assert sorted(number for kind, number in _attempts(log, "r1") if kind == "stage.started") == [1, 2, 3, 4]
    assert sorted(number for kind, number in _attempts(log, "r1") if kind == "stage.succeeded") == [1, 2, 3, 4]


def test_an_execution_that_was_killed_left_an_attempt_behind_and_the_next_counts_on(
    program: Program, log: EventLog
) -> None:
    command = [*_exec(run="r1", stage="test", lease=0.9)[:-1], "--stage-only", "--"]
    with program.start(*command, *python("import os; print(os.getpid()); input()")) as first:
        [pid] = pids_said(first)
        eventually(lambda: _attempts(log, "r1"), "the first attempt is told")
        first.signal(signal.SIGKILL)
        until_gone(pid)
        assert log.stages("r1")[0].status == "running"
        assert program(*command, "true").returncode == 0
    [view] = log.stages("r1")
    assert (view.status, view.stage_attempt) == ("succeeded", 2)


def test_a_command_that_fails_is_run_again_up_to_so_many_times(program: Program, log: EventLog, tmp_path: Path) -> None:
    count = str(tmp_path / "count")
    done = program(*_exec(run="r1", retries=5), *python(FLAKY, "3", count))
    assert (done.returncode, done.stdout, done.stderr) == (0, b"try 1\ntry 2\ntry 3\n", b"")
    assert _attempts(log, "r1") == [
        *(("stage.started", 1), ("stage.failed", 1)),
        *(("stage.started", 2), ("stage.failed", 2)),
        *(("stage.started", 3), ("stage.succeeded", 3)),
    ]
    assert [event.payload.get("attempts_left") for event in log.query(kind="stage.failed")] == [5, 4]
    ends = log.query(kind=["stage.failed", "stage.succeeded"])
    assert [(end.payload["output_lines"], end.payload["output_lines_dropped"]) for end in ends] == [(1, 0)] * 3
    waits = [event.payload for event in log.query(kind="stage.queued")]
    assert [(wait.get("stage_attempt"), wait.get("attempts_left")) for wait in waits] == [(None, None), (2, 4), (3, 3)]
    [completed] = log.query(kind="execution.completed")
    tokens = [event.payload["fencing_token"] for event in log.query(kind="stage.started")]
    assert all(earlier < later for earlier, later in pairwise(tokens))
    assert (completed.payload["status"], completed.payload["fencing_token"]) == ("succeeded", tokens[-1])
    assert log.run("r1").status == "finished"


def test_when_all_attempts_fail_the_last_exit_code_counts(program: Program, log: EventLog, tmp_path: Path) -> None:
    done = program(*_exec(run="r1", retries=1), *python(FLAKY, "9", str(tmp_path / "count")))
    assert (done.returncode, done.stdout) == (3, b"try 1\ntry 2\n")
    assert "attempts_left" not in log.query(kind="stage.failed")[-1].payload
    assert log.run("r1").status == "failed"


def test_between_attempts_the_slot_goes_to_who_waits(program: Program, log: EventLog, tmp_path: Path) -> None:
    with program.start(*_exec(run="r1", retries=1), *python(OBEDIENT)) as first:
        first.lines(1)
        with log.slots() as slots:
            with program.start(*_exec(run="r2"), *python(WAIT)) as second:
                eventually(lambda: slots.stats("build").queue_length == 1, "the second queues")
                first.write(b"1\n")
                second.lines(1)
                eventually(lambda: slots.stats("build").queue_length == 1, "the first queues again")
                assert first.out == ["up"]
                eventually(lambda: len(log.query(run_id="r1", kind="stage.queued")) == 2, "it is told")
                [view] = log.stages("r1")
                assert (view.status, view.stage_attempt, view.reason) == ("queued", 2, "attempt 1 failed: exit code 1")
                again = log.query(run_id="r1", kind="stage.queued")[-1].payload
                assert (again["attempts_left"], again["action"], again["depends_on"]) == (0, "build", [])
                assert _end(second) == 0
            first.lines(2)
            first.write(b"0\n")
            assert first.end() == 0


def test_interrupted_between_attempts_the_run_is_cancelled(program: Program, log: EventLog, slots: SlotQueue) -> None:
    with program.start(*_exec(run="r1", retries=1), *python(OBEDIENT)) as first:
        first.lines(1)
        slots.enqueue("build", "second", max_concurrent=1)
        first.write(b"1\n")
        eventually(lambda: slots.state("build", "second").state == "granted", "the second has its turn")
        eventually(lambda: slots.stats("build").queue_length == 1, "the first queues again")
        first.signal(signal.SIGINT)
        assert first.end() == 128 + 2
    assert log.run("r1").status == "cancelled"
    [view] = log.stages("r1")
    assert (view.status, view.exit_code) == ("failed", 1)
    assert view.reason == "attempt 1 failed: exit code 1; not run again: SIGINT"
    [completed] = log.query(kind="execution.completed")
    assert completed.payload["status"] == "cancelled"


def test_without_a_slot_for_another_attempt_the_last_one_counts(
    program: Program, log: EventLog, slots: SlotQueue
) -> None:
    command = _exec(run="r1", retries=3, timeout=0.3)
    with program.start(*command, *python(OBEDIENT)) as first:
        first.lines(1)
        slots.enqueue("build", "second", max_concurrent=1)
        first.write(b"4\n")
        assert first.end() == 4
        assert any("the command is not run again: build: no slot within 0.3 s" in line for line in first.err)
    assert log.run("r1").status == "failed"
    [view] = log.stages("r1")
    assert (view.status, view.stage_attempt, view.exit_code) == ("failed", 2, 4)
    assert view.reason == "attempt 1 failed: exit code 4; not run again: build: no slot within 0.3 s"


@pytest.mark.parametrize("command", [("sh", "-c", "kill -INT $$"), ("no-such-command-anywhere",)])
def test_what_was_interrupted_or_cannot_be_started_is_not_run_again(
    program: Program, log: EventLog, command: tuple[str, ...]
) -> None:
    assert program(*_exec(run="r1", retries=3), *command).returncode in (128 + 2, 127)
    assert len(_attempts(log, "r1")) == 2


def test_a_command_that_we_are_asked_to_end_is_not_run_again(program: Program, log: EventLog) -> None:
    with program.start(*_exec(run="r1", retries=3), *python(WAIT)) as running:
        running.lines(1)
        running.signal(signal.SIGTERM)
        assert running.end() == 128 + 15
    assert len(_attempts(log, "r1")) == 2


def test_what_a_command_and_its_children_use_is_sampled_under_its_stage(program: Program, log: EventLog) -> None:
    source = """
        import os, subprocess, sys, time
        held = bytearray(40 * 1024 * 1024)
        child = subprocess.Popen([sys.executable, "-S", "-c", "held = bytearray(60 * 1024 * 1024); input()"], stdin=-1)
        print("up")
        input()
        child.communicate(b"\\n")
    """
    command = _exec(run="r1", stage="measure", sample_interval=0.05, source="ci")
    with program.start(*command, *python(source)) as running:
        running.lines(1)
        enough = 100 * 1024 * 1024
        eventually(
            lambda: any(one.host["rss_bytes"] > enough for one in log.telemetry("r1").samples if one.host),
            "a sample of both",
        )
        assert _end(running) == 0
    page = log.telemetry("r1")
    assert {(one.stage_name, one.source) for one in page.samples} == {("measure", "ci")}
    assert [one.seq for one in page.samples] == list(range(1, len(page.samples) + 1))
    assert log.telemetry("r1", stage_name="other").samples == []
    first, last = log.query(run_id="r1")[0], log.query(run_id="r1")[-1]
    assert all(first.timestamp - 1 <= one.timestamp <= last.timestamp + 1 for one in page.samples)


@needs_last_look
def test_a_command_that_ends_at_once_has_a_sample_all_the_same(program: Program, log: EventLog) -> None:
    for _ in range(3):
        assert program(*_exec(run="r1"), "true").returncode == 0
    page = log.telemetry("r1")
    assert len(page.samples) >= 3
    # What has ended uses no memory, which says nothing of how much it did use.
    assert all(one.host and one.host.get("rss_bytes") != 0 for one in page.samples)


@needs_last_look
def test_the_last_sample_is_taken_when_the_command_has_ended(program: Program, log: EventLog) -> None:
    source = """
        import time
        time.sleep(0.3)
        end = time.process_time() + 0.3
        while time.process_time() < end: pass
    """
    assert program(*_exec(run="r1", sample_interval=60), *python(source)).returncode == 0
    *_, before, last = log.telemetry("r1").samples
    [ended] = log.query(kind="stage.succeeded")
    assert ended.timestamp - before.timestamp > 0.3
    assert last.host is not None
    assert last.host["cpu_percent"] > 10


def test_every_attempt_is_sampled(program: Program, log: EventLog, tmp_path: Path) -> None:
    count = str(tmp_path / "count")
    assert program(*_exec(run="r1", retries=2), *python(FLAKY, "3", count)).returncode == 0
    started = [event.timestamp for event in log.query(kind="stage.started")]
    samples = [one.timestamp for one in log.telemetry("r1").samples]
    assert len(started) == 3
    for begin, end in pairwise([*started, started[-1] + 60]):
        assert any(begin - 0.05 <= sample < end for sample in samples)


def _unable_to_look(program: Program, *args: str, **extra: str) -> "subprocess.CompletedProcess[bytes]":
    """`eventlog` where whoever looks at a process fails."""
    trap = "import psutil; psutil.Process = None\nfrom eventlog.cli import main; main()"
    return subprocess.run(
        [sys.executable, "-c", trap, *args],
        env={**program.environ, **extra},
        capture_output=True,
        timeout=PATIENCE_S,
        check=False,
    )


def test_a_command_that_cannot_be_sampled_runs_all_the_same(program: Program, log: EventLog) -> None:
    done = _unable_to_look(program, *_exec(run="r1"), "sh", "-c", "echo done; exit 3")
    assert (done.returncode, done.stdout) == (3, b"done\n")
    assert b"what the command uses is not sampled" in done.stderr
    assert log.run("r1").status == "failed"


@pytest.mark.parametrize(
    ("options", "extra"),
    [
        ({"sample_interval": 0}, {}),
        ({"telemetry_samples": 0}, {}),
        ({}, {"EVENTLOG_TELEMETRY_SAMPLES": "0"}),
    ],
)
def test_no_samples_are_taken_where_none_are_wanted(
    program: Program, log: EventLog, options: dict[str, object], extra: dict[str, str]
) -> None:
    done = _unable_to_look(program, *_exec(run="r1", **options), "true", **extra)
    assert (done.returncode, done.stderr) == (0, b"")
    assert log.run("r1").status == "finished"
    assert log.telemetry("r1").samples == []


def test_the_run_keeps_as_many_samples_as_it_is_told_to(program: Program, log: EventLog) -> None:
    command = _exec(run="r1", sample_interval=0.02, telemetry_samples=3)
    with program.start(*command, *python(WAIT)) as running:
        running.lines(1)
        eventually(lambda: log.telemetry("r1").next_seq > 6, "more samples than are kept")
        assert _end(running) == 0
    page = log.telemetry("r1")
    assert (page.capacity, len(page.samples)) == (3, 3)
    assert page.missed == page.next_seq - 3


@pytest.mark.parametrize("through", ["the environment", "an option", "a server"])
def test_the_command_can_append_to_its_own_run(
    program: Program, log: EventLog, variables: dict[str, str], through: str
) -> None:
    said = f"{sys.executable} -m eventlog append note --run $EVENTLOG_RUN_ID --stage $EVENTLOG_STAGE"
    command = [*_exec(run="r1", stage="test"), "sh", "-c", said]
    if through == "the environment":
        done = program(*command)
    elif through == "an option":
        url = program.environ.pop("EVENTLOG_REDIS_URL")
        done = program(*command[:1], "--url", url, *command[1:])
    else:
        with serving(Program(variables)) as server:
            program.environ.pop("EVENTLOG_REDIS_URL")
            done = program(*command[:1], "--url", server.url, *command[1:])
    assert done.returncode == 0, done.stderr
    [note] = log.query(kind="note")
    assert (note.run_id, note.stage_name) == ("r1", "test")


def test_all_that_is_told_is_on_the_lane_that_is_asked_for(program: Program, log: EventLog) -> None:
    said = f"{sys.executable} -m eventlog append note --run $EVENTLOG_RUN_ID --lane $EVENTLOG_LANE"
    assert program(*_exec(run="r1", lane="w1"), "sh", "-c", f"{said}; exit 1").returncode == 1
    assert len(log.query(kind="note")) == 1
    assert {event.lane_id for event in log.query(run_id="r1")} == {"w1"}
    assert log.run("r1").status == "failed"
    assert program(*_exec(run="r2"), "sh", "-c", "echo $EVENTLOG_LANE").stdout == b"main\n"
    assert {event.lane_id for event in log.query(run_id="r2")} == {"main"}


_WHERE = "import os; print([os.environ.get('EVENTLOG_' + n) for n in ('URL', 'REDIS_URL', 'DATA_DIR', 'WORKSPACE')])"


def test_a_data_directory_that_is_asked_for_is_the_command_s_too(program: Program, tmp_path: Path) -> None:
    data = tmp_path / "data"
    done = program("exec", "--data-dir", str(data), "-w", "w1", "--action", "a", "--no-limit", "--", *python(_WHERE))
    assert done.stdout.decode() == f"[None, None, {str(data)!r}, 'w1']\n"


def test_a_redis_that_is_asked_for_is_the_command_s_whatever_the_environment_says(program: Program) -> None:
    url = program.environ["EVENTLOG_REDIS_URL"]
    others = {"EVENTLOG_URL": "http://127.0.0.1:1", "EVENTLOG_REDIS_URL": "redis://127.0.0.1:1"}
    done = program("exec", "--url", url, "--action", "a", "--no-limit", "--", *python(_WHERE), **others)
    assert done.stdout.decode() == f"[None, {url!r}, None, 'default']\n"

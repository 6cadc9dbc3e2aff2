"""A command under a slot: its output, its exit code, its record. Real processes, the slot is the test's."""

import os
import shlex
import subprocess
from pathlib import Path

import pytest

from eventlog import EventLog, create_event_log
from tests.support.redis_process import RedisProcess, eventually

from .exec_stage import Stage, pids_said, python, until_gone
from .program import PATIENCE_S, Program


@pytest.fixture
def stage(tmp_path: Path, program: Program, log: EventLog) -> Stage:
    return Stage(tmp_path, program.environ, log)


def _run(stage: Stage, *command: str, stdin: bytes = b"", **options: object) -> "subprocess.CompletedProcess[bytes]":
    stage.grant()
    return subprocess.run(
        stage.command(*command, **options),
        input=stdin,
        capture_output=True,
        env=stage.environ,
        timeout=PATIENCE_S,
        check=False,
    )


def test_a_command_that_succeeds_is_recorded_from_its_start_to_its_end(stage: Stage) -> None:
    done = _run(stage, *python("print('one'); print('two')"))
    assert (done.returncode, done.stdout, done.stderr) == (0, b"one\ntwo\n", b"")
    assert stage.kinds() == [
        "run.started",
        "stage.queued",
        "stage.started",
        "exec.output",
        "exec.output",
        "stage.succeeded",
        "execution.completed",
        "run.finished",
    ]
    events = stage.log.query()
    assert {event.run_id for event in events} == {"r1"}
    assert {event.stage_name for event in events if event.kind.startswith(("stage.", "exec."))} == {"compile"}
    assert stage.payload("run.started")["action"] == "build"
    assert stage.payload("stage.queued") == {"action": "build", "execution_id": "e1", "depends_on": []}
    started = stage.payload("stage.started")
    assert shlex.split(started["command"])[-1] == "print('one'); print('two')"
    assert (started["action"], started["fencing_token"], started["waited_ms"]) == ("build", 41, 250)
    assert (started["execution_id"], started["stage_attempt"]) == ("e1", 1)
    ended = stage.payload("stage.succeeded")
    assert (ended["exit_code"], ended["stage_attempt"], ended["output_lines"]) == (0, 1, 2)
    assert ended["duration_ms"] > 0
    assert ended["cpu_user_ms"] + ended["cpu_system_ms"] > 0
    assert stage.payload("execution.completed") == {
        "execution_id": "e1",
        "action": "build",
        "fencing_token": 41,
        "status": "succeeded",
        "exit_code": 0,
    }
    assert stage.released


@pytest.mark.parametrize("code", [1, 3, 75, 255])
def test_the_exit_code_of_a_command_that_fails_is_passed_on_and_recorded(stage: Stage, code: int) -> None:
    assert _run(stage, *python(f"raise SystemExit({code})")).returncode == code
    assert stage.payload("stage.failed")["exit_code"] == code
    assert stage.payload("run.failed")["exit_code"] == code
    assert stage.payload("execution.completed")["status"] == "failed"


@pytest.mark.parametrize("number", [6, 9, 11, 15])
def test_a_command_that_a_signal_ends_counts_as_128_and_its_number(stage: Stage, number: int) -> None:
    assert _run(stage, *python(f"import os; os.kill(os.getpid(), {number})")).returncode == 128 + number
    assert stage.payload("stage.failed")["reason"].startswith("ended by SIG")


@pytest.mark.parametrize("name", ["no-such-command-anywhere", "/no/such/file"])
def test_a_command_that_is_not_found_ends_with_127_and_gives_the_slot_back(stage: Stage, name: str) -> None:
    done = _run(stage, name)
    assert done.returncode == 127
    assert name.encode() in done.stderr
    assert stage.kinds()[-3:] == ["stage.failed", "execution.completed", "run.failed"]
    assert stage.payload("run.failed") | {"duration_ms": 0} == {
        "exit_code": 127,
        "reason": "No such file or directory",
        "duration_ms": 0,
    }
    assert stage.released


def test_a_command_that_cannot_be_executed_ends_with_126_and_gives_the_slot_back(stage: Stage, tmp_path: Path) -> None:
    file = tmp_path / "text"
    file.write_text("not a program")
    assert _run(stage, str(file)).returncode == 126
    assert _run(stage, str(tmp_path)).returncode == 126
    assert stage.released


def test_output_passes_through_byte_for_byte_on_its_own_stream(stage: Stage) -> None:
    noise = bytes(range(256)) * 999 + b"no line end"
    source = """
        import os, sys
        noise = bytes(range(256)) * 999 + b"no line end"
        sys.stdout.buffer.write(noise)
        sys.stderr.buffer.write(noise[::-1])
    """
    done = _run(stage, *python(source))
    assert done.stdout == noise
    assert done.stderr == noise[::-1]


def test_output_comes_through_at_once_also_without_a_line_end(stage: Stage) -> None:
    source = "import sys; sys.stdout.write('name? '); sys.stdout.flush(); print('hello', input())"
    stage.grant()
    with subprocess.Popen(
        stage.command(*python(source)), env=stage.environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as running:
        assert running.stdout is not None
        assert running.stdin is not None
        assert running.stdout.read(6) == b"name? "
        running.stdin.write(b"you\n")
        running.stdin.close()
        assert running.stdout.read() == b"hello you\n"
        assert running.wait(PATIENCE_S) == 0
    assert stage.lines() == ["name? hello you"]


def test_what_was_handed_to_us_beside_the_three_streams_reaches_the_command(stage: Stage) -> None:
    read, write = os.pipe()
    stage.grant()
    done = subprocess.run(
        stage.command(*python(f"import os; os.write({write}, b'through')")),
        env=stage.environ,
        pass_fds=[write],
        timeout=PATIENCE_S,
        check=False,
    )
    os.close(write)
    with os.fdopen(read, "rb") as received:
        assert received.read() == b"through"
    assert done.returncode == 0


def test_lines_are_recorded_as_text_whatever_their_bytes(stage: Stage) -> None:
    source = r"""
        import sys
        sys.stdout.buffer.write(b"plain\nwindows\r\n\nbad \xff\n" + "grün".encode() + b"\n" + b"x" * 9000 + b"\nlast")
    """
    _run(stage, *python(source))
    assert stage.lines() == ["plain", "windows", "", "bad \\xff", "grün", "x" * 8192, "last"]
    cut = [event.payload.get("truncated") for event in stage.log.query(kind="exec.output")]
    assert cut == [None] * 5 + [True, None]


def test_recorded_lines_say_which_stream_they_came_on(stage: Stage) -> None:
    _run(stage, *python("import sys; print('out'); print('err', file=sys.stderr)"))
    found = {event.payload["line"]: event.payload["stream"] for event in stage.log.query(kind="exec.output")}
    assert found == {"out": "stdout", "err": "stderr"}


def test_the_command_is_told_its_execution_run_and_fencing_token(stage: Stage) -> None:
    source = """
        import os
        print([os.environ["EVENTLOG_" + n] for n in ("FENCING_TOKEN", "EXECUTION_ID", "ACTION", "RUN_ID", "STAGE")])
    """
    assert _run(stage, *python(source)).stdout == b"['41', 'e1', 'build', 'r1', 'compile']\n"


def test_without_the_record_of_output_only_the_execution_is_recorded(stage: Stage) -> None:
    assert _run(stage, *python("print('quiet')"), record_output=False).stdout == b"quiet\n"
    assert "exec.output" not in stage.kinds()
    assert "output_lines" not in stage.payload("stage.succeeded")


def test_a_stage_of_a_longer_run_does_not_begin_or_end_that_run(stage: Stage) -> None:
    _run(stage, *python("pass"), whole_run=False)
    assert stage.kinds() == ["stage.queued", "stage.started", "stage.succeeded", "execution.completed"]


def test_what_a_command_leaves_running_does_not_hold_us_up(stage: Stage) -> None:
    source = """
        import subprocess, sys
        child = subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(60)"])
        print(child.pid)
    """
    with stage.start(*python(source)) as running:
        assert running.end() == 0
        assert any("keeps its output open" in line for line in running.err)
        [left] = pids_said(running)
        os.kill(left, 15)
        until_gone(left)
    assert stage.kinds()[-1] == "run.finished"


def test_what_a_command_leaves_running_may_still_write_for_a_moment(stage: Stage) -> None:
    source = """
        import os
        command = os.getpid()
        if os.fork() == 0:
            while os.getppid() == command: pass
            print("late")
    """
    assert _run(stage, *python(source)).stdout == b"late\n"
    assert stage.lines() == ["late"]


def test_a_reader_that_goes_away_ends_the_command_as_it_would_without_us(stage: Stage) -> None:
    stage.grant()
    with subprocess.Popen(
        stage.command("sh", "-c", "while echo line; do :; done"),
        env=stage.environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as running:
        assert running.stdout is not None
        assert running.stderr is not None
        assert running.stdout.readline() == b"line\n"
        running.stdout.close()
        assert running.wait(PATIENCE_S) == 128 + 13
        assert running.stderr.read() == b""


def test_all_output_arrives_however_slow_its_reader(stage: Stage) -> None:
    """The pipes along the way are full when the command ends; the reader begins only then."""
    stage.grant()
    with subprocess.Popen(
        stage.command(*python("import sys; sys.stdout.buffer.write(b'x' * 400_000)")),
        env=stage.environ,
        stdout=subprocess.PIPE,
    ) as running:
        eventually(lambda: stage.released, "the command ends")
        assert running.stdout is not None
        assert len(running.stdout.read()) == 400_000
        assert running.wait(PATIENCE_S) == 0


def test_a_flood_is_not_held_up_by_a_redis_that_does_not_answer(stage: Stage) -> None:
    lines = 100 * 65536
    with RedisProcess() as own:
        own.pause()
        stage.environ = {**stage.environ, "EVENTLOG_REDIS_URL": own.url, "EVENTLOG_MAX_ENTRIES": "100000"}
        stage.grant()
        source = "import sys\nfor _ in range(100): sys.stdout.buffer.write(b'0123456789abcde\\n' * 65536)"
        with subprocess.Popen(
            stage.command(*python(source), lease_s=60.0),
            env=stage.environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        ) as running:
            assert running.stdout is not None
            assert running.stderr is not None
            seen = 0
            while seen < lines * 16:
                seen += len(running.stdout.read1(1 << 20))
            eventually(lambda: stage.released, "the slot is given back")
            own.resume()
            assert running.wait(PATIENCE_S) == 0
            said = running.stderr.read().decode()
        with create_event_log("redis", url=own.url, key_prefix=stage.environ["EVENTLOG_KEY_PREFIX"]) as log:
            recorded = len(log.query(kind="exec.output"))
            dropped = sum(event.payload["lines"] for event in log.query(kind="exec.output_dropped"))
            [ended] = log.query(kind="stage.succeeded")
    assert recorded + dropped == lines
    assert 0 < recorded <= 10_000
    assert ended.payload["output_lines_dropped"] == dropped
    assert said == f"note: {dropped} lines of output came too fast to be recorded\n"


def test_redis_that_goes_away_for_a_while_costs_no_event(stage: Stage) -> None:
    with RedisProcess() as own:
        stage.environ = {**stage.environ, "EVENTLOG_REDIS_URL": own.url}
        source = """
            import sys
            for line in sys.stdin: print("heard", line, end="")
        """
        with stage.start(*python(source), lease_s=60.0) as running:
            running.write(b"one\n")
            running.lines(1)
            own.stop()
            running.write(b"two\n")
            running.lines(2)
            own.start()
            running.write(b"three\n")
            running.lines(3)
            assert running.process.stdin is not None
            running.process.stdin.close()
            assert running.end() == 0
            assert running.err == []
        with create_event_log("redis", url=own.url, key_prefix=stage.environ["EVENTLOG_KEY_PREFIX"]) as log:
            kinds = [event.kind for event in log.query()]
    assert kinds == [
        *("run.started", "stage.queued", "stage.started"),
        *["exec.output"] * 3,
        *("stage.succeeded", "execution.completed", "run.finished"),
    ]


def test_redis_that_stays_away_delays_the_end_for_a_bounded_time_and_is_told(stage: Stage) -> None:
    with RedisProcess() as own:
        stage.environ = {**stage.environ, "EVENTLOG_REDIS_URL": own.url}
        own.stop()
        done = _run(stage, *python("raise SystemExit(7)"), lease_s=60.0)
    assert done.returncode == 7
    assert b"6 events of this execution were not recorded" in done.stderr

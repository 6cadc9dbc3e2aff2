"""Signals, leases and deaths: what becomes of a command's whole process group. The slot is the test's."""

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from eventlog import EventLog
from tests.support.redis_process import eventually

from .exec_stage import Stage, gone, pids_said, python, stopped, until_gone
from .program import PATIENCE_S, Program

# Prints its own pid and its child's, and both wait for a signal for ever.
FAMILY = """
    import os, signal
    child = os.fork()
    if child == 0:
        while True: signal.pause()
    print(os.getpid())
    print(child)
    while True: signal.pause()
"""
# As FAMILY, but deaf to all that a process can be deaf to.
STUBBORN = """
    import os, signal
    for number in (1, 2, 3, 15): signal.signal(number, signal.SIG_IGN)
    child = os.fork()
    if child == 0:
        while True: signal.pause()
    print(os.getpid())
    print(child)
    while True: signal.pause()
"""


@pytest.fixture
def stage(tmp_path: Path, program: Program, log: EventLog) -> Stage:
    return Stage(tmp_path, program.environ, log)


@pytest.fixture
def left_over() -> Iterator[list[int]]:
    """Processes that must not outlive the test, even if it fails."""
    pids: list[int] = []
    yield pids
    for pid in pids:
        if not gone(pid):
            os.kill(pid, signal.SIGKILL)


def test_the_command_is_in_a_process_group_of_its_own_and_of_our_session(stage: Stage) -> None:
    with stage.start(*python("import os; print(os.getpgrp()); print(os.getsid(0)); input()")) as running:
        group, session = pids_said(running, 2)
        assert group not in (os.getpgid(running.process.pid), os.getpgrp())
        assert session == os.getsid(running.process.pid)
        running.write(b"\n")
        assert running.end() == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT])
def test_a_signal_that_ends_us_ends_all_of_the_group_first(stage: Stage, number: int, left_over: list[int]) -> None:
    with stage.start(*python(FAMILY)) as running:
        left_over += pids_said(running, 2)
        running.signal(number)
        assert running.end() == 128 + number
        until_gone(*left_over)
    assert stage.payload("run.cancelled")["reason"] == signal.Signals(number).name
    assert stage.payload("execution.completed")["status"] == "cancelled"
    assert stage.released


@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGUSR2])
def test_other_signals_reach_the_command_and_all_it_started(stage: Stage, number: int) -> None:
    source = f"""
        import os, signal
        def heard(*_):
            os.write(1, b"heard\\n")
            os._exit(0)
        signal.signal({number}, heard)
        child = os.fork()
        if child == 0: os.write(1, b"ready\\n"); signal.pause()
        os.write(1, b"ready\\n"); signal.pause()
    """
    with stage.start(*python(source)) as running:
        running.lines(2)
        running.signal(number)
        running.lines(4)
        assert running.end() == 0
        assert running.out[2:] == ["heard", "heard"]


def test_a_command_that_handles_the_signal_ends_as_it_likes(stage: Stage) -> None:
    source = """
        import signal, sys
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
        print("ready")
        signal.pause()
    """
    with stage.start(*python(source)) as running:
        running.lines(1)
        running.signal(signal.SIGTERM)
        assert running.end() == 0
    assert stage.kinds()[-1] == "run.finished"


def test_a_signal_that_we_were_started_to_ignore_stays_ignored(stage: Stage) -> None:
    """As under nohup."""
    stage.grant()
    source = """
        import signal
        print(signal.getsignal(signal.SIGHUP) is signal.SIG_IGN, signal.getsignal(signal.SIGTERM) is signal.SIG_IGN)
        input()
    """
    with subprocess.Popen(
        ["sh", "-c", 'trap "" HUP; exec "$@"', "sh", *stage.command(*python(source))],
        env=stage.environ,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as running:
        assert running.stdout is not None
        assert running.stdin is not None
        assert running.stdout.readline() == b"True False\n"
        running.send_signal(signal.SIGHUP)
        running.stdin.write(b"\n")
        running.stdin.close()
        assert running.wait(PATIENCE_S) == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_interrupted_in_the_queue_nothing_is_run_and_the_run_is_cancelled(stage: Stage, number: int) -> None:
    with stage.start(*python("print('never')"), granted=False) as running:
        stage.until_queued()
        running.signal(number)
        assert running.end() == 128 + number
        assert (running.out, running.err) == ([], [])
    assert stage.kinds() == ["run.started", "stage.queued", "stage.skipped", "run.cancelled"]
    assert stage.payload("stage.skipped")["reason"] == signal.Signals(number).name
    assert stage.payload("run.cancelled")["reason"] == signal.Signals(number).name


def test_when_the_lease_is_lost_all_of_the_group_is_ended(stage: Stage, left_over: list[int]) -> None:
    with stage.start(*python(FAMILY)) as running:
        left_over += pids_said(running, 2)
        stage.lose()
        assert running.end() == 69
        until_gone(*left_over)
        assert any("the lease on a slot of build was lost; its command is ended" in line for line in running.err)
    assert stage.payload("exec.lease_lost") == {"action": "build", "fencing_token": 41, "ended": True}
    assert stage.payload("stage.failed")["exit_code"] == 128 + 15
    assert stage.payload("execution.completed")["status"] == "lease_lost"
    assert stage.payload("run.failed")["reason"] == "its lease was lost"


def test_a_command_that_does_not_want_to_end_is_killed_after_the_grace(stage: Stage, left_over: list[int]) -> None:
    with stage.start(*python(STUBBORN), grace_s=0.2) as running:
        left_over += pids_said(running, 2)
        stage.lose()
        assert running.end() == 69
        until_gone(*left_over)
    assert stage.payload("stage.failed")["exit_code"] == 128 + 9


def test_a_command_that_is_stopped_hears_that_its_lease_is_lost(stage: Stage, left_over: list[int]) -> None:
    with stage.start(*python(FAMILY), grace_s=60.0) as running:
        left_over += pids_said(running, 2)
        os.kill(left_over[0], signal.SIGSTOP)
        eventually(lambda: stopped(left_over[0]), "it stops")
        stage.lose()
        assert running.end() == 69
        until_gone(*left_over)


def test_a_command_that_may_go_on_without_its_lease_does_and_says_so(stage: Stage) -> None:
    with stage.start(*python("print('ready'); print('heard', input())"), ends_when_lost=False) as running:
        running.lines(1)
        stage.lose()
        running.until(lambda: running.err, "a word about the loss")
        assert running.err == ["note: the lease on a slot of build was lost; its command goes on without a slot"]
        running.write(b"you\n")
        assert running.end() == 0
        assert running.out == ["ready", "heard you"]
    assert stage.payload("execution.completed")["lease_lost"] is True
    assert stage.payload("stage.succeeded")["lease_lost"] is True
    assert stage.kinds()[-1] == "run.finished"


@pytest.mark.parametrize("source", [FAMILY, STUBBORN])
def test_if_we_are_killed_the_command_and_all_it_started_end_too(
    stage: Stage, source: str, left_over: list[int]
) -> None:
    with stage.start(*python(source), grace_s=0.5) as running:
        left_over += pids_said(running, 2)
        running.signal(signal.SIGKILL)
        assert running.process.wait(PATIENCE_S) == -9
        until_gone(*left_over)


def test_if_we_are_frozen_past_the_lease_the_command_ends_and_we_learn_of_it(
    stage: Stage, left_over: list[int]
) -> None:
    with stage.start(*python(FAMILY), lease_s=0.6) as running:
        left_over += pids_said(running, 2)
        running.signal(signal.SIGSTOP)
        until_gone(*left_over)
        running.signal(signal.SIGCONT)
        assert running.end() == 69
    assert stage.payload("execution.completed")["status"] == "lease_lost"


def test_if_we_are_frozen_within_the_lease_nothing_happens(stage: Stage) -> None:
    with stage.start(*python("print('ready'); input()"), lease_s=60.0) as running:
        running.lines(1)
        running.signal(signal.SIGSTOP)
        eventually(lambda: stopped(running.process.pid), "we are frozen")
        running.signal(signal.SIGCONT)
        running.write(b"\n")
        assert running.end() == 0


def test_stopped_like_a_job_we_stop_with_the_command_and_go_on_with_it(stage: Stage, left_over: list[int]) -> None:
    with stage.start(*python(FAMILY), lease_s=60.0) as running:
        left_over += pids_said(running, 2)
        running.signal(signal.SIGTSTP)
        everybody = [running.process.pid, *left_over]
        eventually(lambda: all(stopped(pid) for pid in everybody), "all stop")
        running.signal(signal.SIGCONT)
        eventually(lambda: not any(stopped(pid) for pid in everybody), "all go on")
        running.signal(signal.SIGTERM)
        assert running.end() == 128 + 15


def test_stopped_like_a_job_past_the_lease_the_command_does_not_go_on(stage: Stage, left_over: list[int]) -> None:
    with stage.start(*python(FAMILY), lease_s=0.6) as running:
        left_over += pids_said(running, 2)
        running.signal(signal.SIGTSTP)
        until_gone(*left_over)
        running.signal(signal.SIGCONT)
        assert running.end() == 69


def test_a_command_that_ends_its_own_group_ends_like_any_other(stage: Stage) -> None:
    done = subprocess.run(
        stage.command("sh", "-c", "kill -TERM 0; sleep 60"),
        env=stage.environ,
        timeout=PATIENCE_S,
        check=False,
        stdin=subprocess.DEVNULL,
        preexec_fn=stage.grant,
    )
    assert done.returncode == 128 + 15
    assert stage.released


def test_a_command_that_kills_its_own_group_ends_like_any_other(stage: Stage) -> None:
    stage.grant()
    done = subprocess.run(stage.command("sh", "-c", "kill -KILL 0"), env=stage.environ, timeout=PATIENCE_S, check=False)
    assert done.returncode == 128 + 9
    assert stage.kinds()[-1] == "run.failed"


def test_nothing_of_ours_is_left_when_the_command_has_ended(stage: Stage) -> None:
    source = "import os; print(os.getpgrp()); print(os.getpid()); input()"
    with stage.start(*python(source)) as running:
        guardian, command = pids_said(running, 2)
        assert not gone(guardian)
        running.write(b"\n")
        assert running.end() == 0
        until_gone(guardian, command)

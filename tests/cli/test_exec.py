"""`eventlog exec` with the slots of a real Redis, in real processes."""

import os
import signal
import time
from collections.abc import Iterator
from itertools import pairwise

import pytest

from eventlog import EventLog
from eventlog.slots.blocking import SlotQueue
from eventlog.slots.policy import Policy
from tests.support.redis_process import RedisProcess, eventually

from .exec_stage import pids_said, python, until_gone
from .program import Program, Running
from .test_exec_signals import FAMILY

WAIT = "print('running'); input()"


@pytest.fixture
def slots(log: EventLog) -> Iterator[SlotQueue]:
    with log.slots() as opened:
        yield opened


def _exec(action: str = "build", limit: int = 1, **options: object) -> list[str]:
    given = [f"--{name.replace('_', '-')}={value}" for name, value in options.items()]
    return ["exec", "--action", action, "--max-concurrent", str(limit), *given, "--"]


def _end(running: Running) -> int:
    running.write(b"\n")
    return running.end()


def test_three_executions_at_limit_one_run_in_the_order_they_queued(
    program: Program, log: EventLog, slots: SlotQueue
) -> None:
    with slots.acquire("build", "first", max_concurrent=1) as first:
        started = []
        for number in range(3):
            started.append(program.start(*_exec(execution_id=f"e{number}"), *python(f"print('ran {number}')")))
            eventually(lambda wanted=number + 1: slots.stats("build").queue_length == wanted, "it queues")  # type: ignore[misc]
        first.release()
        for running in started:
            with running:
                assert running.end() == 0
    assert [event.run_id for event in log.query(kind="stage.queued")] == ["e0", "e1", "e2"]
    assert [event.run_id for event in log.query(kind="stage.started")] == ["e0", "e1", "e2"]
    tokens = [event.payload["fencing_token"] for event in log.query(kind="stage.started")]
    assert all(earlier < later for earlier, later in pairwise([first.fencing_token, *tokens]))
    story = [event.kind for event in log.query(kind="slot.*") if event.payload["execution_id"] == "e1"]
    assert story == ["slot.queued", "slot.granted", "slot.released"]
    assert slots.stats("build").active_count == 0


def test_actions_and_groups_do_not_wait_for_each_other(program: Program) -> None:
    commands = [_exec("build"), _exec("deploy"), _exec("build", group="east"), _exec("build", group="west")]
    running = [program.start(*command, *python(WAIT)) for command in commands]
    for one in running:
        one.lines(1)
    for one in running:
        with one:
            assert _end(one) == 0


def test_the_limit_holds_and_the_slot_changes_hands_when_a_command_ends(program: Program, slots: SlotQueue) -> None:
    with program.start(*_exec(), *python(WAIT)) as first:
        first.lines(1)
        with program.start(*_exec(), *python(WAIT)) as second:
            eventually(lambda: slots.stats("build").queue_length == 1, "the second queues")
            assert second.out == []
            assert _end(first) == 0
            second.lines(1)
            assert slots.stats("build").active_count == 1
            assert _end(second) == 0


def test_the_execution_and_run_have_the_names_that_they_are_given(program: Program, log: EventLog) -> None:
    command = _exec(execution_id="e1", run="r1", stage="compile", group="east", source="ci")
    assert program(*command, *python("print('hello')")).stdout == b"hello\n"
    assert [event.run_id for event in log.query(kind="run.*")] == ["r1", "r1"]
    [stage] = log.query(kind="stage.succeeded")
    assert (stage.stage_name, stage.source) == ("compile", "ci")
    [completed] = log.query(kind="execution.completed")
    assert (completed.payload["execution_id"], completed.payload["group"]) == ("e1", "east")


def test_by_default_the_run_is_the_execution_and_the_stage_the_action(program: Program, log: EventLog) -> None:
    assert program(*_exec(), *python("pass")).returncode == 0
    [completed] = log.query(kind="execution.completed")
    [stage] = log.query(kind="stage.started")
    assert completed.run_id == completed.payload["execution_id"]
    assert stage.stage_name == "build"


def test_options_of_the_command_are_its_own_with_or_without_dashes(program: Program) -> None:
    for command in (_exec(), _exec()[:-1]):
        assert program(*command, "sh", "-c", "echo $1", "sh", "--action").stdout == b"--action\n"


def test_without_a_slot_in_time_nothing_is_run_and_the_exit_code_is_75(
    program: Program, log: EventLog, slots: SlotQueue
) -> None:
    with slots.acquire("build", "first", max_concurrent=1):
        done = program(*_exec(timeout=0.2), *python("print('never')"))
    assert (done.returncode, done.stdout) == (75, b"")
    assert done.stderr == b"eventlog: build: no slot within 0.2 s\n"
    [run] = log.runs().runs
    assert (run.status, run.events) == ("failed", 4)
    [skipped] = log.stages(run.run_id)
    assert (skipped.stage_name, skipped.status) == ("build", "skipped")
    assert skipped.reason == "build: no slot within 0.2 s"
    [failed] = log.query(kind="run.failed")
    assert (failed.payload["exit_code"], failed.payload["reason"]) == (75, skipped.reason)


def test_a_cancelled_place_in_the_line_ends_with_75(program: Program, log: EventLog, slots: SlotQueue) -> None:
    command = (*_exec(execution_id="e1"), *python("print('never')"))
    with slots.acquire("build", "first", max_concurrent=1), program.start(*command) as running:
        eventually(lambda: slots.stats("build").queue_length == 1, "it queues")
        assert slots.cancel("build", "e1")
        assert running.end() == 75
        assert "cancelled" in running.err[0]
    assert log.run("e1").status == "failed"
    assert log.stages("e1")[0].status == "skipped"


def test_an_execution_that_holds_its_slot_already_is_told_so_and_its_run_goes_on(
    program: Program, log: EventLog, slots: SlotQueue
) -> None:
    with program.start(*_exec(execution_id="e1"), *python(WAIT)) as first:
        first.lines(1)
        done = program(*_exec(execution_id="e1"), *python("print('never')"))
        assert (done.returncode, done.stdout) == (75, b"")
        assert b"holds a slot already" in done.stderr
        assert slots.stats("build").active_count == 1
        assert log.run("e1").status == "running"
        assert [stage.status for stage in log.stages("e1")] == ["running"]
        assert _end(first) == 0
    assert log.run("e1").status == "finished"
    assert [stage.status for stage in log.stages("e1")] == ["succeeded"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_in_the_queue_it_leaves_the_line(
    program: Program, log: EventLog, slots: SlotQueue, number: int
) -> None:
    command = (*_exec(execution_id="e1"), *python("print('never')"))
    with slots.acquire("build", "first", max_concurrent=1), program.start(*command) as running:
        eventually(lambda: slots.stats("build").queue_length == 1, "it queues")
        running.signal(number)
        assert running.end() == 128 + number
        assert running.err == []
        assert slots.stats("build").queue_length == 0
    assert log.run("e1").status == "cancelled"
    assert [(stage.status, stage.reason) for stage in log.stages("e1")] == [("skipped", signal.Signals(number).name)]


def test_a_slot_that_is_taken_away_ends_the_command(program: Program, log: EventLog, slots: SlotQueue) -> None:
    with program.start(*_exec(lease=0.9), *python(FAMILY)) as running:
        family = pids_said(running, 2)
        slots.clear("build")
        assert running.end() == 69
        until_gone(*family)
    [completed] = log.query(kind="execution.completed")
    assert completed.payload["status"] == "lease_lost"


def test_a_slot_that_is_taken_away_leaves_the_command_alone_if_so_wished(program: Program, slots: SlotQueue) -> None:
    with program.start(*_exec(lease=0.9, on_lost="continue"), *python(WAIT)) as running:
        running.lines(1)
        slots.clear("build")
        running.until(lambda: running.err, "a word about the loss")
        assert _end(running) == 0


def test_a_lease_renews_itself_for_as_long_as_the_command_runs(program: Program, slots: SlotQueue) -> None:
    with program.start(*_exec(lease=0.6), *python(WAIT)) as running:
        running.lines(1)
        [holder] = slots.stats("build").holders
        eventually(lambda: slots.stats("build").time > holder.granted_at + 2, "three leases have passed")
        assert slots.stats("build").holders[0].fencing_token == holder.fencing_token
        assert _end(running) == 0


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
def test_killed_or_frozen_the_next_runs_after_the_lease_and_the_first_command_is_gone(
    program: Program, how: int
) -> None:
    with program.start(*_exec(lease=1.5), *python(FAMILY)) as first:
        family = pids_said(first, 2)
        with program.start(*_exec(), *python(WAIT)) as second:
            first.signal(how)
            second.lines(1)
            until_gone(*family)
            if how == signal.SIGSTOP:
                first.signal(signal.SIGCONT)
                assert first.end() == 69
            assert _end(second) == 0


def test_redis_gone_for_less_than_the_lease_does_not_touch_the_command(key_prefix: str) -> None:
    with RedisProcess() as own:
        program = Program({"EVENTLOG_REDIS_URL": own.url, "EVENTLOG_KEY_PREFIX": key_prefix})
        with program.start(*_exec(lease=30), *python(WAIT)) as running:
            running.lines(1)
            own.restart()
            assert _end(running) == 0


def test_redis_gone_for_longer_than_the_lease_ends_the_command(key_prefix: str) -> None:
    with RedisProcess() as own:
        program = Program({"EVENTLOG_REDIS_URL": own.url, "EVENTLOG_KEY_PREFIX": key_prefix})
        with program.start(*_exec(lease=1), *python(FAMILY)) as running:
            family = pids_said(running, 2)
            own.stop()
            until_gone(*family)
            assert running.end() == 69


def test_redis_that_is_not_there_at_all_is_exit_code_3(program: Program) -> None:
    asked = time.monotonic()
    done = program(*_exec(), *python("print('never')"), EVENTLOG_REDIS_URL="unix:///nonexistent/socket")
    assert (done.returncode, done.stdout) == (3, b"")
    assert done.stderr.count(b"\n") == 1
    assert time.monotonic() - asked < 15


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--action", "no spaces"], "action"),
        (["--action", "a", "--max-concurrent", "0"], "max_concurrent"),
        (["--action", "a", "--max-concurrent", "x"], "max-concurrent"),
        (["--action", "a", "--lease", "0"], "lease_s"),
        (["--action", "a"], "--max-concurrent N, set a policy"),
        (["--action", "a", "--group", "g", "--pack", "p"], "--no-limit"),
        (["--action", "a", "--no-limit", "--max-concurrent", "3"], "no_limit"),
        (["--action", "a", "--timeout", "-1"], "timeout_s"),
        (["--action", "a", "--lane", "a b"], "lane_id: 'a b'"),
        (["--action", "a", "--grace", "-1"], "grace"),
        (["--action", "a", "--grace", "nan"], "grace"),
        (["--action", "a", "--retries", "-1"], "retries"),
        (["--action", "a", "--sample-interval", "inf"], "sample_interval"),
        (["--action", "a", "--sample-interval", "0.001"], "sample_interval"),
        (["--action", "a", "--telemetry-samples", "-1"], "telemetry_samples"),
        (["--action", "a", "--stage", ""], "stage_name"),
        (["--action", "a", "--stage-group", ""], "group_id"),
        (["--action", "a", "--execution-id", "no spaces"], "execution_id"),
        (["--action", "a", "--run", "no spaces"], "run_id"),
        (["--action", "a", "--source", ""], "source"),
        (["--action", "a", "--on-lost", "shrug"], "on-lost"),
        (["--action", "a", "--url", "ftp://127.0.0.1:1"], "url"),
        ([], "action"),
    ],
)
def test_wrong_usage_is_exit_code_2_says_what_is_wrong_and_records_nothing(
    program: Program, log: EventLog, options: list[str], named: str
) -> None:
    done = program("exec", *options, "--", "true")
    assert done.returncode == 2
    assert named in done.stderr.decode()
    assert log.info().last_offset == 0


def test_what_a_policy_limits_needs_no_number(program: Program, slots: SlotQueue) -> None:
    command = ["exec", "--action", "build", "--group", "eu", "--pack", "p", "--", "true"]
    slots.put_policy("global", Policy(max_queue_length=5))
    slots.put_policy("action/other", Policy(max_concurrent=1))
    assert program(*command).returncode == 2
    for scope in ("global", "pack/p", "action/build", "queue/build/eu"):
        slots.put_policy(scope, Policy(max_concurrent=1))
        assert program(*command).returncode == 0, scope
        slots.delete_policy(scope)
    slots.set_limit("build", 1, group_key="eu")
    assert program(*command).returncode == 0


def test_another_number_than_the_one_that_stands_is_reported(program: Program, slots: SlotQueue) -> None:
    with slots.acquire("build", "first", max_concurrent=2):
        done = program(*_exec(limit=7), "true")
    assert done.returncode == 0
    assert b"max_concurrent 7 does not count: 2 was named first" in done.stderr


def test_a_full_queue_is_exit_code_75(program: Program, slots: SlotQueue) -> None:
    slots.put_policy("action/build", Policy(max_concurrent=1, max_queue_length=1))
    with slots.acquire("build", "first"):
        slots.enqueue("build", "second")
        done = program(*_exec(), *python("print('never')"))
    assert (done.returncode, done.stdout) == (75, b"")
    assert b"the queue is full" in done.stderr


def test_a_command_is_required(program: Program) -> None:
    assert program("exec", "--action", "a", "--").returncode == 2


def test_nothing_is_left_of_us_when_we_are_killed(program: Program) -> None:
    source = "import os, signal; print(os.getpgrp()); print(os.getpid()); signal.pause()"
    with program.start(*_exec(grace=0.2), *python(source)) as running:
        guardian, command = pids_said(running, 2)
        os.kill(running.process.pid, signal.SIGKILL)
        until_gone(guardian, command)

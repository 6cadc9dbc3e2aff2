"""The process group of a command, without anything around it."""

import os
import time
from collections.abc import Iterator

import psutil
import pytest

from eventlog.execution.group import CommandGroup, Ended
from tests.support.redis_process import eventually

from .exec_stage import gone, python, until_gone


@pytest.fixture
def group() -> Iterator[CommandGroup]:
    opened = CommandGroup(grace_s=0.2)
    yield opened
    opened.close()


def _started(group: CommandGroup, *command: str) -> int:
    pipes = group.start(command, os.environ)
    os.close(pipes.stderr)
    with os.fdopen(pipes.stdout) as said:
        return int(said.readline())


def test_a_group_that_is_closed_with_its_command_running_kills_it(group: CommandGroup) -> None:
    pid = _started(group, *python("import os, signal; print(os.getpid()); signal.pause()"))
    assert not gone(pid)
    group.close()
    assert gone(pid)
    assert gone(group.id)


def test_a_group_whose_time_is_over_is_ended_by_its_guardian(group: CommandGroup) -> None:
    pid = _started(group, *python("import os, signal; print(os.getpid()); signal.pause()"))
    group.allow(60.0)
    group.allow(0.1)
    until_gone(pid)
    assert group.ended_by_guardian
    ended = group.poll()
    assert isinstance(ended, Ended)
    assert ended.exit_code == 128 + 15


def test_a_group_that_may_go_on_is_left_alone(group: CommandGroup) -> None:
    pid = _started(group, *python("import os, signal; print(os.getpid()); signal.pause()"))
    until = time.monotonic() + 2.5
    eventually(lambda: group.allow(1.5) or time.monotonic() > until, "longer than that")
    assert not gone(pid)
    assert not group.ended_by_guardian


def test_a_command_that_cannot_be_started_leaves_nothing_open(group: CommandGroup) -> None:
    open_before = len(os.listdir("/dev/fd"))
    with pytest.raises(FileNotFoundError) as raised:
        group.start(["no-such-command"], os.environ)
    assert raised.value.filename == "no-such-command"
    assert len(os.listdir("/dev/fd")) == open_before


def test_what_a_command_used_is_known_at_its_end(group: CommandGroup) -> None:
    busy = "import time\nwhile time.process_time() < 0.05: pass\nprint(1)"
    _started(group, *python(busy))
    found: list[object] = []
    eventually(lambda: found.append(group.poll()) or found[-1], "it ends")
    [*_, ended] = found
    assert isinstance(ended, Ended)
    assert ended.usage["cpu_user_ms"] + ended.usage["cpu_system_ms"] >= 50


@pytest.mark.skipif(not hasattr(os, "waitid"), reason="this system does not let us look at a process that has ended")
@pytest.mark.parametrize("how", ["exit", "signal"])
def test_a_command_that_has_ended_is_looked_at_once_more_before_it_is_gone(group: CommandGroup, how: str) -> None:
    ends = "input()" if how == "exit" else "os.kill(os.getpid(), 9)"
    pid = _started(group, *python(f"import os; print(os.getpid()); {ends}"))
    seen: list[str] = []
    found: list[object] = []
    eventually(lambda: found.append(group.poll(lambda: seen.append(psutil.Process(pid).status()))) or found[-1], "end")
    assert isinstance(found[-1], Ended)
    assert group.poll(lambda: seen.append("again")) is None
    assert seen == [psutil.STATUS_ZOMBIE]
    assert not psutil.pid_exists(pid)

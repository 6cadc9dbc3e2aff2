"""An execution from the queue to the exit code: the slot, the command under it, its record.

The main thread waits for signals, the command and the lease, and never for Redis or for a reader of our output while
the command runs.
"""

import os
import shlex
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from ..errors import EventLogError
from .group import CommandGroup, Ended, Pipes, Stopped
from .lines import LineSplitter
from .outcome import Outcome, Status, not_started, outcome_of
from .pump import Ending, Pump
from .record import Appender, Record
from .slot import Acquire, HeldSlot
from .terminal import Terminal
from .wakeups import ENDING, Interrupted, Wakeups

_STAGE_GROUP = "g0"
_LEFT_OPEN_S = 2.0
_RECORD_PATIENCE_S = 5.0
_LONGEST_COMMAND = 4096
_LONGEST_PAUSE_S = 1.0


class Task(NamedTuple):
    """What is to be done. `whole_run` is False where others say how the run begins and ends."""

    command: Sequence[str]
    action: str
    execution_id: str
    run_id: str
    stage_name: str
    group_key: str | None = None
    ends_when_lost: bool = True
    grace_s: float = 5.0
    whole_run: bool = True
    record_output: bool = True
    source: str = "exec"


def perform(task: Task, acquire: Acquire, log: Appender, note: Callable[[str], None]) -> int:
    """Carry out `task` in the main thread and return the exit code; `note` tells the person something.

    Raises what `acquire` raises: then nothing was run. Output goes to our own stdout and stderr.
    """
    wakeups = Wakeups()
    # Started now, the guardian is ready by the time of the grant.
    group = CommandGroup(task.grace_s)
    try:
        slot = None
        try:
            with wakeups.interrupting():
                slot = acquire(lambda *_: wakeups.tell())
        except Interrupted:
            if slot is not None:
                slot.release()
            raise
        return _Performance(task, slot, log, note, wakeups, group).run()
    except Interrupted as interrupted:
        return 128 + interrupted.number
    finally:
        group.close()
        wakeups.close()


class _Performance:
    """Holds the slot, and gives it back whatever happens."""

    def __init__(
        self,
        task: Task,
        slot: HeldSlot,
        log: Appender,
        note: Callable[[str], None],
        wakeups: Wakeups,
        group: CommandGroup,
    ) -> None:
        self._task = task
        self._slot = slot
        self._note = note
        self._wakeups = wakeups
        self._group = group
        self._terminal = Terminal()
        self._record = Record(log, self._scope, on_end=wakeups.tell)
        self._ending = Ending(_LEFT_OPEN_S)
        self._began = time.monotonic()
        self._asked_by: int | None = None
        # What the command may not have heard yet, as it was stopped at that moment.
        self._unheard = self._asked_to_stop = False
        self._stopped = self._lend_again = False
        self._lost = self._released = False
        self._kill_at: float | None = None

    def run(self) -> int:
        """From the grant to the exit code."""
        try:
            self._record.start()
            self._tell_beginning()
            outcome, usage, pumps = self._run_command()
            self._release()
            self._await_output(pumps)
            self._tell_end(outcome, usage)
            self._await_record()
            return outcome.exit_code
        finally:
            self._terminal.close()
            self._record.abandon()
            self._release()

    # The command

    def _run_command(self) -> tuple[Outcome, Mapping[str, int], list[Pump]]:
        if not self._slot.valid:
            self._lost = True
            self._note("the lease was lost before the command was started; it was not run")
            return Outcome(Status.lease_lost, 0, "its lease was lost before it was started"), {}, []
        try:
            pipes = self._group.start(self._task.command, self._environ())
        except (OSError, ValueError) as error:
            failure = error if isinstance(error, OSError) else OSError(0, str(error))
            outcome = not_started(failure)
            self._note(f"{self._task.command[0]}: {outcome.reason}")
            return outcome, {}, []
        pumps = self._pumps(pipes)
        ended = self._supervise()
        self._terminal.close()
        self._lost = self._lost or not self._slot.valid
        killed = self._kill_at is not None or self._group.ended_by_guardian
        if killed:
            # Whatever is left of it has no slot either.
            self._group.signal(signal.SIGKILL)
        # From here on no lease counts: the slot is given back.
        self._group.close()
        self._ending.tell()
        return outcome_of(ended.exit_code, ended.signal, asked_by=self._asked_by, taken=killed), ended.usage, pumps

    def _environ(self) -> dict[str, str]:
        return {
            **os.environ,
            "EVENTLOG_FENCING_TOKEN": str(self._slot.fencing_token),
            "EVENTLOG_EXECUTION_ID": self._task.execution_id,
            "EVENTLOG_ACTION": self._task.action,
        }

    def _pumps(self, pipes: Pipes) -> list[Pump]:
        sys.stdout.flush()
        sys.stderr.flush()
        pumps = [self._pump("stdout", pipes.stdout, 1), self._pump("stderr", pipes.stderr, 2)]
        for pump in pumps:
            pump.start()
        return pumps

    def _pump(self, stream: str, source: int, sink: int) -> Pump:
        splitter = LineSplitter()
        if not self._task.record_output:
            return Pump(source, sink, self._ending, take=lambda _: None, finish=lambda: None, on_end=self._wakeups.tell)
        return Pump(
            source,
            sink,
            self._ending,
            take=lambda chunk: self._record.take(stream, splitter, chunk),
            finish=lambda: self._record.finish(stream, splitter),
            on_end=self._wakeups.tell,
        )

    def _supervise(self) -> Ended:
        """Pass on signals, watch the lease, until the command has ended."""
        while True:
            news = self._group.poll()
            if isinstance(news, Ended):
                return news
            if isinstance(news, Stopped):
                self._has_stopped(news.signal)
            self._watch_lease()
            for number in self._wakeups.wait(self._pause_s()):
                self._pass_on(number)

    def _pause_s(self) -> float:
        if self._kill_at is not None:
            return self._kill_at - time.monotonic()
        return _LONGEST_PAUSE_S if self._lost else min(_LONGEST_PAUSE_S, self._slot.expires_in_s / 4)

    # Signals

    def _pass_on(self, number: int) -> None:
        if number == signal.SIGCONT:
            self._go_on()
        elif number in ENDING:
            self._asked_by = number
            self._unheard = True
            self._group.signal(number)
            if self._stopped:
                # Stopped, it would not hear of it.
                self._group.signal(signal.SIGCONT)
        elif number != signal.SIGCHLD:
            self._asked_to_stop = self._asked_to_stop or number == signal.SIGTSTP
            self._group.signal(number)

    def _has_stopped(self, number: int) -> None:
        """The command was stopped: by the terminal, which it wanted to have, by Ctrl-Z, or by anybody."""
        self._stopped = True
        wants_terminal = number in (signal.SIGTTIN, signal.SIGTTOU)
        if wants_terminal and self._unheard:
            self._unheard = False
            self._group.signal(signal.SIGCONT)
        elif wants_terminal and not self._asked_to_stop and self._terminal.lend(self._group.id):
            self._go_on()
        elif number != signal.SIGSTOP:
            self._stop_too()

    def _stop_too(self) -> None:
        """Stop, for the sake of the shell that waits for us; whoever lets us go on lets the command go on."""
        self._lend_again = self._terminal.take_back()
        if self._lend_again:
            # The terminal stopped the command alone, and the shell waits for all of our job.
            os.killpg(os.getpgrp(), signal.SIGSTOP)
        else:
            os.kill(os.getpid(), signal.SIGSTOP)

    def _go_on(self) -> None:
        """Let the command go on, unless its lease ran out while it was stopped."""
        self._watch_lease()
        if self._kill_at is not None:
            return
        if self._lend_again:
            self._terminal.lend(self._group.id)
        self._stopped = self._lend_again = self._asked_to_stop = False
        self._group.signal(signal.SIGCONT)

    # The lease

    def _watch_lease(self) -> None:
        now = time.monotonic()
        if self._kill_at is not None:
            if now >= self._kill_at:
                self._group.signal(signal.SIGKILL)
                self._kill_at = now + _LONGEST_PAUSE_S
        elif self._lost:
            return
        elif not self._slot.valid:
            self._lose(now)
        elif self._task.ends_when_lost:
            # Should we be frozen, the guardian acts in our place.
            self._group.allow(self._slot.expires_in_s)

    def _lose(self, now: float) -> None:
        self._lost = True
        if self._task.ends_when_lost:
            self._kill_at = now + self._task.grace_s
            self._group.allow(self._task.grace_s)
            self._group.end()
        does = "its command is ended" if self._task.ends_when_lost else "its command goes on without a slot"
        self._note(f"the lease on a slot of {self._task.action} was lost; {does}")
        told = {
            "action": self._task.action,
            "fencing_token": self._slot.fencing_token,
            "ended": self._task.ends_when_lost,
        }
        self._record.tell("exec.lease_lost", told)

    def _release(self) -> None:
        if self._released:
            return
        self._released = True
        try:
            self._slot.release()
        except EventLogError as error:
            if not self._lost:
                self._note(f"the slot could not be given back ({error}); it is free once its lease runs out")

    # The record

    def _scope(self, kind: str) -> Mapping[str, str]:
        scope = {"run_id": self._task.run_id, "source": self._task.source}
        return (
            scope
            if kind.startswith(("run.", "execution."))
            else {**scope, "stage_name": self._task.stage_name, "group_id": "g0"}
        )

    def _tell_beginning(self) -> None:
        told = {
            "command": _shown(self._task.command),
            "action": self._task.action,
            "execution_id": self._task.execution_id,
            "fencing_token": self._slot.fencing_token,
            "waited_ms": round(self._slot.waited_s * 1000),
        }
        if self._task.group_key is not None:
            told["group"] = self._task.group_key
        if self._task.whole_run:
            self._record.tell("run.started", told)
        self._record.tell("stage.started", {**told, "stage_attempt": 1})

    def _tell_end(self, outcome: Outcome, usage: Mapping[str, int]) -> None:
        took_ms = round((time.monotonic() - self._began) * 1000)
        lines = self._record.stats()
        stage: dict[str, Any] = {**outcome.facts, "stage_attempt": 1, "duration_ms": took_ms, **usage}
        if self._task.record_output:
            stage |= {"output_lines": lines.lines + lines.dropped, "output_lines_dropped": lines.dropped}
        execution: dict[str, Any] = {
            "execution_id": self._task.execution_id,
            "action": self._task.action,
            "fencing_token": self._slot.fencing_token,
            "status": outcome.status,
            **outcome.facts,
        }
        if self._task.group_key is not None:
            execution["group"] = self._task.group_key
        if self._lost:
            stage["lease_lost"] = execution["lease_lost"] = True
        self._record.tell(outcome.stage_kind, stage)
        self._record.tell("execution.completed", execution)
        if self._task.whole_run:
            self._record.tell(outcome.run_kind, {**outcome.facts, "duration_ms": took_ms})
        self._record.close()

    def _await_output(self, pumps: Sequence[Pump]) -> None:
        """Until all that the command wrote has been passed through, however slow its reader; a signal cuts it short."""
        while any(pump.is_alive() for pump in pumps):
            if ENDING.intersection(self._wakeups.wait(_LONGEST_PAUSE_S)):
                return
        self._ending.close()
        if any(pump.left_open for pump in pumps):
            self._note("what the command left running keeps its output open; no more of it is passed through")
        for pump in pumps:
            if pump.problem is not None and not isinstance(pump.problem, BrokenPipeError):
                self._note(f"output could not be written: {pump.problem.strerror}")

    def _await_record(self) -> None:
        """Until all is appended, for a bounded time; a signal cuts it short."""
        until = time.monotonic() + _RECORD_PATIENCE_S
        while not self._record.ended and time.monotonic() < until:
            if ENDING.intersection(self._wakeups.wait(min(_LONGEST_PAUSE_S, until - time.monotonic()))):
                break
        if not self._record.ended:
            self._record.abandon()
        stats = self._record.stats()
        if stats.dropped:
            self._note(f"{stats.dropped} lines of output came too fast to be recorded")
        if stats.lost:
            self._note(f"{stats.lost} events of this execution were not recorded: {stats.problem}")


def _shown(command: Sequence[str]) -> str:
    """The command as one would type it, bounded."""
    text = shlex.join(command).encode("utf-8", "backslashreplace").decode()
    return text if len(text) <= _LONGEST_COMMAND else text[: _LONGEST_COMMAND - 1] + "…"

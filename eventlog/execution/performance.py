"""A command under its slot: started, passed signals, watched over with its lease, and ended.

The main thread waits for signals, the command and the lease, and never for Redis or for a reader of our output while
the command runs.
"""

import os
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..errors import EventLogError
from .group import CommandGroup, Ended, Pipes, Stopped
from .outcome import Outcome, Status, not_started, outcome_of
from .pump import Ending, Pump
from .slot import HeldSlot
from .story import Story
from .task import Task
from .terminal import Terminal
from .wakeups import ENDING, Wakeups
from .watch import Watch, Watching, unwatched

_LEFT_OPEN_S = 2.0
_LONGEST_PAUSE_S = 1.0


class Performance:
    """One attempt at a task. Holds the slot, and gives it back whatever happens."""

    def __init__(
        self,
        task: Task,
        slot: HeldSlot,
        story: Story,
        note: Callable[[str], None],
        wakeups: Wakeups,
        group: CommandGroup,
        watch: Watch,
    ) -> None:
        self._task = task
        self._slot = slot
        self._story = story
        self._note = note
        self._wakeups = wakeups
        self._group = group
        self._watch = watch
        self._watching: Watching | None = None
        self._terminal = Terminal()
        self._ending = Ending(_LEFT_OPEN_S)
        self._asked_by: int | None = None
        # What the command may not have heard yet, as it was stopped at that moment.
        self._unheard = self._asked_to_stop = False
        self._stopped = self._lend_again = False
        self._lost = self._released = False
        self._kill_at: float | None = None

    @property
    def watching(self) -> Watching | None:
        """The watch over the command, from its start on."""
        return self._watching

    @property
    def lost(self) -> bool:
        """Whether the lease was lost before the command had ended."""
        return self._lost

    def run(self, attempts_left: int) -> tuple[Outcome, bool]:
        """From the grant to the end; and whether to try again: after a failure, if we may and no signal came."""
        began = time.monotonic()
        try:
            self._story.start(self._slot)
            outcome, usage, pumps = self._run_command()
            took_ms = round((time.monotonic() - began) * 1000)
            self._release()
            again = self._await_output(pumps) and outcome.worth_repeating and attempts_left > 0
            facts: dict[str, Any] = {"duration_ms": took_ms, **usage, **({"lease_lost": True} if self._lost else {})}
            self._story.end(outcome, facts, attempts_left if again else 0)
            return outcome, again
        finally:
            self._terminal.close()
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
        watching = self._watching = self._begin_watching()
        # A command that ends at once is seen too.
        watching.sample()
        ended = self._supervise(watching)
        self._terminal.close()
        self._lost = self._lost or not self._slot.valid
        killed = self._kill_at is not None or self._group.ended_by_guardian
        if killed:
            # What is left of its group has no slot either.
            self._group.signal(signal.SIGKILL)
        # From here on no lease counts: the slot is given back.
        self._group.close()
        self._ending.announce()
        return outcome_of(ended.exit_code, ended.signal, asked_by=self._asked_by, taken=killed), ended.usage, pumps

    def _begin_watching(self) -> Watching:
        try:
            return self._watch(self._group.command_id)
        except Exception as error:
            # The command is worth more than what it uses.
            self._note(f"what the command uses is not sampled: {error!r}")
            return unwatched(self._group.command_id)

    def _environ(self) -> dict[str, str]:
        return {
            **(os.environ if self._task.environ is None else self._task.environ),
            "EVENTLOG_FENCING_TOKEN": str(self._slot.fencing_token),
            "EVENTLOG_EXECUTION_ID": self._task.execution_id,
            "EVENTLOG_ACTION": self._task.action,
            "EVENTLOG_RUN_ID": self._task.run_id,
            "EVENTLOG_STAGE": self._task.stage_name,
            "EVENTLOG_LANE": self._task.lane_id,
        }

    def _pumps(self, pipes: Pipes) -> list[Pump]:
        sys.stdout.flush()
        sys.stderr.flush()
        pumps = [self._pump("stdout", pipes.stdout, 1), self._pump("stderr", pipes.stderr, 2)]
        for pump in pumps:
            pump.start()
        return pumps

    def _pump(self, stream: str, source: int, sink: int) -> Pump:
        take, finish = self._story.take(stream)
        return Pump(source, sink, self._ending, take=take, finish=finish, on_end=self._wakeups.wake)

    def _supervise(self, watching: Watching) -> Ended:
        """Pass on signals, watch the lease, until the command has ended."""
        while True:
            news = self._group.poll(watching.sample)
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
        """The command was stopped: by the terminal, which it wanted to have, by Ctrl-Z, or by another process."""
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
        """Stop, for the sake of the shell that waits for us; when it lets us go on, the command goes on."""
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
        self._story.lose(self._slot)

    def _release(self) -> None:
        if self._released:
            return
        self._released = True
        try:
            self._slot.release()
        except EventLogError as error:
            if not self._lost:
                self._note(f"the slot could not be given back ({error}); it is free once its lease runs out")

    # The output

    def _await_output(self, pumps: Sequence[Pump]) -> bool:
        """Until all that the command wrote has been passed through, however slow its reader; a signal cuts it short."""
        while any(pump.is_alive() for pump in pumps):
            if ENDING.intersection(self._wakeups.wait(_LONGEST_PAUSE_S)):
                return False
        self._ending.close()
        if any(pump.left_open for pump in pumps):
            self._note("what the command left running keeps its output open; no more of it is passed through")
        for pump in pumps:
            if pump.problem is not None and not isinstance(pump.problem, BrokenPipeError):
                self._note(f"output could not be written: {pump.problem.strerror}")
        return True

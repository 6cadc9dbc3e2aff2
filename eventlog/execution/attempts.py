"""An execution from the queue to the exit code: a slot, the command under it, and both again if it failed and may."""

import time
from collections.abc import Callable
from contextlib import closing

from ..errors import AlreadyHeld, BackendUnavailable, EventLogError
from .group import CommandGroup
from .outcome import Outcome, Status, signal_name
from .performance import Performance
from .record import Appender, Claim
from .slot import Acquire, HeldSlot
from .story import Story
from .task import Task
from .wakeups import ENDING, Interrupted, Wakeups
from .watch import Watch, Watching, unwatched

_RECORD_PATIENCE_S = 5.0
# The record of an execution that ran nothing is not worth a long wait.
_NOTHING_RUN_PATIENCE_S = 1.0
_SAMPLES_PATIENCE_S = 2.0
_LONGEST_PAUSE_S = 1.0


def perform(
    task: Task,
    acquire: Acquire,
    log: Appender,
    claim: Claim,
    note: Callable[[str], None],
    watch: Watch = unwatched,
    code_of: Callable[[EventLogError], int | None] = lambda _: None,
) -> int:
    """Carry out `task` in the main thread and return the exit code; `note` shows a line to the person at the terminal.

    Raises what `acquire` raises: then nothing was run. `code_of` gives the code that the caller exits with for it,
    which is recorded as the exit code of the run. Output goes to our own stdout and stderr.
    """
    wakeups = Wakeups()
    story = Story(task, log, claim, on_end=wakeups.wake)
    try:
        return _Attempts(task, acquire, story, note, wakeups, watch, code_of).run()
    finally:
        story.record.abandon()
        wakeups.close()


class _Attempts:
    def __init__(
        self,
        task: Task,
        acquire: Acquire,
        story: Story,
        note: Callable[[str], None],
        wakeups: Wakeups,
        watch: Watch,
        code_of: Callable[[EventLogError], int | None],
    ) -> None:
        self._task = task
        self._acquire = acquire
        self._story = story
        self._note = note
        self._wakeups = wakeups
        self._watch = watch
        self._code_of = code_of
        # Of the last attempt.
        self._slot: HeldSlot | None = None
        self._watching: Watching | None = None
        self._lost = False

    def run(self) -> int:
        """From the beginning of the run to its end."""
        try:
            outcome = self._attempts()
        except Interrupted as interrupted:
            outcome = Outcome(Status.cancelled, 128 + interrupted.number, signal_name(interrupted.number))
        if self._slot is not None:
            self._story.complete(outcome, self._slot, self._lost)
        self._story.close(outcome.run_kind, outcome.facts)
        self._await_record(_NOTHING_RUN_PATIENCE_S if self._slot is None else _RECORD_PATIENCE_S)
        # By now the run is known to the log, so its samples are taken.
        self._stop_watching(_SAMPLES_PATIENCE_S if self._story.record.ended else 0.0)
        self._report_losses()
        return outcome.exit_code

    def _attempts(self) -> Outcome:
        outcome, again = self._first(self._task.retries)
        for left in reversed(range(self._task.retries)):
            if not again:
                break
            outcome, again = self._another(outcome, left)
        return outcome

    def _first(self, attempts_left: int) -> tuple[Outcome, bool]:
        # Started now, the guardian is ready by the time of the grant.
        with closing(CommandGroup(self._task.grace_s)) as group:
            self._story.begin()
            try:
                slot = self._wait_for_slot()
            except Interrupted as interrupted:
                self._story.skip(signal_name(interrupted.number))
                raise
            except EventLogError as error:
                self._record_refusal(error)
                raise
            return self._perform(slot, group, attempts_left)

    def _another(self, before: Outcome, attempts_left: int) -> tuple[Outcome, bool]:
        """Queue again, at the end. Without a slot the attempt `before` was the last."""
        self._stop_watching(_SAMPLES_PATIENCE_S)
        with closing(CommandGroup(self._task.grace_s)) as group:
            self._story.queue_again(before, attempts_left)
            try:
                slot = self._wait_for_slot()
            except Interrupted as interrupted:
                self._story.give_up(before, signal_name(interrupted.number))
                raise
            except EventLogError as error:
                self._story.give_up(before, str(error))
                self._note(f"the command is not run again: {error}")
                return before, False
            return self._perform(slot, group, attempts_left)

    def _wait_for_slot(self) -> HeldSlot:
        slot = None
        try:
            with self._wakeups.interrupting():
                slot = self._acquire(lambda *_: self._wakeups.wake())
        except Interrupted:
            if slot is not None:
                slot.release()
            raise
        return slot

    def _perform(self, slot: HeldSlot, group: CommandGroup, attempts_left: int) -> tuple[Outcome, bool]:
        performance = Performance(self._task, slot, self._story, self._note, self._wakeups, group, self._watch)
        outcome, again = performance.run(attempts_left)
        self._slot, self._lost, self._watching = slot, performance.lost, performance.watching
        return outcome, again

    def _stop_watching(self, patience_s: float) -> None:
        if self._watching is not None:
            self._watching.stop(patience_s)

    # The record

    def _record_refusal(self, error: EventLogError) -> None:
        """No slot, so nothing is run. The caller learns why from the error itself."""
        if isinstance(error, AlreadyHeld):
            # Another process carries out this very execution, and records how its stage and run end.
            self._story.record.close()
        else:
            self._story.skip(str(error))
            code = self._code_of(error)
            self._story.close("run.failed", {"reason": str(error), **({} if code is None else {"exit_code": code})})
        # With Redis away the record would not be appended either: do not wait for a second deadline.
        self._await_record(0.0 if isinstance(error, BackendUnavailable) else _NOTHING_RUN_PATIENCE_S)

    def _await_record(self, patience_s: float) -> None:
        """Until all is appended, for a bounded time; a signal cuts it short."""
        record = self._story.record
        until = time.monotonic() + patience_s
        while not record.ended and time.monotonic() < until:
            if ENDING.intersection(self._wakeups.wait(min(_LONGEST_PAUSE_S, until - time.monotonic()))):
                break
        if not record.ended:
            record.abandon()

    def _report_losses(self) -> None:
        stats = self._story.record.stats()
        if stats.dropped:
            self._note(f"{stats.dropped} lines of output came too fast to be recorded")
        if stats.lost:
            self._note(f"{stats.lost} events of this execution were not recorded: {stats.problem}")

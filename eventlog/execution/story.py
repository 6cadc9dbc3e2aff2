"""What is recorded of an execution in its run: which events, with which payloads. `record.py` appends them."""

import shlex
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from .lines import LineSplitter
from .outcome import Outcome
from .record import Appender, Attempt, Claim, Record
from .slot import HeldSlot
from .task import Task

_LONGEST_COMMAND = 4096
_OF_THE_RUN = ("run.", "execution.")


class Story:
    """Records without waiting. Every run that it begins has an end, as long as the log takes it."""

    def __init__(self, task: Task, log: Appender, claim: Claim, on_end: Callable[[], object]) -> None:
        self._task = task
        self._record = Record(log, self._scope, claim, on_end=on_end)
        self._began = time.monotonic()
        self._attempt: Attempt | None = None
        # Counted before the attempt.
        self._lines_before = self._dropped_before = 0
        self._identity: dict[str, Any] = {"action": task.action, "execution_id": task.execution_id}
        if task.group_key is not None:
            self._identity["group"] = task.group_key

    @property
    def record(self) -> Record:
        """Where it is written down."""
        return self._record

    def begin(self) -> None:
        """The run begins, and the stage waits for its slot."""
        task = self._task
        self._record.start()
        if task.whole_run:
            self._record.add("run.started", {"command": _shown(task.command), **self._identity})
        self._record.add("stage.queued", self._waiting())

    def queue_again(self, before: Outcome, attempts_left: int) -> None:
        """After an attempt that ended with `before` the stage waits for another slot; others may follow that."""
        payload = {**self._waiting(), "attempts_left": attempts_left}
        self._record_next("stage.queued", payload, _failure(before))

    def give_up(self, before: Outcome, why: str) -> None:
        """There is no slot for another attempt: the stage has failed with `before`."""
        payload = {**self._identity, "exit_code": before.command_code}
        self._record_next("stage.failed", payload, f"{_failure(before)}; not run again: {why}")

    def start(self, slot: HeldSlot) -> None:
        """An attempt at the stage begins under `slot`."""
        lines = self._record.stats()
        self._lines_before, self._dropped_before = lines.lines, lines.dropped
        needs = {"depends_on": list(self._task.depends_on)} if self._task.depends_on else {}
        payload = {"command": _shown(self._task.command), **self._identity, **needs, **_of_slot(slot)}
        self._attempt = self._record.begin({**payload, "waited_ms": round(slot.waited_s * 1000)})

    def take(self, stream: str) -> tuple[Callable[[bytes], None], Callable[[], None]]:
        """What to call with each piece of a stream of the command's output, and at its end."""
        if not self._task.record_output:
            return lambda _: None, lambda: None
        splitter = LineSplitter()
        return (
            lambda chunk: self._record.take(stream, splitter, chunk),
            lambda: self._record.finish(stream, splitter),
        )

    def lose(self, slot: HeldSlot) -> None:
        """The lease on the slot is lost."""
        payload = {"action": self._task.action, **_of_slot(slot), "ended": self._task.ends_when_lost}
        self._record.add("exec.lease_lost", payload)

    def end(self, outcome: Outcome, facts: Mapping[str, Any], attempts_left: int) -> None:
        """The attempt is over; after a failure there may be others."""
        payload = {**outcome.facts, **facts}
        if self._task.record_output:
            stats = self._record.stats()
            dropped = stats.dropped - self._dropped_before
            payload |= {"output_lines": stats.lines - self._lines_before + dropped, "output_lines_dropped": dropped}
        if attempts_left:
            payload["attempts_left"] = attempts_left
        self._record.add(outcome.stage_kind, payload, self._attempt)

    def skip(self, reason: str) -> None:
        """There is no slot: the stage is not carried out."""
        self._record.add("stage.skipped", {**self._identity, "reason": reason})

    def complete(self, outcome: Outcome, slot: HeldSlot, lost: bool) -> None:
        """The execution is over, so it needs no slot any more."""
        loss = {"lease_lost": True} if lost else {}
        payload = {**self._identity, **_of_slot(slot), "status": outcome.status, **outcome.facts, **loss}
        self._record.add("execution.completed", payload)

    def close(self, kind: str, facts: Mapping[str, Any]) -> None:
        """The run is over with an event of `kind`; nothing more is recorded."""
        if self._task.whole_run:
            self._record.add(kind, {**facts, "duration_ms": round((time.monotonic() - self._began) * 1000)})
        self._record.close()

    def _waiting(self) -> dict[str, Any]:
        limit = {} if self._task.max_concurrent is None else {"max_concurrent": self._task.max_concurrent}
        return {**self._identity, **limit, "depends_on": list(self._task.depends_on)}

    def _record_next(self, kind: str, payload: Mapping[str, Any], reason: str) -> None:
        """Record the attempt after the one at hand, with the reason for it."""

        def facts(number: int | None) -> Mapping[str, Any]:
            if number is None:
                return {**payload, "reason": f"the attempt {reason}"}
            return {**payload, "reason": f"attempt {number} {reason}", "stage_attempt": number + 1}

        self._record.add_numbered(self._attempt, kind, facts)

    def _scope(self, kind: str) -> Mapping[str, str]:
        scope = {"run_id": self._task.run_id, "lane_id": self._task.lane_id, "source": self._task.source}
        if kind.startswith(_OF_THE_RUN):
            return scope
        return {**scope, "stage_name": self._task.stage_name, "group_id": self._task.stage_group}


def _of_slot(slot: HeldSlot) -> dict[str, Any]:
    return {"fencing_token": slot.fencing_token}


def _failure(outcome: Outcome) -> str:
    return f"failed: {outcome.reason or f'exit code {outcome.command_code}'}"


def _shown(command: Sequence[str]) -> str:
    """The command as one would type it, bounded."""
    text = shlex.join(command).encode("utf-8", "backslashreplace").decode()
    return text if len(text) <= _LONGEST_COMMAND else text[: _LONGEST_COMMAND - 1] + "…"

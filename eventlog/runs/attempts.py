"""Stage attempts: claiming the next number, and recording how the attempt ended. Plans; `stages.py` drives them.

An attempt is claimed by its `stage.started` event, appended under an idempotency key made of run, stage and number. Of
several processes that start the stage one appends it; the others get a duplicate and claim the next number. So numbers
are right across processes, and each attempt has one `stage.started`. They count on from the stage's resident events
and, by the key, for as long as the log remembers keys (10 minutes unless configured).
"""

import asyncio
import hashlib
import logging
import subprocess
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, TypeVar

from ..errors import InvalidInput, NotFound
from ..model.events import Body, Event
from ..model.pages import Page
from ..model.payloads import encode_payload
from ..model.texts import plain
from ..plan.effects import Plan
from .fold import HIGHEST_ATTEMPT, LEGACY_END, attempt_of
from .stage_events import StageParts, stage_failed, stage_queued, stage_skipped, stage_started, stage_succeeded

T = TypeVar("T")
Ended = Literal["failed", "skipped"]

LONGEST_TEXT = 500
_ATTEMPTS = ("stage.started", "stage.succeeded", "stage.failed", "stage.skipped", LEGACY_END)
_log = logging.getLogger("eventlog")

LogCall = Callable[[Any], Any]
"""A call to make on the log; the driver passes the log in."""
AttemptPlan = Plan[T]


class StageHandle:
    """The handle of a `with stage(…) as handle` block: one attempt at the stage.

    `attempt` is its number: 1, 2, 3, … within the run. `unrecorded` is why its end is not in the log, None if it is.
    """

    def __init__(self, name: str, run_id: str, attempt: int) -> None:
        self.name = name
        self.run_id = run_id
        self.attempt = attempt
        self.unrecorded: Exception | None = None
        self._began = time.monotonic()
        self._ended: Ended | None = None
        self._reason: str | None = None
        self._exit_code: int | None = None

    def fail(self, reason: str) -> None:
        """The attempt will have failed when the block ends, whether or not it raises anything."""
        self._ended, self._reason = "failed", _bounded(reason)

    def skip(self, reason: str) -> None:
        """The stage will have been skipped when the block ends, unless that raises something."""
        self._ended, self._reason = "skipped", _bounded(reason)

    def set(self, *, exit_code: int) -> None:
        """The exit code of what ran. Any but 0 means that the attempt failed, unless it was skipped."""
        if isinstance(exit_code, bool) or not isinstance(exit_code, int):
            raise InvalidInput("exit_code", f"{exit_code!r} is not an integer")
        self._exit_code = exit_code

    def end(self, error: BaseException | None, parts: StageParts) -> Body:
        """The event that ends the attempt, from what the handle was given and what the block raised."""
        facts: Any = {
            "run_id": self.run_id,
            "stage_attempt": self.attempt,
            "duration_ms": round((time.monotonic() - self._began) * 1000),
            **parts,
        }
        exit_code = _exit_code(error, self._exit_code)
        if error is not None and not (isinstance(error, SystemExit) and exit_code == 0):
            reason = "cancelled" if isinstance(error, _CANCELLED) else self._reason
            return stage_failed(self.name, **facts, exit_code=exit_code, error=_described(error), reason=reason)
        if self._ended == "skipped":
            return stage_skipped(self.name, **facts, reason=self._reason)
        if self._ended == "failed" or exit_code:
            return stage_failed(self.name, **facts, exit_code=exit_code, reason=self._reason)
        return stage_succeeded(self.name, **facts, exit_code=exit_code)


_CANCELLED = (KeyboardInterrupt, asyncio.CancelledError, GeneratorExit)


def _exit_code(error: BaseException | None, known: int | None) -> int | None:
    if isinstance(error, SystemExit):
        return int(error.code) if isinstance(error.code, int) else int(error.code is not None)
    if isinstance(error, subprocess.CalledProcessError):
        return error.returncode
    return known


def _described(error: BaseException) -> str:
    """Type and message."""
    try:
        message = str(error)
    except Exception:
        message = "(its message cannot be shown)"
    return _bounded(f"{type(error).__name__}: {message}" if message else type(error).__name__)


def _bounded(text: str) -> str:
    """Short enough for any log, and without what JSON cannot hold, such as undecodable bytes of a file name."""
    return str(text)[:LONGEST_TEXT].encode(errors="replace").decode()


class AttemptClaim:
    """One attempt at a stage of a run: its number is the next free one.

    `facts` stand beside the number in the payload of its `stage.started`.
    """

    def __init__(self, name: str, run_id: str, facts: Mapping[str, Any], parts: StageParts) -> None:
        self._started = stage_started(name, run_id=run_id, **parts)
        self._name = plain(name)
        self._run_id = plain(run_id)
        self._facts = facts
        self._attempt_id = uuid.uuid4().hex
        self._attempt: int | None = None

    def plan(self) -> AttemptPlan[int]:
        """Append `stage.started` and return the number. It may be repeated after an error: it is still one attempt."""
        if self._attempt is None:
            self._attempt = (yield from self._last()) + 1
        while not (yield from self._take(self._attempt)):
            self._attempt += 1
        return self._attempt

    def _last(self) -> AttemptPlan[int]:
        """The highest attempt in the log, 0 for none. An attempt starts only after the one below it."""
        highest = 0
        until: str | None = None
        while True:
            found: Page = yield self._newest_before(until)
            for event in found.events:
                attempt = attempt_of(event)
                highest = max(highest, attempt or 1)
                if event.kind == "stage.started" and attempt is not None:
                    return highest
            if found.at_end:
                return highest
            until = found.cursor

    def _newest_before(self, until: str | None) -> LogCall:
        return lambda log: log.page(
            until=until, order="desc", kind=_ATTEMPTS, run_id=self._run_id, stage_name=self._name
        )

    def _take(self, attempt: int) -> AttemptPlan[bool]:
        """True if this attempt is ours: no other `stage.started` has its number."""
        if attempt > HIGHEST_ATTEMPT:
            raise InvalidInput("stage_attempt", f"more than {HIGHEST_ATTEMPT} attempts at {self._name}")
        payload = {**self._facts, "stage_attempt": attempt, "attempt_id": self._attempt_id}
        started = self._started._replace(
            payload_json=encode_payload(payload), idempotency_key=_key(self._run_id, self._name, attempt)
        )
        (appended,) = yield lambda log: log.append_many([started])
        if not appended.duplicate:
            return True
        # A retry of our own append is marked as a duplicate too: then the first one is ours.
        try:
            first: Event = yield lambda log: log.get(appended.id)
        except NotFound:
            return False
        return bool(first.payload.get("attempt_id") == self._attempt_id)


def _key(run_id: str, stage_name: str, attempt: int) -> str:
    # A stage may have any characters in its name, a key not.
    digest = hashlib.sha256(stage_name.encode()).hexdigest()[:32]
    return f"stage:{run_id}:{digest}:{attempt}"


class Attempts:
    """The attempts at one stage of a run, one after the other. Plans, for both colours."""

    def __init__(self, name: str, run_id: str, depends_on: Sequence[str], queued: bool, parts: StageParts) -> None:
        self._name = plain(name)
        self._run_id = plain(run_id)
        self._parts = parts
        # Made here so that wrong arguments raise where they are written, not where the block begins.
        self._waits = stage_queued(name, run_id=run_id, depends_on=depends_on, **parts)
        self._is_queued = queued
        self._facts = {"depends_on": list(depends_on)} if depends_on else {}
        self._claim: AttemptClaim | None = None
        self._handle: StageHandle | None = None

    def begin(self) -> AttemptPlan[StageHandle]:
        """Claim the next attempt; the same one if that failed before."""
        if self._claim is None:
            if self._is_queued:
                yield lambda log: log.append_many([self._waits])
            self._claim = AttemptClaim(self._name, self._run_id, self._facts, self._parts)
        attempt = yield from self._claim.plan()
        self._claim = None
        self._handle = StageHandle(self._name, self._run_id, attempt)
        return self._handle

    def end(self, error: BaseException | None) -> AttemptPlan[None]:
        """Record how the attempt ended. A failure to do so is logged and noted: it must not fail work that was done."""
        handle, self._handle = self._handle, None
        if handle is None:
            return
        try:
            ended = handle.end(error, self._parts)
            yield lambda log: log.append_many([ended])
        except Exception as failure:
            handle.unrecorded = failure
            which = f"attempt {handle.attempt} at stage {self._name} of run {self._run_id}"
            note = f"the end of {which} is not in the log: {failure}"
            _log.warning("%s", note)
            if error is not None:
                error.add_note(note)

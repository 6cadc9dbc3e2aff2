"""What an `execution.completed` event says, and what is done about it: every slot and place of the execution is given
back. Pure, and plans. `completion.py` has the listeners that carry them out.
"""

import contextlib
import logging
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from typing import NamedTuple, TypeVar

from ..errors import BackendUnavailable, EventLogError, InvalidInput, LogClosed
from ..log.protocol import Backend, Consumer, Delivery
from ..model.events import Event
from ..plan.effects import Pause, Plan
from ..slots.acts import ANY, TOMB_MS, Cancelled, Release, Released, fence_key
from ..slots.operations import checked_fence
from ..slots.policy import checked_name, queue_name
from ..slots.protocol import SlotBackend

T = TypeVar("T")

COMPLETED = "execution.completed"
GROUP = "completions"
TAKE_OVER_S = 5.0
_log = logging.getLogger("eventlog")

_ACTS_A_CALL = 64
_PACE_S = 0.002
# A log that is trimmed faster than it is read is not complained of with each look.
_WARN_EVERY_S = 10.0
# A busy log does not keep the other workspaces of the same loop waiting for longer than this.
_STEPS_A_ROUND = 20
# How long stopping a loop may take at most.
_BLOCK_S = 0.2
_FIRST_PAUSE_S = 0.05
_LONGEST_PAUSE_S = 1.0
_SWEEP_EVERY_S = 300.0


class Completion(NamedTuple):
    """An execution is over, whatever came of it: for every action unless one is named, and in every group.

    With a `fencing_token` only the slot that was granted with it is meant.
    """

    execution_id: str
    action: str | None
    group_key: str | None
    fencing_token: int | None
    at_ms: int

    @classmethod
    def of(cls, event: Event) -> "Completion":
        """Read an event's payload; raises `InvalidInput`. `group` is another name of `group_key`."""
        said = event.payload
        if "execution_id" not in said:
            raise InvalidInput("execution_id", "is missing")
        action, group, fence = said.get("action"), said.get("group_key", said.get("group")), said.get("fencing_token")
        return cls(
            checked_name("execution_id", said["execution_id"]),
            None if action is None else checked_name("action", action),
            None if group is None else checked_name("group_key", group),
            None if fence is None else checked_fence(fence),
            event.position.ms,
        )

    def release(self, queue: str) -> Release:
        """The act for one queue. What the execution began after the event stays."""
        key = ANY if self.fencing_token is None else fence_key(self.fencing_token)
        return Release(queue, self.execution_id, key, tomb_ms=TOMB_MS, not_after_ms=self.at_ms)


@dataclass(slots=True)
class CompletionStats:
    """Counters since the listener began. `seen`: events that it was given; `released`: slots, and `cancelled`: places
    in a line, that it gave back; `unknown`: executions that had neither (any more); `malformed`: events that name no
    execution; `missed`: events of all kinds that were gone before they were read; `lag`: events not looked at yet.
    """

    seen: int = 0
    released: int = 0
    cancelled: int = 0
    unknown: int = 0
    malformed: int = 0
    missed: int = 0
    lag: int = 0

    def __add__(self, other: "CompletionStats") -> "CompletionStats":
        return CompletionStats(*(getattr(self, one.name) + getattr(other, one.name) for one in fields(self)))


class CompletionWork:
    """Takes completions of one workspace and gives back what those executions have. Plans; one at a time.

    A quiet log is looked at every `look_s` seconds, for what dead listeners have left.
    """

    def __init__(
        self,
        workspace: str,
        log: Backend,
        slots: SlotBackend,
        *,
        group: str = GROUP,
        take_over_s: float = TAKE_OVER_S,
        look_s: float = 1.0,
    ) -> None:
        self.workspace = workspace
        self.consumer: Consumer = log.consumer(checked_name("group", group), COMPLETED, take_over_s)
        self.stats = CompletionStats()
        self.look_at = 0.0
        self._slots = slots
        self._look_s = look_s
        self._sweep_at = time.monotonic() + _SWEEP_EVERY_S
        self._not_reported = 0
        self._warn_at = 0.0

    def look(self) -> Plan[None]:
        """Act upon what is there, up to a bound, and note when to look again."""
        for _ in range(_STEPS_A_ROUND):
            if not (yield from self.step()):
                self.look_at = time.monotonic() + self._look_s
                break
        if self._sweep_at <= time.monotonic():
            self._sweep_at = time.monotonic() + _SWEEP_EVERY_S
            yield from self.consumer.sweep()

    def step(self) -> Plan[bool]:
        """Act upon what is there now. True if there may be more. Raises `BackendUnavailable`: nothing is lost by it."""
        taken = yield from self.consumer.take()
        self._note(taken)
        if taken.events:
            # Acknowledged only after this: a failure here leaves the events to be given again.
            yield from self._give_back(taken.events)
        self.consumer.done(taken.events)
        if taken.looked_at and not taken.more:
            yield Pause(_PACE_S)  # a log that is busy with other things is not looked at for each of its events
        return taken.more

    def _note(self, taken: Delivery) -> None:
        self.stats.lag = taken.lag
        self.stats.missed += taken.missed
        self._not_reported += taken.missed
        now = time.monotonic()
        if not taken.began_anew and (not self._not_reported or now < self._warn_at):
            return
        _log.warning(
            "completions of %s: %s%d events were gone before they were read; slots of executions that completed in "
            "them stay held until their lease ends",
            self.workspace,
            "the log was lost and began anew, " if taken.began_anew else "",
            self._not_reported,
        )
        self._not_reported, self._warn_at = 0, now + _WARN_EVERY_S

    def _give_back(self, events: Sequence[Event]) -> Plan[None]:
        names: list[str] | None = None
        acts: list[Release] = []
        counted = CompletionStats(seen=len(events))
        for event in events:
            try:
                completion = Completion.of(event)
            except (InvalidInput, ValueError) as problem:
                counted.malformed += 1
                _log.warning("completions of %s: event %s is skipped: %s", self.workspace, event.id, problem)
                continue
            if completion.action is not None and completion.group_key is not None:
                queues = [queue_name(completion.action, completion.group_key)]
            else:
                if names is None:
                    names = yield from self._slots.queues()
                queues = yield from self._queues_of(completion, names)
            if not queues:
                counted.unknown += 1
                _log.info("completions of %s: execution %s holds nothing", self.workspace, completion.execution_id)
            acts += (completion.release(queue) for queue in queues)
        for first in range(0, len(acts), _ACTS_A_CALL):
            yield from self._perform(acts[first : first + _ACTS_A_CALL], counted)
        # Counted at the end alone: a failure before leaves the events to be given again.
        self.stats += counted

    def _queues_of(self, completion: Completion, names: list[str]) -> Plan[list[str]]:
        if completion.action is not None:
            names = [name for name in names if name.partition("/")[0] == completion.action]
        if completion.group_key is not None:
            names = [name for name in names if name.partition("/")[2] == completion.group_key]
        if len(names) <= 1:
            return names  # to ask whether it is there takes as long as to release it
        return (yield from self._slots.find(completion.execution_id, names))

    def _perform(self, acts: Sequence[Release], counted: CompletionStats) -> Plan[None]:
        try:
            performed = yield from self._slots.perform(acts)
        except BackendUnavailable:
            raise
        except EventLogError:
            # It would fail for ever, and keep those behind it from being released.
            _log.exception("completions of %s: %d releases failed", self.workspace, len(acts))
            return
        for act, answer in zip(acts, performed.answers, strict=True):
            if isinstance(answer, Released):
                counted.released += 1
            elif isinstance(answer, Cancelled):
                counted.cancelled += 1
            else:
                counted.unknown += 1
                _log.info("completions of %s: execution %s holds nothing", self.workspace, act.execution)


class CompletionLoop:
    """Acts upon the completions of workspaces, one after another, until it is ended. One connection is enough."""

    def __init__(self, *works: CompletionWork) -> None:
        self.works = {work.workspace: work for work in works}
        self._ending = threading.Event()

    def end(self) -> None:
        """Have the loop finish what it does and leave, within moments. From any thread."""
        self._ending.set()

    def stats(self) -> CompletionStats:
        """The sums of all workspaces that are served now."""
        return sum((work.stats for work in list(self.works.values())), CompletionStats())

    def run(self) -> Plan[None]:
        """The whole loop. It ends with `end`, or when the connection is closed."""
        pause_s = _FIRST_PAUSE_S
        while not self._ending.is_set():
            try:
                yield from self.upkeep()
                for work in self._due():
                    yield from work.look()
                yield from self._wait()
                pause_s = _FIRST_PAUSE_S
            except LogClosed:
                return
            except Exception as error:
                self._report(error)
                yield from self._pause(pause_s)
                pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
        for work in self.works.values():
            with contextlib.suppress(EventLogError):
                yield from work.consumer.leave()

    def upkeep(self) -> Plan[None]:
        """What else is to be done in each round, several times a second. Nothing here."""
        yield from ()

    def _due(self) -> Iterator[CompletionWork]:
        now = time.monotonic()
        return (work for work in list(self.works.values()) if work.look_at <= now)

    def _wait(self) -> Plan[None]:
        """Until one of the logs has something new, or somebody has to look whether it is time to."""
        if any(self._due()):
            return
        works = {work.consumer: work for work in self.works.values()}
        if not works:
            yield Pause(_BLOCK_S)
            return
        first, *others = works
        for consumer in (yield from first.wait(_BLOCK_S, others)):
            works[consumer].look_at = 0.0

    def _pause(self, seconds: float) -> Plan[None]:
        until = time.monotonic() + seconds
        while not self._ending.is_set() and (left_s := until - time.monotonic()) > 0:
            yield Pause(min(left_s, _BLOCK_S))

    def _report(self, error: Exception) -> None:
        names = ", ".join(list(self.works)[:3])
        if isinstance(error, EventLogError):
            _log.warning("completions of %s wait for Redis: %s", names, error)
        else:
            # A listener that ended silently would leave slots held.
            _log.exception("completions of %s: failed, and go on", names)

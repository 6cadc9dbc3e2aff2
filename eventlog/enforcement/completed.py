"""What an `execution.completed` event says, and what is done about it: every slot and place of the execution is given
back. Pure, and plans. `completion.py` has the listeners that do it all the time.
"""

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from ..errors import BackendUnavailable, EventLogError, InvalidInput
from ..log.consumer import LogGroup, Taken
from ..log.protocol import Backend
from ..log.reading import Tail
from ..log.redis import RedisBackend
from ..model.events import Event
from ..model.filters import EventFilter
from ..model.ids import Cursor
from ..model.log_values import Gap, ReadRequest
from ..plan.effects import Pause, Plan
from ..slots.acts import ANY, TOMB_MS, Cancelled, Release, Released, fence_key
from ..slots.operations import SlotService, checked_fence
from ..slots.policy import checked_name, queue_name

COMPLETED = "execution.completed"
_log = logging.getLogger("eventlog")

_ACTS_A_CALL = 64
_PACE_S = 0.002
# A log that is trimmed faster than it is read is not complained of with each look.
_TELL_EVERY_S = 10.0


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
        """The act for one queue. What the execution began after the event is another story, and stays."""
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


class Feed(Protocol):
    """Where completions come from: each is given to one of those that share the work, until it is done."""

    def take(self) -> Plan[Taken]:
        """What is there now. An event that is not `done` is given again, to this one or another."""

    def done(self, events: Sequence[Event]) -> None:
        """These were acted upon."""

    def wait(self, timeout_s: float) -> Plan[bool]:
        """Wait until there may be something new, at most `timeout_s`; True if there may."""

    def leave(self) -> Plan[None]:
        """Others are to take over what is not done."""

    def sweep(self) -> Plan[None]:
        """Clear away what others left. To be called now and then."""


class FollowedLog:
    """The feed of a log that is this process' own: it is followed, from the oldest event that is there."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._tail: Tail | None = None
        self._ready: list[Event | Gap] = []

    def _step(self, block_s: float) -> Plan[list[Event | Gap]]:
        if self._tail is None:
            state = (yield from self._backend.read(ReadRequest())).state
            self._tail = Tail(self._backend, Cursor(None, state.base_offset - 1), EventFilter.of(kind=COMPLETED))
        return (yield from self._tail.step(block_s))

    def take(self) -> Plan[Taken]:
        """See `Feed.take`."""
        if not self._ready:
            self._ready = yield from self._step(0.0)
        gaps = [item for item in self._ready if isinstance(item, Gap)]
        events = [item for item in self._ready if isinstance(item, Event)]
        missed, anew = sum(gap.missed for gap in gaps), any(gap.reason == "reset" for gap in gaps)
        caught_up = self._tail is None or self._tail.caught_up
        return Taken(events, missed, anew, 0, len(events), bool(events) or not caught_up)

    def done(self, events: Sequence[Event]) -> None:
        """See `Feed.done`."""
        self._ready = []

    def wait(self, timeout_s: float) -> Plan[bool]:
        """See `Feed.wait`."""
        if not self._ready:
            self._ready = yield from self._step(timeout_s)
        return bool(self._ready)

    def leave(self) -> Plan[None]:
        """Nobody shares the work."""
        yield from ()

    def sweep(self) -> Plan[None]:
        """There are no others."""
        yield from ()


def feed_of(log: Backend, group: str, take_over_s: float) -> Feed:
    """The completions of a log, shared by all that name the same `group`."""
    checked_name("group", group)
    if isinstance(log, RedisBackend):
        return LogGroup(log.keys, group, COMPLETED, take_over_s=take_over_s, deadline_s=log.deadline_s)
    return FollowedLog(log)


class CompletionWork:
    """Takes completions from a feed and gives back what those executions have. Plans; one at a time."""

    def __init__(self, workspace: str, slots: SlotService, feed: Feed) -> None:
        self.workspace = workspace
        self.feed = feed
        self.stats = CompletionStats()
        self._slots = slots
        self._untold = 0
        self._tell_at = 0.0

    def step(self) -> Plan[bool]:
        """Act upon what is there now. True if there may be more. Raises `BackendUnavailable`: nothing is lost by it."""
        taken = yield from self.feed.take()
        self._note(taken)
        if taken.events:
            # Acknowledged only after this: whoever fails here leaves the events to be given again.
            yield from self._give_back(taken.events)
        self.feed.done(taken.events)
        if taken.looked_at and not taken.more:
            yield Pause(_PACE_S)  # a log that is busy with other things is not looked at for each of its events
        return taken.more

    def _note(self, taken: Taken) -> None:
        self.stats.lag = taken.lag
        self.stats.missed += taken.missed
        self._untold += taken.missed
        now = time.monotonic()
        if not taken.began_anew and (not self._untold or now < self._tell_at):
            return
        _log.warning(
            "completions of %s: %s%d events were gone before they were read; slots of executions that completed in "
            "them stay held until their lease ends",
            self.workspace,
            "the log was lost and began anew, " if taken.began_anew else "",
            self._untold,
        )
        self._untold, self._tell_at = 0, now + _TELL_EVERY_S

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
                    names = yield from self._slots.backend.queues()
                queues = yield from self._queues_of(completion, names)
            if not queues:
                counted.unknown += 1
                _log.info("completions of %s: execution %s holds nothing", self.workspace, completion.execution_id)
            acts += (completion.release(queue) for queue in queues)
        for first in range(0, len(acts), _ACTS_A_CALL):
            yield from self._perform(acts[first : first + _ACTS_A_CALL], counted)
        self._count(counted)

    def _queues_of(self, completion: Completion, names: list[str]) -> Plan[list[str]]:
        if completion.action is not None:
            names = [name for name in names if name.partition("/")[0] == completion.action]
        if completion.group_key is not None:
            names = [name for name in names if name.partition("/")[2] == completion.group_key]
        if len(names) <= 1:
            return names  # to ask whether it is there takes as long as to release it
        return (yield from self._slots.backend.find(completion.execution_id, names))

    def _perform(self, acts: Sequence[Release], counted: CompletionStats) -> Plan[None]:
        try:
            performed = yield from self._slots.backend.perform(acts)
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

    def _count(self, counted: CompletionStats) -> None:
        mine = self.stats
        mine.seen += counted.seen
        mine.released += counted.released
        mine.cancelled += counted.cancelled
        mine.unknown += counted.unknown
        mine.malformed += counted.malformed

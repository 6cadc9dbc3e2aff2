"""The hub: follows the logs of all workspaces over one blocking connection and fans out to bounded followers.

A follower reads the log by its cursor until it has caught up, then takes what the hub publishes. Where that does not
join what it has seen (it was slow, the log was trimmed or lost), it reads the log again, and the page reports the gap.
"""

import asyncio
import contextlib
import logging
import math
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from ..errors import BackendUnavailable, EventLogError, LogClosed
from ..log.encoding import decode_entry
from ..log.protocol import Backend
from ..log.reading import Tail, joins, missed
from ..model.events import Event
from ..model.filters import EventFilter
from ..model.ids import Cursor, EventId
from ..model.log_values import Gap, ReadRequest
from ..plan.drive import AsyncTransport, ano_transport, arun
from ..plan.effects import Command
from ..store.calls import done_without, failure_of
from ..store.links import LinkLost, Refused
from .buffer import Buffer, Topic

_log = logging.getLogger("eventlog")

_BLOCK_MS = 1000
_BLOCK_MARGIN_S = 2.0
_COUNT = 1000
_CHECK_S = 2.0
_CHECKS_A_ROUND = 50
_KICK_S = 0.01
# How long a new topic waits, and how often logs are looked at, where Redis gives no better way.
_SHORT_BLOCK_MS = 100
_LOOK_S = 0.25
_LOOKED_AT = 1000
_LONGEST_PAUSE_S = 1.0


class CaughtUp(NamedTuple):
    """The follower has returned all there was; what comes now is live. Also returned when the log gets its epoch."""

    cursor: str


class Interrupted(NamedTuple):
    """Nothing new can be read right now; all that is missed comes later, and then `CaughtUp`."""

    cursor: str
    problem: str


class Closing(NamedTuple):
    """The hub closes; resume at `cursor` elsewhere or later."""

    cursor: str


Item = Event | Gap | CaughtUp | Interrupted | Closing


@dataclass(slots=True)
class HubStats:
    """`topics` are workspaces followed live; `overflows` counts followers sent back to reading the log."""

    followers: int = 0
    topics: int = 0
    reads: int = 0
    events: int = 0
    overflows: int = 0


class Hub:
    """Two connections to Redis, however many follow: `link` for pages (shared with others), and one of its own, made by
    `connect_reader`, that blocks. Without `connect_reader` (memory) each follower waits by itself."""

    def __init__(
        self,
        link: AsyncTransport | None,
        connect_reader: Callable[[], AsyncTransport] | None,
        *,
        buffer_events: int = 1000,
    ) -> None:
        self._link = link
        self._connect_reader = connect_reader
        self._buffer_events = buffer_events
        self._topics: dict[str, Topic] = {}
        self._followers: set[HubFollower] = set()
        self._reader: asyncio.Task[None] | None = None
        self._kicker: asyncio.Task[None] | None = None
        self._wanted_generation = 0
        self._seen_generation = 0
        self._attached = asyncio.Event()
        self._client_id: int | None = None
        self._block_ms = _BLOCK_MS
        self._closed = False
        self._stats = HubStats()
        self.trouble: BackendUnavailable | None = None

    async def follow(
        self,
        workspace: str,
        backend: Backend,
        since: Cursor | None,
        wanted: EventFilter,
        *,
        epoch: str | None = None,
        until_terminal: bool = False,
    ) -> "HubFollower":
        """Begin to follow; "now" (`since=None`) is this moment. Raises `BackendUnavailable`, `LogClosed`."""
        if self._closed:
            raise LogClosed("the server is closing")
        buffer = None
        if self._connect_reader is not None:
            topic = self._topics.get(workspace) or Topic(workspace, backend)
            buffer = Buffer(topic, self._buffer_events, self._attach)
        tail = Tail(
            backend if buffer is None else buffer,
            since,
            wanted,
            epoch=epoch,
            until_terminal=until_terminal,
            patience_s=math.inf,
        )
        await arun(tail.resolve(), self._execute)
        follower = HubFollower(self, tail, buffer)
        self._followers.add(follower)
        return follower

    @property
    def _execute(self) -> Callable[[Command], Awaitable[Any]]:
        return ano_transport if self._link is None else self._link.execute

    def stats(self) -> HubStats:
        """Counters since the start, and how many follow now."""
        self._stats.followers = len(self._followers)
        self._stats.topics = len(self._topics)
        return self._stats

    async def close(self) -> None:
        """Interrupt every follower at once, then stop reading. Idempotent."""
        self._closed = True
        for follower in list(self._followers):
            follower.interrupt()
        for task in (self._reader, self._kicker):
            if task is not None:
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task

    def _attach(self, buffer: Buffer, position: EventId) -> None:
        """Have the topic read from `position` on, or from where it is already read if that is a later place."""
        topic = self._topics.setdefault(buffer.topic.workspace, buffer.topic)
        buffer.topic = topic
        # A topic that its last follower has left in the meantime is not read any more.
        is_read, joined = bool(topic.buffers), buffer in topic.buffers
        topic.buffers.add(buffer)
        if joined or not is_read:
            topic.tail = position
            topic.epoch = None
            topic.checked_at = time.monotonic()
            self._wanted_generation += 1
            self._attached.set()
            self._start()

    def _detach(self, buffer: Buffer) -> None:
        topic = buffer.topic
        topic.buffers.discard(buffer)
        self._stats.overflows += buffer.overflows
        if not topic.buffers and self._topics.get(topic.workspace) is topic:
            del self._topics[topic.workspace]

    def forget(self, follower: "HubFollower", buffer: Buffer | None) -> None:
        """A follower has closed."""
        self._followers.discard(follower)
        if buffer is not None:
            self._detach(buffer)

    def _start(self) -> None:
        if self._reader is None:
            self._reader = asyncio.create_task(self._read_forever())
        elif self._kicker is None or self._kicker.done():
            self._kicker = asyncio.create_task(self._kick())

    async def _kick(self) -> None:
        """Get the reader out of its blocking read, so that it reads the new topic too.

        Repeated, for a kick that arrives just before the read does nothing.
        """
        while self._seen_generation < self._wanted_generation and self._link is not None:
            if self._block_ms < _BLOCK_MS:
                return
            if self._client_id is not None:
                command = Command(("CLIENT", "UNBLOCK", str(self._client_id)), 1.0)
                try:
                    await self._link.execute(command)
                except LinkLost:
                    pass
                except Refused as error:
                    self._do_without_client(error, command)
            await asyncio.sleep(_KICK_S)

    def _do_without_client(self, error: Refused, command: Command) -> None:
        if done_without(error, command.args, "new followers wait a tenth of a second instead"):
            self._block_ms = _SHORT_BLOCK_MS

    async def _read_forever(self) -> None:
        assert self._connect_reader is not None
        reader = self._connect_reader()
        pause = _KICK_S
        lost = False
        try:
            while True:
                try:
                    if lost:
                        # Another primary may answer now, whose log goes on from here all the same.
                        await self._check(list(self._topics.values()))
                        lost = False
                    await self._identify(reader)
                    await self._read_once(reader)
                    await self._check_some()
                    pause = _KICK_S
                    self._stand(None)
                except (LinkLost, Refused, EventLogError) as error:
                    _log.info("the hub lost Redis: %s", error)
                    self._client_id = None
                    lost = True
                    if pause > _KICK_S:
                        # A second try failed too.
                        self._stand(_trouble(error))
                    await asyncio.sleep(pause)
                    pause = min(2 * pause, _LONGEST_PAUSE_S)
        finally:
            await reader.close()

    def _stand(self, trouble: BackendUnavailable | None) -> None:
        """Note whether followers can be given what is new, and have them say so where that has changed."""
        before, self.trouble = self.trouble, trouble
        if (before is None) == (trouble is None):
            return
        if trouble is None:
            _log.warning("followers are live again")
        else:
            _log.warning("followers wait, and will miss nothing: %s", trouble)
        for topic in self._topics.values():
            topic.wake()

    async def _identify(self, reader: AsyncTransport) -> None:
        """Learn by which id the reader's blocking call can be ended."""
        if self._client_id is not None or self._block_ms < _BLOCK_MS:
            return
        command = Command(("CLIENT", "ID"), 2.0)
        try:
            self._client_id = int(await reader.execute(command))
        except Refused as error:
            self._do_without_client(error, command)
            if self._block_ms == _BLOCK_MS:
                raise

    async def _read_once(self, reader: AsyncTransport) -> None:
        self._seen_generation = self._wanted_generation
        topics = {
            topic.backend.stream_key.encode(): topic
            for topic in self._topics.values()
            if topic.tail is not None and topic.backend.stream_key is not None
        }
        if not topics:
            self.trouble = None
            self._attached.clear()
            await self._attached.wait()
            return
        positions = [str(topic.tail) for topic in topics.values()]
        command = Command(
            ("XREAD", "COUNT", str(_COUNT), "BLOCK", str(self._block_ms), "STREAMS", *topics, *positions),
            self._block_ms / 1000 + _BLOCK_MARGIN_S,
            goes_on=self._client_id is not None,
        )
        self._stats.reads += 1
        try:
            reply = await reader.execute(command)
        except Refused as error:
            if not done_without(error, command.args, f"followers look every {_LOOK_S:g} s instead"):
                raise
            await self._look(list(topics.values()))
            return
        for key, entries in reply or ():
            self._publish(topics[key], [decode_entry(entry) for entry in entries])

    async def _look(self, topics: list[Topic]) -> None:
        """Read each log by the script that reads pages, where `XREAD` is refused."""
        for topic in topics:
            if topic.tail is not None:
                request = ReadRequest(since=Cursor(*topic.tail), count=_COUNT)
                segment = await arun(topic.backend.read(request), self._execute)
                if segment.events:
                    self._publish(topic, segment.events)
        await asyncio.sleep(_LOOK_S)

    def _publish(self, topic: Topic, events: list[Event]) -> None:
        self._stats.events += len(events)
        before = topic.tail
        if before is None:
            return
        topic.checked_at = time.monotonic()
        if joins(before.offset, events):
            topic.publish(events)
        else:
            topic.tail = events[-1].position
            topic.break_off()

    async def _check_some(self) -> None:
        """Look at logs that have been quiet: a reader that waits for a log is not woken when the log is wiped."""
        now = time.monotonic()
        due = [topic for topic in self._topics.values() if now - topic.checked_at > _CHECK_S]
        await self._check(due[:_CHECKS_A_ROUND])

    async def _check(self, topics: list[Topic]) -> None:
        """Send the followers of those logs to read that do not go on from what was published."""
        for topic in topics:
            tail = topic.tail
            if tail is None:
                continue
            topic.checked_at = time.monotonic()
            request = ReadRequest(since=Cursor(*tail), epoch=topic.epoch)
            segment = await arun(topic.backend.read(request), self._execute)
            known, topic.epoch = topic.epoch, segment.state.epoch
            if missed(Cursor(*tail), known, segment) is not None:
                topic.tail = segment.state.last
                topic.break_off()


def _trouble(error: LinkLost | Refused | EventLogError) -> BackendUnavailable:
    if isinstance(error, BackendUnavailable):
        return error
    if isinstance(error, LinkLost):
        # Its words may name an address, and followers are given these.
        return BackendUnavailable("Redis does not answer")
    failure = failure_of(error, ("XREAD",)) if isinstance(error, Refused) else error
    return failure if isinstance(failure, BackendUnavailable) else BackendUnavailable(str(failure))


class HubFollower:
    """One reader at its own pace. `cursor` is behind the last item returned."""

    def __init__(self, hub: Hub, tail: Tail, buffer: Buffer | None) -> None:
        self._hub = hub
        self._tail = tail
        self._subscription = buffer
        self._scope: asyncio.Timeout | None = None
        self._interrupted = False
        self._reports_caught_up = True
        self._reports_trouble = True
        self._reported: str | None = None

    @property
    def cursor(self) -> str:
        """Resume from here."""
        return self._tail.cursor

    @property
    def epoch(self) -> str | None:
        """The incarnation of the log that `cursor` belongs to, None while there is none."""
        return self._tail.epoch

    @property
    def ended(self) -> bool:
        """With `until_terminal`: the run's terminal event has been returned, now or before."""
        return self._tail.ended

    async def next(self, timeout_s: float = 15.0) -> list[Item]:
        """What comes next; an empty list if nothing did for `timeout_s` or after the end. Outages are waited out.

        The list is also empty where the filter passed over a thousand events: the cursor is to be known before they go.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_s
        begun = self._tail.offset
        while not self._interrupted and not self.ended:
            left = deadline - loop.time()
            if left <= 0:
                return []
            scope = self._scope = asyncio.timeout(None)
            try:
                async with scope:
                    items = await self._step(left)
            except TimeoutError:
                if scope.expired():
                    break
                raise
            finally:
                self._scope = None
            if items or self._tail.offset - begun >= _LOOKED_AT:
                return items
        if self._interrupted:
            return [Closing(self.cursor)]
        return []

    async def _step(self, block_s: float) -> list[Item]:
        standing = self._standing()
        if standing:
            return standing
        live = self._tail.caught_up
        items: list[Item] = list(await arun(self._tail.step(block_s), self._hub._execute))
        if items and not live and not self._tail.caught_up:
            self._reports_caught_up = True
        return items + self._standing()

    def _standing(self) -> list[Item]:
        """Whether the follower is live, where that has changed since it was last said."""
        trouble = self._tail.trouble or self._hub.trouble
        if trouble is not None:
            found: list[Item] = [Interrupted(self.cursor, str(trouble))] if self._reports_trouble else []
            self._reports_trouble, self._reports_caught_up = False, True
            return found
        if not self._tail.caught_up or self.ended:
            return []
        found = [CaughtUp(self.cursor)] if self._reports_caught_up or self._reported != self.epoch else []
        self._reports_caught_up, self._reports_trouble, self._reported = False, True, self.epoch
        return found

    def interrupt(self) -> None:
        """Have `next` return `Closing` at once."""
        already, self._interrupted = self._interrupted, True
        if self._scope is not None and not already:
            self._scope.reschedule(asyncio.get_running_loop().time())

    def close(self) -> None:
        """Stop following. Idempotent."""
        self._hub.forget(self, self._subscription)

"""What all tasks of an event loop ask of slot queues, in few calls: what they ask within a tick goes to Redis as one
call, what they give back as another; all their grants come through one inbox, and one beat speaks for all that wait.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from itertools import chain
from typing import Any

from ..errors import BackendUnavailable, EventLogError, LogClosed, failure_for_each
from ..plan.drive import arun
from ..plan.effects import Command
from .acts import Act, Answer, Beat, Beaten, Performed, Poke, Release, Ring
from .protocol import SlotBackend
from .request import Acquisition, moment
from .waiting import HEARTBEAT_S, PATIENCE_S, Listen, Reply

_ACTS_A_CALL = 256
_RINGS_A_READ = 256
_READ_S = 5.0
_LAST_WORDS_S = 1.0

Execute = Callable[[Command], Awaitable[Any]]


_Asked = tuple[Act, "asyncio.Future[Reply]"]


class _Listener:
    """A waiter at the inbox. `news` is done when there is something to look at: a ring, or None for look yourself."""

    __slots__ = ("acquisition", "attended", "news")

    def __init__(self, acquisition: Acquisition, attended: bool) -> None:
        self.acquisition = acquisition
        self.attended = attended
        self.news: asyncio.Future[Ring | None] = asyncio.get_running_loop().create_future()

    def notify(self, ring: Ring | None) -> None:
        if not self.news.done():
            self.news.set_result(ring)


class Batcher:
    """For the tasks of one event loop. `hear` carries out the blocking reads of the inbox, on a connection of its own.

    A caller that is cancelled leaves its act to be carried out. Tasks of ours run only while there is something to do.
    """

    def __init__(self, backend: SlotBackend, inbox: str, execute: Execute, hear: Execute | None) -> None:
        self.inbox = inbox
        self._backend = backend
        self._execute = execute
        self._hear = hear
        # Releases hand slots on, so they have a lane of their own, and wait for no call of those that queue.
        self._asked: deque[_Asked] = deque()
        self._given_back: deque[_Asked] = deque()
        self._listeners: dict[str, list[_Listener]] = {}
        self._early: dict[str, Ring] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._closed = False

    def _run(self, name: str, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        if name not in self._tasks and not self._closed:
            self._tasks[name] = asyncio.create_task(work(), name=f"eventlog-slots-{name}")

    # What is asked

    async def ask(self, act: Act) -> Reply:
        """Have an act carried out, together with what others ask."""
        if self._closed:
            raise LogClosed("the slot queue was closed")
        answer: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        if type(act) is Release:
            self._given_back.append((act, answer))
            self._run("release", self._send_releases)
        else:
            self._asked.append((act, answer))
            self._run("ask", self._send_asked)
        return await answer

    async def _send_asked(self) -> None:
        await self._send_all("ask", self._asked)

    async def _send_releases(self) -> None:
        await self._send_all("release", self._given_back)

    async def _send_all(self, name: str, lane: deque[_Asked]) -> None:
        try:
            while lane:
                await self._send([lane.popleft() for _ in range(min(len(lane), _ACTS_A_CALL))])
        finally:
            del self._tasks[name]

    async def _send(self, some: Sequence[_Asked]) -> None:
        try:
            performed = await self._perform([act for act, _ in some])
        except BaseException as error:
            interrupted = BackendUnavailable("the task that sends was cancelled", outcome_unknown=True)
            failure = error if isinstance(error, Exception) else interrupted
            for _, answer in some:
                if not answer.done():
                    answer.set_exception(failure_for_each(failure))
            if not isinstance(error, EventLogError):
                raise
        else:
            for (_, answer), said in zip(some, performed.answers, strict=True):
                if not answer.done():
                    answer.set_result(Reply(said, performed.now_ms, performed.repeated))

    async def ask_all(self, acts: Sequence[Act], deadline_s: float) -> Sequence[Answer]:
        """Have acts carried out at once, in one call of their own."""
        return (await self._perform(acts, deadline_s)).answers

    async def _perform(self, acts: Sequence[Act], deadline_s: float | None = None) -> Performed:
        performed = await arun(self._backend.perform(acts, self.inbox, deadline_s), self._execute)
        for ring in performed.rings:
            self._hand_on(ring)
        return performed

    # What is rung

    async def listen(self, effect: Listen) -> Ring | None:
        """Carry out a `Listen`. Where there is no reader of the inbox, its bell is the waiter's own."""
        acquisition, until = effect.acquisition, effect.until
        if self._hear is None:
            wait_s = max(0.001, min(HEARTBEAT_S, until - moment()))
            rings = await arun(self._backend.listen(effect.bell, wait_s), self._execute)
            return next((ring for ring in rings if ring.nonce == acquisition.nonce), None)
        if early := self._early.pop(acquisition.nonce, None):
            return early
        # Several may listen for one acquisition: the waiter for its slot, and others that ask how it stands.
        nonce, listener = acquisition.nonce, _Listener(acquisition, effect.attended)
        self._listeners.setdefault(nonce, []).append(listener)
        self._run("read", self._read_all)
        self._run("beat", self._beat_all)
        try:
            async with asyncio.timeout(max(until - moment(), 0)):
                return await listener.news
        except TimeoutError:
            return None
        finally:
            self._listeners[nonce].remove(listener)
            if not self._listeners[nonce]:
                del self._listeners[nonce]

    async def _read_all(self) -> None:
        assert self._hear is not None
        try:
            while self._listeners:
                for ring in await arun(self._backend.listen(self.inbox, _READ_S, _RINGS_A_READ), self._hear):
                    self._hand_on(ring)
        finally:
            del self._tasks["read"]

    def _hand_on(self, ring: Ring) -> None:
        for listener in self._listeners.get(ring.nonce, ()):
            listener.notify(ring)
        if ring.nonce not in self._listeners:
            # Rung while its waiter was between two looks; the next look finds the grant all the same.
            self._early[ring.nonce] = ring
            while len(self._early) > _RINGS_A_READ:
                del self._early[next(iter(self._early))]

    async def _beat_all(self) -> None:
        heard_at = moment()
        look_in_s = HEARTBEAT_S
        try:
            while self._listeners:
                await asyncio.sleep(look_in_s)
                try:
                    look_in_s = await self._beat()
                    heard_at = moment()
                except EventLogError:
                    look_in_s = HEARTBEAT_S
                    if moment() - heard_at > PATIENCE_S:
                        self._wake_all()
        finally:
            del self._tasks["beat"]

    def _wake_all(self) -> None:
        for listener in chain.from_iterable(self._listeners.values()):
            listener.notify(None)

    async def _beat(self) -> float:
        """Report that the waiters live, and wake those whose place is gone: they look for themselves."""
        asked_at = moment()
        lines: dict[str, list[_Listener]] = {}
        for listener in chain.from_iterable(self._listeners.values()):
            line = lines.setdefault(listener.acquisition.queue, [])
            if listener.attended:
                line.append(listener)
        acts: list[Act] = [
            Beat(queue, tuple(one.acquisition.execution_id for one in line)) if line else Poke(queue)
            for queue, line in lines.items()
        ]
        look_in_s = HEARTBEAT_S
        replies = await asyncio.gather(*(self.ask(act) for act in acts))
        for line, one in zip(lines.values(), replies, strict=True):
            if isinstance(one.answer, Beaten):
                missing = set(one.answer.missing)
                for index, listener in enumerate(line):
                    if index in missing:
                        listener.notify(None)
                    else:
                        listener.acquisition.heard_at = asked_at
                if one.answer.look_in_ms:
                    look_in_s = min(look_in_s, one.answer.look_in_ms / 1000)
        return look_in_s

    async def close(self) -> None:
        """Send what was asked, bounded, and end. Idempotent."""
        self._closed = True
        senders = [self._tasks[name] for name in ("ask", "release") if name in self._tasks]
        if senders:
            await asyncio.wait(senders, timeout=_LAST_WORDS_S)
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._wake_all()

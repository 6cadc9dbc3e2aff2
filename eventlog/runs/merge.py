"""Several followed logs as one stream, in order of time as far as a bounded window allows.

`Window` decides the order, without a clock of its own. `MergedFollower` reads each follower in a thread,
`AsyncMergedFollower` in a task. The window is bounded: a full one stops reading, it drops nothing.
"""

import asyncio
import contextlib
import threading
import time
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator, Mapping
from types import TracebackType
from typing import NamedTuple, Self

from ..errors import InvalidInput
from ..model.events import Event
from ..plan.threads import Waiters, free, held_lock
from .given import checked_by_name, checked_event, checked_events

HOLD_BACK_S = 0.25
BUFFER = 1000
_AT_ONCE = 256
_JOIN_S = 5.0


class Followed(NamedTuple):
    """An event, and the name of the log that it is from."""

    name: str
    event: Event


class MergeStats(NamedTuple):
    """`held` events wait for their turn; `late` ones came when newer ones of other logs had been handed out."""

    held: int
    late: int


class _Source:
    def __init__(self, now: float) -> None:
        self.held: deque[tuple[Event, float]] = deque()
        self.silent_since = now
        self.ended = False
        self.failure: Exception | None = None


class Window:
    """Puts the events of several sources in order, each of which is in order itself. Pure: `now` is passed in.

    One thread takes. `add` and `end` may come from another one for each source: no lock is needed for that.

    The oldest event may go once every source that has not ended has shown what it goes on with, or has been silent for
    `hold_back_s` since that event came. An event older than `hold_back_s` does not start a wait of its own, so that a
    backlog is read at full speed.
    """

    def __init__(self, names: Iterable[str], hold_back_s: float, buffer: int, now: float) -> None:
        self._sources = {name: _Source(now) for name in names}
        self._hold_back_s = hold_back_s
        self._buffer = buffer
        self._last = (0, "", 0)
        self._late = 0

    def add(self, name: str, event: Event, now: float) -> None:
        """Add a source's next event. Check `is_full` before."""
        self._sources[name].held.append((event, now))

    def end(self, name: str, failure: Exception | None = None) -> None:
        """Nothing more comes from this source."""
        self._sources[name].failure = failure
        self._sources[name].ended = True

    def is_full(self, name: str) -> bool:
        """True while a source must not show more."""
        return len(self._sources[name].held) >= self._buffer

    @property
    def is_over(self) -> bool:
        """True once all was taken and nothing more comes."""
        return all(source.ended and not source.held for source in self._sources.values())

    @property
    def failure(self) -> Exception | None:
        """Why a source ended whose events were all taken."""
        failed = (source.failure for source in self._sources.values() if source.failure and not source.held)
        return next(failed, None)

    def take(self, now: float, wall_s: float) -> tuple[list[Followed], float | None]:
        """The events that may go; if there are none, in how many seconds one may (None: when something comes)."""
        taken: list[Followed] = []
        while len(taken) < _AT_ONCE:
            name = min(
                (name for name, source in self._sources.items() if source.held), key=self._position, default=None
            )
            if name is None:
                return taken, None
            wait_s = self._wait_s(name, now, wall_s)
            if wait_s > 0:
                return taken, wait_s
            taken.append(Followed(name, self._pop(name, now)))
        return taken, 0.0

    def stats(self) -> MergeStats:
        """How many events wait, and how many were handed out late so far."""
        return MergeStats(sum(len(source.held) for source in self._sources.values()), self._late)

    def _position(self, name: str) -> tuple[int, str, int]:
        event, _ = self._sources[name].held[0]
        return event.position.ms, name, event.offset

    def _wait_s(self, name: str, now: float, wall_s: float) -> float:
        if self._position(name) < self._last:
            return 0.0
        event, came_at = self._sources[name].held[0]
        is_old = wall_s - event.timestamp >= self._hold_back_s
        until = (
            (source.silent_since if is_old else max(source.silent_since, came_at)) + self._hold_back_s
            for source in self._sources.values()
            if not (source.ended or source.held)
        )
        return max(0.0, max(until, default=now) - now)

    def _pop(self, name: str, now: float) -> Event:
        position = self._position(name)
        self._late += position < self._last
        self._last = max(self._last, position)
        source = self._sources[name]
        event, _ = source.held.popleft()
        if not source.held:
            # Until now it was not waited for, and it may have waited for room: its silence begins now.
            source.silent_since = now
        return event


class _Merged:
    """What both colours have in common."""

    def __init__(self, followers: Mapping[str, object], hold_back_s: float, buffer: int) -> None:
        if not followers:
            raise InvalidInput("followers", "at least one is needed")
        if isinstance(hold_back_s, bool) or not isinstance(hold_back_s, int | float) or not hold_back_s >= 0:
            raise InvalidInput("hold_back_s", f"{hold_back_s!r} is not a number of seconds")
        if isinstance(buffer, bool) or not isinstance(buffer, int) or buffer < 1:
            raise InvalidInput("buffer", f"{buffer!r} is not a number of events")
        self._window = Window(followers, hold_back_s, buffer, time.monotonic())
        self._all = followers
        cursors = {name: getattr(follower, "cursor", None) for name, follower in followers.items()}
        self._cursors: dict[str, str] = {name: cursor for name, cursor in cursors.items() if isinstance(cursor, str)}
        # What `handed_out` of each is when none of its events waits here.
        self._given: dict[str, int] = {name: getattr(each, "handed_out", -1) for name, each in followers.items()}

    @property
    def cursors(self) -> dict[str, str]:
        """By name: where to resume. A log without events so far is there if its follower has a cursor."""
        found = dict(self._cursors)
        for name, follower in self._all.items():
            # A follower moves on over what its filter leaves out. Its cursor first, see `Follower`.
            cursor = getattr(follower, "cursor", None)
            if getattr(follower, "handed_out", None) == self._given[name]:
                found[name] = str(cursor)
        return found

    def stats(self) -> MergeStats:
        """How many events wait, and how many were handed out late so far."""
        return self._window.stats()

    def _handed_out(self, followed: Followed) -> Followed:
        self._cursors[followed.name] = followed.event.id
        self._given[followed.name] += 1
        return followed

    def _raise_failure(self) -> None:
        if self._window.failure is not None:
            raise self._window.failure


class MergedFollower(_Merged):
    """See `follow_merged`. Iterate once; close it, or use it as a context manager."""

    def __init__(self, followers: Mapping[str, Iterable[Event]], hold_back_s: float, buffer: int) -> None:
        _check(followers, Iterable, AsyncIterable, "is for asyncio: use afollow_merged")
        super().__init__(followers, hold_back_s, buffer)
        self._followers = followers
        self._came = held_lock()
        self._room = Waiters()
        self._closed = False
        self._threads = [
            threading.Thread(target=self._read, args=each, name=f"eventlog-merge-{each[0]}", daemon=True)
            for each in followers.items()
        ]

    def __iter__(self) -> Iterator[Followed]:
        try:
            for thread in self._threads:
                thread.start()
            while taken := self._take():
                for followed in taken:
                    yield self._handed_out(followed)
            self._raise_failure()
        finally:
            self.close()

    def _take(self) -> list[Followed]:
        """The next events, however long that takes; none at the end."""
        while not self._closed and self._window.failure is None and not self._window.is_over:
            taken, wait_s = self._window.take(time.monotonic(), time.time())
            if taken:
                self._room.wake()
                return taken
            self._came.acquire(timeout=-1 if wait_s is None else wait_s)
        return []

    def _read(self, name: str, follower: Iterable[Event]) -> None:
        failure: Exception | None = None
        try:
            for event in checked_events(f"followers.{name}", follower):
                self._room.wait_for(lambda: self._closed or not self._window.is_full(name))
                if self._closed:
                    return
                self._window.add(name, event, time.monotonic())
                free(self._came)
        except Exception as error:
            error.add_note(f"while following {name}")
            failure = error
        finally:
            self._window.end(name, failure)
            free(self._came)

    def close(self) -> None:
        """End the iteration and all followers, from any thread, within two seconds. Idempotent."""
        self._closed = True
        free(self._came)
        self._room.wake()
        for follower in self._followers.values():
            close = getattr(follower, "close", None)
            # A generator that another thread is in cannot be closed; it ends with its next event.
            with contextlib.suppress(ValueError):
                if close is not None:
                    close()
        for thread in self._threads:
            if thread.is_alive() and thread is not threading.current_thread():
                thread.join(_JOIN_S)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class AsyncMergedFollower(_Merged):
    """See `afollow_merged`. Iterate once, on one event loop; close it, or use it as a context manager."""

    def __init__(self, followers: Mapping[str, AsyncIterable[Event]], hold_back_s: float, buffer: int) -> None:
        _check(followers, AsyncIterable, Iterable, "blocks: use follow_merged")
        super().__init__(followers, hold_back_s, buffer)
        self._followers = followers
        self._changed = asyncio.Condition()
        self._closing = asyncio.Lock()
        self._closed = False
        self._tasks: list[asyncio.Task[None]] = []

    async def __aiter__(self) -> AsyncIterator[Followed]:
        self._tasks = [asyncio.create_task(self._read(*each)) for each in self._followers.items()]
        try:
            while taken := await self._take():
                for followed in taken:
                    yield self._handed_out(followed)
            self._raise_failure()
        finally:
            # Left by `break` in its `async with`, this is finalised while the block closes it: that will do.
            if not self._closed:
                await self.aclose()

    async def _take(self) -> list[Followed]:
        async with self._changed:
            while not self._closed and self._window.failure is None and not self._window.is_over:
                taken, wait_s = self._window.take(time.monotonic(), time.time())
                if taken:
                    self._changed.notify_all()
                    return taken
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(wait_s):
                        await self._changed.wait()
            return []

    async def _read(self, name: str, follower: AsyncIterable[Event]) -> None:
        failure: Exception | None = None
        try:
            async for event in follower:
                checked_event(f"followers.{name}", event)
                async with self._changed:
                    await self._changed.wait_for(lambda: not self._window.is_full(name))
                    self._window.add(name, event, time.monotonic())
                    self._changed.notify_all()
        except Exception as error:
            error.add_note(f"while following {name}")
            failure = error
        async with self._changed:
            self._window.end(name, failure)
            self._changed.notify_all()

    async def aclose(self) -> None:
        """End the iteration, from any task of its loop, and all followers. Idempotent."""
        self._closed = True
        async with self._changed:
            self._changed.notify_all()
        # What is followed may be a generator, which only one task at a time can close.
        async with self._closing:
            tasks, self._tasks = self._tasks, []
            for task in tasks:
                task.cancel()
            if tasks:
                await asyncio.wait(tasks)
            for follower in self._followers.values():
                aclose = getattr(follower, "aclose", None)
                if aclose is not None:
                    await aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()


def _check(followers: Mapping[str, object], own: type, other: type, refusal: str) -> None:
    """Raise `InvalidInput` for what is not followers by name, and for those of the other colour."""
    for name, follower in checked_by_name("followers", followers, "followers").items():
        if isinstance(follower, Mapping | str | bytes) or not isinstance(follower, own | other):
            raise InvalidInput("followers", f"{name} is a {type(follower).__name__}: give what log.follow(…) returns")
        if not isinstance(follower, own):
            raise InvalidInput("followers", f"{name} {refusal}")


def follow_merged(
    followers: Mapping[str, Iterable[Event]], *, hold_back_s: float = HOLD_BACK_S, buffer: int = BUFFER
) -> MergedFollower:
    """One stream of `(name, event)` over several followed logs: `follow_merged({"a": log_a.follow(0), "b": …})`.

    Ordered by (timestamp, name) as far as can be had by holding events back for `hold_back_s`: an event that comes when
    newer ones were handed out already is handed out at once and counted in `stats().late`; none is dropped. Of each log
    at most `buffer` events are held, then it is not read on until there is room.

    Gaps go to the `on_gap` of each follower as they are found, which may be before events that still wait. It ends when
    all followers have ended. What one of them raises is raised once all that it gave was handed out; `cursors` says
    where to resume. The followers are closed with it. Raises `InvalidInput` for what is no follower, or one of asyncio.
    """
    return MergedFollower(followers, hold_back_s, buffer)


def afollow_merged(
    followers: Mapping[str, AsyncIterable[Event]], *, hold_back_s: float = HOLD_BACK_S, buffer: int = BUFFER
) -> AsyncMergedFollower:
    """The asyncio twin of `follow_merged`: `async for name, event in afollow_merged({"a": log_a.follow(0), …})`."""
    return AsyncMergedFollower(followers, hold_back_s, buffer)

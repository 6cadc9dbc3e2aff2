"""The hub: one reader of Redis for all followers, bounded buffers, and nothing missed in silence."""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from eventlog import AsyncEventLog, Event, EventLogConfig, Gap
from eventlog.factory import redis_backend
from eventlog.log import AsyncDirectLog
from eventlog.model import EventFilter
from eventlog.model.ids import Cursor
from eventlog.plan.effects import Command
from eventlog.store.links import AsyncLink
from eventlog.tail.hub import CaughtUp, Closing, Hub, HubFollower, Interrupted, Item
from tests.support.redis_process import RedisProcess

START = Cursor(None, 0)
PATIENCE_S = 20.0


class House:
    """A hub, the logs behind it, and the link that both share: what a server has."""

    def __init__(self, url: str, prefix: str, *, buffer_events: int = 1000, max_entries: int = 100_000) -> None:
        self.config = EventLogConfig(redis_url=url, key_prefix=prefix, max_entries=max_entries)
        self.link = AsyncLink(url, 8)
        self.hub = Hub(self.link, lambda: AsyncLink(url, 1), buffer_events=buffer_events)
        self._logs: dict[str, AsyncEventLog] = {}

    def log(self, workspace: str = "w") -> AsyncEventLog:
        if workspace not in self._logs:
            backend = redis_backend(self.config, workspace)
            self._logs[workspace] = AsyncDirectLog(backend, workspace=workspace, link=self.link)
        return self._logs[workspace]

    async def follow(
        self,
        workspace: str = "w",
        since: Cursor | None = START,
        wanted: EventFilter = EventFilter(),  # noqa: B008  (immutable)
        *,
        until_terminal: bool = False,
    ) -> HubFollower:
        backend = self.log(workspace).core.backend
        return await self.hub.follow(workspace, backend, since, wanted, until_terminal=until_terminal)

    async def close(self) -> None:
        await self.hub.close()
        await self.link.close()


@asynccontextmanager
async def house(url: str, prefix: str, **options: int) -> AsyncIterator[House]:
    built = House(url, prefix, **options)
    try:
        yield built
    finally:
        await built.close()


@pytest.fixture
def with_house(redis_server: RedisProcess, key_prefix: str) -> Callable[..., None]:
    """Run a coroutine function with a house of its own, bounded in time."""

    def run(body: Callable[[House], Awaitable[None]], **options: int) -> None:
        async def main() -> None:
            async with asyncio.timeout(60), house(redis_server.url, key_prefix, **options) as built:
                await body(built)

        asyncio.run(main())

    return run


async def take(follower: HubFollower, enough: Callable[[list[Item]], bool]) -> list[Item]:
    """Items until `enough`; fails after the patience."""
    items: list[Item] = []
    while not enough(items):
        more = await follower.next(PATIENCE_S)
        assert more, f"nothing more after {items[-3:]}"
        items += more
    return items


def offsets(items: list[Item]) -> list[int]:
    return [item.offset for item in items if isinstance(item, Event)]


def last_is(offset: int) -> Callable[[list[Item]], bool]:
    return lambda items: offsets(items)[-1:] == [offset]


def has(kind: type) -> Callable[[list[Item]], bool]:
    return lambda items: any(isinstance(item, kind) for item in items)


async def connections(server: RedisProcess) -> int:
    link = AsyncLink(server.url, 1)
    try:
        listed = await link.execute(Command(("CLIENT", "LIST"), 5.0))
    finally:
        await link.close()
    return len(listed.splitlines()) - 1


def test_every_follower_of_every_workspace_sees_each_event_once_whatever_its_pace(
    with_house: Callable[..., None],
) -> None:
    total = 1500

    async def produce(built: House, workspace: str, seed: random.Random) -> None:
        sent = 0
        while sent < total:
            n = min(seed.randint(1, 60), total - sent)
            await built.log(workspace).append_many([{"kind": "k"}] * n)
            sent += n
            await asyncio.sleep(0)

    async def consume(built: House, workspace: str, pause_s: float) -> list[int]:
        follower = await built.follow(workspace)
        seen: list[int] = []
        while len(seen) < total:
            seen += offsets(await follower.next(PATIENCE_S))
            await asyncio.sleep(pause_s)
        follower.close()
        return seen

    async def body(built: House) -> None:
        readers = [consume(built, w, pause_s) for w in ("a", "b", "c") for pause_s in (0.0, 0.001, 0.05)]
        writers = [produce(built, w, random.Random(i)) for i, w in enumerate(("a", "b", "c"))]
        results = await asyncio.gather(*readers, *writers)
        for seen in results[: len(readers)]:
            assert seen == list(range(1, total + 1))

    with_house(body, buffer_events=100)


def test_any_number_of_followers_costs_the_same_few_connections() -> None:
    async def main(server: RedisProcess) -> int:
        async with house(server.url, "many") as built:
            followers = [await built.follow(f"w{i % 20}", None) for i in range(300)]
            waiting = [asyncio.create_task(take(follower, has(Event))) for follower in followers]
            for i in range(20):
                await built.log(f"w{i}").append("wake")
            assert [offsets(await task) for task in waiting] == [[1]] * 300
            return await connections(server)

    with RedisProcess(appendonly=False) as server:
        # The shared link holds at most eight, the hub's reader one.
        assert 2 <= asyncio.run(main(server)) <= 9


def test_from_now_means_nothing_before_and_everything_after(with_house: Callable[..., None]) -> None:
    async def body(built: House) -> None:
        await built.log().append("before")
        follower = await built.follow(since=None)
        after = await built.log().append("after")
        items = await take(follower, has(Event))
        assert [item for item in items if isinstance(item, Event)] == [after]

    with_house(body)


def test_a_follower_is_told_once_that_it_has_caught_up(with_house: Callable[..., None]) -> None:
    async def body(built: House) -> None:
        await built.log().append_many([{"kind": "k"}] * 3)
        follower = await built.follow()
        items = await take(follower, has(CaughtUp))
        assert offsets(items) == [1, 2, 3]
        assert isinstance(items[-1], CaughtUp)
        await built.log().append("live")
        assert offsets(await follower.next(PATIENCE_S)) == [4]
        assert await follower.next(0.05) == []

    with_house(body)


def test_an_overflowing_follower_goes_back_to_the_log_and_loses_nothing(with_house: Callable[..., None]) -> None:
    async def body(built: House) -> None:
        follower = await built.follow()
        await take(follower, has(CaughtUp))
        assert await follower.next(0.01) == []  # it waits for the hub now
        lively = await built.follow()
        for _ in range(20):
            await built.log().append_many([{"kind": "k"}] * 10)
            # The lively one has read it, so the hub has handed it to the slow one too.
            await take(lively, has(Event))
        items = await take(follower, last_is(200))
        assert offsets(items) == list(range(1, 201))
        assert not any(isinstance(item, Gap) for item in items)
        follower.close()
        assert built.hub.stats().overflows >= 1

    with_house(body, buffer_events=50)


def test_what_was_trimmed_under_a_slow_follower_is_counted_exactly(with_house: Callable[..., None]) -> None:
    async def body(built: House) -> None:
        follower = await built.follow()
        await built.log().append("first")
        assert offsets(await take(follower, has(Event))) == [1]
        for _ in range(10):
            await built.log().append_many([{"kind": "k"}] * 30)
        items = await take(follower, last_is(301))
        gaps = [item for item in items if isinstance(item, Gap)]
        seen = offsets(items)
        assert seen == list(range(seen[0], 302))
        assert sum(gap.missed for gap in gaps) == seen[0] - 2
        assert len(seen) >= 50

    with_house(body, max_entries=50, buffer_events=20)


def test_a_wiped_log_is_told_to_those_who_wait_for_it(with_house: Callable[..., None]) -> None:
    async def body(built: House) -> None:
        await built.log().append_many([{"kind": "old"}] * 5)
        follower = await built.follow()
        await take(follower, has(CaughtUp))
        waiting = asyncio.create_task(take(follower, has(Gap)))
        await wipe(built)
        items = await waiting
        assert [item.reason for item in items if isinstance(item, Gap)] == ["reset"]
        await built.log().append("new")
        assert offsets(await take(follower, has(Event))) == [1]

    with_house(body)


async def wipe(built: House) -> None:
    keys = await built.link.execute(Command(("KEYS", f"{built.config.key_prefix}:*"), 5.0))
    await built.link.execute(Command(("DEL", *keys), 5.0))


def test_the_filter_holds_live_as_in_the_log(with_house: Callable[..., None]) -> None:
    async def body(built: House) -> None:
        batch = [{"kind": "tool.used"}, {"kind": "noise"}, {"kind": "tool.done", "visibility": "private"}]
        await built.log().append_many(batch)
        follower = await built.follow(wanted=EventFilter.of(kind="tool.*", visibility="internal"))
        first = await take(follower, has(CaughtUp))
        await built.log().append_many(batch)
        await built.log().append("tool.last")
        second = await take(follower, last_is(7))
        assert offsets(first) + offsets(second) == [1, 4, 7]

    with_house(body)


@pytest.mark.parametrize("ended_before", [True, False])
def test_a_follower_of_a_run_ends_after_its_terminal_event(with_house: Callable[..., None], ended_before: bool) -> None:
    async def body(built: House) -> None:
        await built.log().append("run.started", run_id="r")
        if ended_before:
            await built.log().append("run.finished", run_id="r")
        follower = await built.follow(wanted=EventFilter.of(run_id="r"), until_terminal=True)
        if not ended_before:
            await take(follower, has(CaughtUp))
            await built.log().append("run.finished", run_id="another")
            await built.log().append("run.failed", run_id="r")
        items: list[Item] = []
        while not follower.ended:
            items += await follower.next(PATIENCE_S)
        assert follower.ended
        assert await follower.next(PATIENCE_S) == []
        assert [e.kind for e in items if isinstance(e, Event)][-1:] == (
            ["run.finished"] if ended_before else ["run.failed"]
        )

    with_house(body)


def test_closing_reaches_every_follower_at_once_with_its_cursor(with_house: Callable[..., None]) -> None:
    async def body(built: House) -> None:
        event = await built.log().append("k")
        followers = [await built.follow() for _ in range(100)]
        for follower in followers:
            await take(follower, has(CaughtUp))
        waiting = [asyncio.create_task(follower.next(PATIENCE_S)) for follower in followers]
        await asyncio.sleep(0)
        async with asyncio.timeout(2):
            await built.hub.close()
            assert [await task for task in waiting] == [[Closing(event.id)]] * 100

    with_house(body)


def test_followers_outlive_an_outage_and_miss_nothing(key_prefix: str) -> None:
    async def main() -> None:
        with RedisProcess() as server:
            async with asyncio.timeout(60), house(server.url, key_prefix) as built:
                follower = await built.follow()
                await built.log().append("one")
                assert offsets(await take(follower, has(Event))) == [1]
                await asyncio.to_thread(server.kill)
                assert offsets(await follower.next(0.5)) == []
                await asyncio.to_thread(server.start)
                await built.log().append("two")
                assert offsets(await take(follower, has(Event))) == [2]

    asyncio.run(main())


def test_an_idle_hub_reads_nothing(with_house: Callable[..., None]) -> None:
    async def body(built: House) -> None:
        follower = await built.follow(since=None)
        await take(follower, has(CaughtUp))
        await built.log().append("k")
        await take(follower, has(Event))
        late = await built.follow(since=None)
        await take(late, has(CaughtUp))
        follower.close()
        # The read under way ends within its block; after it there is nobody to read for.
        await asyncio.sleep(1.2)
        before = built.hub.stats().reads
        await asyncio.sleep(1.2)
        assert built.hub.stats().reads == before
        assert built.hub.stats().topics == 0
        # It came while the log was read for another one, and has not waited so far.
        waiting = asyncio.create_task(take(late, has(Event)))
        await asyncio.sleep(0)
        await built.log().append("k")
        await waiting

    with_house(body)


@pytest.mark.parametrize("rules", ["-client", "-client|unblock", "-xread", "-client -xread"])
def test_followers_are_live_whatever_commands_redis_refuses(
    rules: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("eventlog.store.calls._warned", set())

    async def main(url: str) -> None:
        async with asyncio.timeout(60), house(url, "p") as built:
            first = await built.follow("a")
            await take(first, has(CaughtUp))
            waiting = asyncio.create_task(take(first, has(Event)))
            second = await built.follow("b")
            await take(second, has(CaughtUp))
            also_waiting = asyncio.create_task(take(second, has(Event)))
            await asyncio.sleep(0)
            await built.log("a").append("k")
            await built.log("b").append("k")
            assert offsets(await waiting) + offsets(await also_waiting) == [1, 1]
            assert built.hub.trouble is None

    with RedisProcess(appendonly=False) as server:
        asyncio.run(main(server.user(rules)))
    warned = "".join(record.getMessage() for record in caplog.records)
    # Whether a reader has to be unblocked at all is a matter of chance.
    assert all(rule[1:].upper() in warned for rule in rules.split() if "|" not in rule)


def test_followers_say_when_they_are_not_live_and_when_they_are_again() -> None:
    async def main(server: RedisProcess) -> None:
        async with asyncio.timeout(60), house(server.url, "p") as built:
            waiting, busy = await built.follow(), await built.follow()
            for follower in (waiting, busy):
                await take(follower, has(CaughtUp))
            task = asyncio.create_task(take(waiting, has(Interrupted)))
            await asyncio.to_thread(server.kill)
            assert isinstance((await task)[-1], Interrupted)
            assert built.hub.trouble is not None
            # One that did not wait at that moment says it when it is asked next, and a new one at once.
            assert isinstance((await take(busy, has(Interrupted)))[-1], Interrupted)
            late = await built.follow()
            assert [type(item) for item in await take(late, has(Interrupted))] == [Interrupted]
            await asyncio.to_thread(server.start)
            for follower in (waiting, busy, late):
                assert isinstance((await take(follower, has(CaughtUp)))[-1], CaughtUp)
            assert built.hub.trouble is None
            await built.log().append("k")
            for follower in (waiting, busy, late):
                assert offsets(await take(follower, has(Event))) == [1]

    with RedisProcess() as server:
        asyncio.run(main(server))

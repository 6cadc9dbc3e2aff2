"""A bus over a shared log: whoever subscribes is given what anybody appended, in the order of the log, each once."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any, Protocol

import pytest

from eventlog import Event, Gap
from eventlog.bus.bus import EventBus
from eventlog.bus.shared import SharedBus
from eventlog.bus.subscription import Subscription
from eventlog.errors import InvalidInput, LogClosed
from tests.contract.colours import AsyncColour, Colour
from tests.contract.worlds import World
from tests.support.redis_process import eventually


def bus_over(log: Colour, **options: Any) -> EventBus:
    """A bus over either colour of log; over an `AsyncEventLog` it is made on that log's loop."""

    async def made() -> EventBus:
        return EventBus(log=log.log, **options)  # type: ignore[attr-defined]

    if isinstance(log, AsyncColour):
        return log.wait_for(made())
    return EventBus(log=log.log, **options)  # type: ignore[attr-defined]


class Opening(Protocol):
    def __call__(self, log: Colour, **options: Any) -> EventBus: ...


@pytest.fixture
def open_bus() -> Iterator[Opening]:
    """Buses that are closed when the test ends."""
    with ExitStack() as stack:

        def opened(log: Colour, **options: Any) -> EventBus:
            bus = bus_over(log, **options)
            stack.callback(bus.close)
            return bus

        yield opened


class Reader:
    """Reads a subscription in a thread, to its end."""

    def __init__(self, subscription: Subscription) -> None:
        self.events: list[Event] = []
        self.error: BaseException | None = None
        self._subscription = subscription
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        try:
            for event in self._subscription:
                self.events.append(event)
        except BaseException as error:
            self.error = error

    def join(self) -> list[Event]:
        self._thread.join(30)
        assert not self._thread.is_alive(), f"it still reads, and was given {len(self.events)}"
        if self.error is not None:
            raise self.error
        return self.events


def test_what_is_emitted_is_in_the_log_and_with_every_subscriber(log: Colour, open_bus: Opening) -> None:
    bus, other = open_bus(log), open_bus(log)
    readers = [Reader(each.subscribe(run_id="r")) for each in (bus, other, bus)]
    emitted = [bus.emit_sync({"kind": "a", "payload": {"n": n}, "run_id": "r"}) for n in range(5)]
    emitted.append(log.append("b", run_id="r"))
    emitted.append(other.emit_sync({"kind": "run.finished", "run_id": "r"}))
    assert log.query() == emitted
    assert [reader.join() for reader in readers] == [emitted] * 3


def test_the_log_gives_id_and_seq_to_events_that_producers_made(log: Colour, open_bus: Opening) -> None:
    bus = open_bus(log)
    event = bus.emit_sync(Event.from_dict({"id": "5-77", "kind": "a", "run_id": "r", "seq": 9, "payload": {"n": 1}}))
    assert event is not None
    assert (event.offset, event.seq, event.payload) == (1, 1, {"n": 1})


def test_late_subscribers_replay_what_is_there_and_go_on_without_a_hole_or_a_double(
    world: World, open_bus: Opening
) -> None:
    log = world.open()
    bus = open_bus(log, max_queue_size=50)
    readers = []
    for round_ in range(6):
        readers.append(Reader(bus.subscribe()))
        for n in range(100):
            log.append("a", {"n": n, "round": round_})
    log.append("last")
    for reader in readers:
        eventually(lambda reader=reader: len(reader.events) == 601, "it is given all")
    bus.close()
    assert [[event.offset for event in reader.join()] for reader in readers] == [list(range(1, 602))] * 6


def test_without_replay_it_begins_with_what_comes(log: Colour, open_bus: Opening) -> None:
    bus = open_bus(log)
    log.append("old")
    subscription = bus.subscribe(replay=False)
    log.append("new")
    assert next(subscription).kind == "new"
    also = bus.subscribe(replay=False)
    bus.emit_sync({"kind": "newer"})
    assert next(also).kind == next(subscription).kind == "newer"


@pytest.mark.parametrize(
    ("filters", "wanted"),
    [
        ({}, "abcdef"),
        ({"visibility": "public"}, "acdef"),
        ({"lane_id": "two"}, "c"),
        ({"kinds": ["a", "d*"]}, "ad"),
        ({"run_id": "r"}, "abc"),
        ({"run_id": "r", "lane_id": "two"}, "c"),
    ],
)
def test_filters_hold_for_what_is_replayed_and_for_what_comes(
    world: World, open_bus: Opening, filters: dict[str, Any], wanted: str
) -> None:
    log = world.open()
    bus = open_bus(log)
    live = bus.subscribe(**filters)
    log.append("a", run_id="r")
    log.append("b", run_id="r", visibility="internal")
    log.append("c", run_id="r", lane_id="two")
    late = bus.subscribe(**filters)
    log.append("d", run_id="s")
    log.append("e")
    bus.emit_sync({"kind": "f"})
    bus.close()
    assert "".join(event.kind for event in live) == "".join(event.kind for event in late) == wanted


def test_it_ends_after_the_end_of_its_run_and_not_of_another(log: Colour, open_bus: Opening) -> None:
    bus = open_bus(log)
    mine = Reader(bus.subscribe(run_id="r", lane_id="two", kinds=["a"]))
    unnamed = bus.subscribe()
    for kind, run_id in (("run.finished", "s"), ("run.finished", None), ("a", "r"), ("run.error", "r"), ("a", "r")):
        bus.emit_sync({"kind": kind, "run_id": run_id, "lane_id": "two" if kind == "a" else None})
    assert [event.kind for event in mine.join()] == ["a", "run.error"]
    bus.close()
    assert len(list(unnamed)) == 5, "a shared log is not over with one run"


@pytest.mark.parametrize("replay", [True, False])
def test_who_comes_after_the_end_of_a_run_is_not_kept_waiting(log: Colour, open_bus: Opening, replay: bool) -> None:
    bus = open_bus(log)
    log.append("a", run_id="r")
    log.append("run.failed", run_id="r", visibility="private")
    log.append("late", run_id="r")
    late = Reader(bus.subscribe("public", run_id="r", replay=replay))
    assert [event.kind for event in late.join()] == (["a"] if replay else [])
    for _ in range(3):
        assert len(Reader(bus.subscribe(run_id="r")).join()) == 2


def test_who_comes_when_the_end_of_its_run_is_gone_already_is_given_the_rest_and_not_kept_waiting(
    world: World, open_bus: Opening
) -> None:
    log = world.open(max_entries=3)
    log.append("run.finished", run_id="r")
    log.append_many([{"kind": "late", "run_id": "r"}] * 3)
    given = Reader(open_bus(log).subscribe(run_id="r")).join()
    assert [event.kind for event in given] == ["late"] * 3


@pytest.mark.parametrize("queue", [1, 100, 1000])
def test_who_reads_nothing_for_ten_thousand_events_is_given_the_rest_and_told_how_many_are_gone(
    world: World, open_bus: Opening, queue: int
) -> None:
    log = world.open(max_entries=2000)
    bus = open_bus(log, max_queue_size=queue)
    gaps: list[Gap] = []
    subscription = bus.subscribe(on_gap=gaps.append)
    log.append("first", run_id="r")
    assert next(subscription).offset == 1
    for _ in range(20):
        log.append_many([{"kind": "a", "run_id": "r"}] * 500)
    end = bus.emit_sync({"kind": "run.finished", "run_id": "r"})
    assert end is not None
    given = [1]
    while given[-1] < end.offset:
        given.append(next(subscription).offset)
    assert given == sorted(set(given))
    assert len(given) + subscription.missed == end.offset == 10_002
    assert set(range(8003, 10_003)) <= set(given), "everything still resident"
    told = {n for gap in gaps for n in range(gap.from_offset, gap.to_offset + 1)}
    assert told.isdisjoint(given)
    assert all(gap.reason == "trimmed" for gap in gaps)


def test_the_end_of_a_run_that_was_emitted_here_arrives_though_the_log_has_it_no_more(
    world: World, open_bus: Opening
) -> None:
    log = world.open(max_entries=5)
    bus = open_bus(log, max_queue_size=2)
    subscription = bus.subscribe(run_id="r")
    log.append_many([{"kind": "a", "run_id": "r"}] * 10)
    end = bus.emit_sync({"kind": "run.finished", "run_id": "r"})
    log.append_many([{"kind": "other"}] * 20)
    given = list(subscription)
    assert given[-1] == end
    assert [event for event in given if event.is_terminal] == [end]


def test_a_wiped_log_is_told_of_and_its_successor_followed(world: World, open_bus: Opening) -> None:
    log = world.open()
    bus = open_bus(log)
    gaps: list[Gap] = []
    subscription = bus.subscribe(on_gap=gaps.append)
    log.append("a")
    assert next(subscription).kind == "a"
    world.pass_time(0.01)
    world.wipe(log)
    reader = Reader(subscription)
    log.append("b")
    eventually(lambda: reader.events, "the new log is followed")
    assert [event.kind for event in reader.events] == ["b"]
    assert [gap.reason for gap in gaps] == ["reset"]


def test_a_cleared_log_is_told_of(world: World, open_bus: Opening) -> None:
    log = world.open()
    bus = open_bus(log, max_queue_size=2)
    gaps: list[Gap] = []
    subscription = bus.subscribe(on_gap=gaps.append)
    log.append_many([{"kind": "a"}] * 10)
    log.clear()
    log.append("b")
    given = []
    while not given or given[-1].kind != "b":
        given.append(next(subscription))
    assert len(given) + subscription.missed == 11


def test_closing_gives_all_that_was_emitted_and_then_the_end(log: Colour, open_bus: Opening) -> None:
    bus = open_bus(log, max_queue_size=10)
    quick, slow, late = Reader(bus.subscribe()), bus.subscribe(), None
    emitted = [bus.emit_sync({"kind": "a"}) for _ in range(200)]
    late = bus.subscribe()
    bus.close()
    bus.close()
    assert quick.join() == list(slow) == list(late) == emitted
    with pytest.raises(LogClosed):
        bus.emit_sync({"kind": "b"})
    assert log.append("still.open").offset == 201
    assert len(Reader(bus.subscribe()).join()) == 201
    assert list(bus.subscribe(replay=False)) == []


def test_nobody_is_followed_for_when_nobody_subscribes(log: Colour, open_bus: Opening) -> None:
    bus = open_bus(log)
    subscription = bus.subscribe()
    shared = bus._source
    assert isinstance(shared, SharedBus)
    assert shared._following
    del subscription
    eventually(lambda: bus.subscriber_count == 0, "what is dropped is gone, when nothing is read for it any more")
    log.append("a")
    eventually(lambda: not shared._following, "the follower ends")
    again = bus.subscribe(replay=False)
    log.append("b")
    assert next(again).kind == "b"


def test_subscribers_come_and_go_by_thousands_from_threads_and_loops_and_nothing_stays(
    world: World, open_bus: Opening
) -> None:
    log = world.open(max_entries=200)
    bus = open_bus(log)
    stop = threading.Event()
    wrong: list[object] = []

    def emit() -> None:
        n = 0
        while not stop.is_set():
            n += 1
            log.append("a", {"run": f"r{n % 5}"}, run_id=f"r{n % 5}")

    def churn(number: int) -> None:
        for n in range(100):
            with bus.subscribe(run_id=f"r{number}", replay=bool(n % 2)) as subscription:
                if n % 10 == 0:
                    wrong.extend(e for e, _ in zip(subscription, range(2), strict=False) if e.run_id != f"r{number}")

    async def achurn(number: int) -> None:
        for n in range(100):
            subscription = bus.subscribe(run_id=f"r{number}", replay=bool(n % 2))
            if n % 10 == 0:
                async for event in subscription:
                    wrong.extend([event] if event.run_id != f"r{number}" else [])
                    break
            elif n % 3 == 0:
                task = asyncio.ensure_future(anext(subscription))
                await asyncio.sleep(0)
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)

    jobs: list[Callable[[], object]] = [lambda n=n: churn(n) for n in range(4)]
    jobs += [lambda n=n: asyncio.run(achurn(n)) for n in range(4)]
    emitter = threading.Thread(target=emit)
    emitter.start()
    threads = [threading.Thread(target=job) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    stop.set()
    emitter.join()
    assert wrong == []
    eventually(lambda: bus.subscriber_count == 0, "nobody is left")


def test_emitting_on_an_event_loop_keeps_the_order_and_can_be_awaited(log: Colour, open_bus: Opening) -> None:
    bus = open_bus(log)

    async def main() -> None:
        subscription = bus.subscribe(run_id="r")
        under_way = [bus.emit({"kind": "a", "payload": {"n": n}, "run_id": "r"}) for n in range(300)]
        refused = bus.emit({"kind": "a", "payload": {"chain_of_thought": "first I"}, "run_id": "r"})
        with pytest.raises(InvalidInput):
            bus.emit({"kind": "no kind"})
        end = await bus.emit({"kind": "run.finished", "run_id": "r"})
        assert await refused is None
        given = [event async for event in subscription]
        assert [event.payload.get("n") for event in given] == [*range(300), None]
        assert given[-1] == end
        assert [emission.event for emission in under_way] == given[:-1]
        assert len(await bus.areplay("r")) == 301
        assert await bus.areplay("r", since_seq=300) == [end]
        await bus.close()

    asyncio.run(main())
    assert bus.replay("r", "main", 299) == log.query()[-2:]
    assert bus.history_size == 301
    assert (bus.stats().emitted, bus.stats().refused) == (301, 1)


def test_subscribing_on_an_event_loop_misses_nothing_that_follows(world: World, open_bus: Opening) -> None:
    async def main(bus: EventBus) -> None:
        subscription = bus.subscribe(replay=False)
        emitted = await bus.emit({"kind": "a"})
        assert await anext(subscription) == emitted
        async with bus.subscribe(replay=False) as other:
            event = await asyncio.to_thread(log.append, "b")
            assert await anext(other) == await anext(subscription) == event

    log = world.open()
    log.append("old")
    for _ in range(3):
        asyncio.run(main(open_bus(log)))


def test_a_bus_over_an_asyncio_log_says_what_cannot_be_done(world: World, open_bus: Opening) -> None:
    log = world.open()
    if not isinstance(log, AsyncColour):
        return
    bus = open_bus(log)

    async def on_its_loop() -> None:
        for blocking in (lambda: bus.emit_sync({"kind": "a"}), bus.replay, lambda: bus.history_size):
            with pytest.raises(InvalidInput, match="event loop"):
                blocking()
        event = await bus.emit({"kind": "a"})
        assert await bus.areplay() == [event]
        async with bus.subscribe() as subscription:
            assert await anext(subscription) == event
        await bus.close()

    log.wait_for(on_its_loop())
    with pytest.raises(InvalidInput, match="event loop"):
        EventBus(log=log.log)

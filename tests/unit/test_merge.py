"""Several followed logs as one stream: order within the window, bounds, ends, failures, closing."""

import asyncio
import gc
import random
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eventlog import create_event_log
from eventlog.errors import BackendUnavailable, InvalidInput
from eventlog.model.events import Body, Event
from eventlog.runs.merge import Followed, MergedFollower, Window, afollow_merged, follow_merged
from tests.support.extent import examples
from tests.support.redis_process import eventually

T0_S = 1_763_720_000.0
# Longer than a busy machine keeps one source's thread from running, so what a test makes of two sources is in order.
HOLD_BACK_S = 5.0


def event(ms: int, offset: int = 1) -> Event:
    return Event(int(T0_S * 1000) + ms, offset, Body.of("a", {}))


def stream(*times: int) -> list[Event]:
    return [event(ms, offset) for offset, ms in enumerate(times, 1)]


def shown(taken: Iterable[Followed]) -> list[tuple[str, int]]:
    return [(name, round((each.timestamp - T0_S) * 1000)) for name, each in taken]


class Clocked:
    """A window whose clock the test moves; both clocks begin at `T0_S`, half a second is held back."""

    def __init__(self, *names: str, buffer: int = 10) -> None:
        self.now = T0_S
        self.window = Window(names, 0.5, buffer, self.now)

    def add(self, name: str, *events: Event) -> None:
        for each in events:
            self.window.add(name, each, self.now)

    def take(self) -> list[tuple[str, int]]:
        return shown(self.window.take(self.now, self.now)[0])

    @property
    def wait_s(self) -> float | None:
        taken, wait_s = self.window.take(self.now, self.now)
        assert taken == []
        return wait_s


@pytest.fixture
def two() -> Clocked:
    return Clocked("a", "b")


def test_what_every_log_has_shown_its_way_past_goes_at_once_in_order(two: Clocked) -> None:
    two.add("a", *stream(10, 20, 40))
    two.add("b", *stream(15, 30))
    assert two.take() == [("a", 10), ("b", 15), ("a", 20), ("b", 30)]


def test_an_event_waits_as_long_as_is_held_back_for_a_log_that_shows_nothing(two: Clocked) -> None:
    two.now += 10
    two.add("a", event(9_990))
    assert two.wait_s == pytest.approx(0.5, abs=1e-6)
    two.now += 0.3
    assert two.wait_s == pytest.approx(0.2, abs=1e-6)
    two.now += 0.2
    assert two.take() == [("a", 9_990)]
    assert two.wait_s is None


def test_an_event_that_comes_within_the_window_is_in_its_place(two: Clocked) -> None:
    two.now += 10
    two.add("a", event(9_990))
    two.now += 0.4
    two.add("b", event(9_980))
    assert two.take() == [("b", 9_980)]
    two.now += 0.5
    assert two.take() == [("a", 9_990)]
    assert two.window.stats().late == 0


def test_an_event_that_comes_too_late_goes_at_once_and_is_counted(two: Clocked) -> None:
    two.now += 10
    two.add("a", event(9_990))
    two.now += 0.6
    assert two.take() == [("a", 9_990)]
    two.add("b", event(9_980), event(9_985, 2))
    assert two.take() == [("b", 9_980), ("b", 9_985)]
    assert two.window.stats() == (0, 2)


def test_a_backfill_is_not_held_up_by_a_log_that_was_silent_all_the_time(two: Clocked) -> None:
    two.now += 10
    two.add("a", *stream(10, 20, 30))
    assert two.take() == [("a", 10), ("a", 20), ("a", 30)]


def test_at_the_beginning_every_log_has_time_to_show_what_it_has(two: Clocked) -> None:
    two.now += 0.1
    two.add("a", event(-5000))
    assert two.wait_s == pytest.approx(0.4, abs=1e-6)
    two.add("b", event(-6000))
    assert two.take() == [("b", -6000)]


def test_the_log_that_was_silent_for_the_shortest_time_is_waited_for() -> None:
    three = Clocked("a", "b", "c")
    three.now += 0.3
    three.add("b", event(-9000))
    three.add("c", event(-8000))
    three.now += 0.2
    assert three.take() == [("b", -9000)]
    three.now += 0.4
    assert three.wait_s == pytest.approx(0.1, abs=1e-6)


def test_a_failure_is_one_once_all_that_came_before_it_was_taken(two: Clocked) -> None:
    two.add("a", event(10))
    two.window.end("a", BackendUnavailable("away"))
    assert two.window.failure is None
    two.window.end("b")
    assert two.take() == [("a", 10)]
    assert isinstance(two.window.failure, BackendUnavailable)


def test_a_log_that_has_ended_is_not_waited_for(two: Clocked) -> None:
    two.add("a", event(10))
    two.window.end("b")
    assert two.take() == [("a", 10)]
    assert not two.window.is_over
    two.window.end("a")
    assert two.window.is_over


def test_a_log_that_had_no_room_has_time_to_go_on() -> None:
    two = Clocked("a", "b", buffer=1)
    two.add("a", event(10))
    two.add("b", event(100))
    assert two.window.is_full("a")
    two.now += 10
    assert two.take() == [("a", 10)]
    assert not two.window.is_full("a")
    assert two.wait_s == pytest.approx(0.5, abs=1e-6)
    two.add("a", event(30, 2))
    assert two.take() == [("a", 30)]


def test_at_the_same_time_names_decide(two: Clocked) -> None:
    two.add("b", *stream(10, 10))
    two.add("a", *stream(10, 10))
    two.window.end("a")
    two.window.end("b")
    assert two.take() == [("a", 10), ("a", 10), ("b", 10), ("b", 10)]


@given(st.lists(st.lists(st.integers(0, 500), max_size=30), min_size=1, max_size=4), st.randoms(use_true_random=False))
@settings(max_examples=examples(200), deadline=None)
def test_whatever_comes_whenever_all_goes_out_once_each_log_in_order(
    drawn: list[list[int]], chance: random.Random
) -> None:
    left = {str(n): stream(*sorted(times)) for n, times in enumerate(drawn)}
    clocked = Clocked(*left, buffer=3)
    expected = {name: list(events) for name, events in left.items()}
    out: list[Followed] = []
    for _ in range(10_000):
        if clocked.window.is_over:
            break
        clocked.now += chance.choice([0.0, 0.1, 1.0])
        name = chance.choice(list(left))
        if left[name] and not clocked.window.is_full(name):
            clocked.add(name, left[name].pop(0))
        elif not left[name]:
            clocked.window.end(name)
        out += clocked.window.take(clocked.now, clocked.now)[0]
        assert clocked.window.stats().held <= 3 * len(left)
    assert clocked.window.is_over
    for name, events in expected.items():
        assert [each for source, each in out if source == name] == events
    behind = sum(
        (each.timestamp, name) < max((before.timestamp, source) for source, before in out[:n])
        for n, (name, each) in enumerate(out)
        if n
    )
    assert clocked.window.stats().late == behind


class Source:
    """A follower that gives what it is told, then waits until it is closed; of either colour."""

    def __init__(self, events: Iterable[Event], *, ends: bool = True, error: Exception | None = None) -> None:
        self.events = events
        self.given = 0
        self.cursor = "0"
        self._ends = ends
        self._error = error
        self.closed = threading.Event()

    def __iter__(self) -> Iterator[Event]:
        for each in self.events:
            self.given += 1
            yield each
        self._raise()
        if not self._ends:
            self.closed.wait(30)

    async def __aiter__(self) -> AsyncIterator[Event]:
        for each in self.events:
            self.given += 1
            yield each
        self._raise()
        if not self._ends:
            await asyncio.Event().wait()

    def _raise(self) -> None:
        if self._error is not None:
            raise self._error

    def close(self) -> None:
        self.closed.set()

    async def aclose(self) -> None:
        self.closed.set()


class Merging:
    """One way to iterate, whatever the colour; the asyncio one hands out all that there is before its error."""

    def __init__(self, colour: str) -> None:
        self.colour = colour
        self.cursors: dict[str, str] = {}

    def all_of(self, **sources: Source) -> list[Followed]:
        if self.colour == "sync":
            merged = follow_merged(sources, hold_back_s=HOLD_BACK_S, buffer=5)
            out = list(merged)
            self.cursors = merged.cursors
            return out
        return asyncio.run(self._all_of(sources))

    async def _all_of(self, sources: dict[str, Source]) -> list[Followed]:
        merged = afollow_merged(sources, hold_back_s=HOLD_BACK_S, buffer=5)
        out = [followed async for followed in merged]
        self.cursors = merged.cursors
        return out

    def first_of(self, n: int, **sources: Source) -> list[Followed]:
        """Some of what there is; then it is closed."""
        if self.colour == "sync":
            with follow_merged(sources, hold_back_s=HOLD_BACK_S, buffer=5) as merged:
                return [followed for _, followed in zip(range(n), merged, strict=False)]
        return asyncio.run(self._first_of(n, sources))

    async def _first_of(self, n: int, sources: dict[str, Source]) -> list[Followed]:
        out: list[Followed] = []
        async with afollow_merged(sources, hold_back_s=HOLD_BACK_S, buffer=5) as merged:
            async for followed in merged:
                out.append(followed)
                if len(out) == n:
                    break
        assert asyncio.all_tasks() == {asyncio.current_task()}
        return out


@pytest.fixture(params=["sync", "async"])
def merging(request: pytest.FixtureRequest) -> Merging:
    return Merging(request.param)


def test_logs_that_end_make_a_stream_that_ends_in_order(merging: Merging) -> None:
    out = merging.all_of(a=Source(stream(*range(0, 400, 2))), b=Source(stream(*range(1, 400, 2))))
    assert [ms for _, ms in shown(out)] == list(range(400))
    assert merging.cursors == {"a": event(398, 200).id, "b": event(399, 200).id}


def test_what_a_log_raises_is_raised_when_its_events_were_handed_out(merging: Merging) -> None:
    lost = Source(stream(1, 2, 3), error=BackendUnavailable("away"))
    with pytest.raises(BackendUnavailable, match="away") as raised:
        merging.all_of(a=lost, b=Source(stream(*range(4, 5000)), ends=False))
    assert raised.value.__notes__ == ["while following a"]
    assert lost.closed.is_set()


def test_a_stream_that_is_closed_closes_its_followers(merging: Merging) -> None:
    sources = {name: Source(stream(*range(100)), ends=False) for name in ("a", "b")}
    began = time.monotonic()
    assert len(merging.first_of(10, **sources)) == 10
    assert time.monotonic() - began < 2
    assert all(source.closed.is_set() for source in sources.values())
    assert not [each for each in threading.enumerate() if each.name.startswith("eventlog-merge")]


def test_a_log_is_not_read_further_than_there_is_room(merging: Merging) -> None:
    fast = Source(stream(*range(10_000)), ends=False)
    merging.first_of(1, a=fast, b=Source(stream(0), ends=False))
    assert fast.given < 300


def test_a_log_of_which_nothing_came_has_the_cursor_of_its_follower(merging: Merging) -> None:
    merging.all_of(a=Source(stream(5)), b=Source([]))
    assert merging.cursors == {"a": event(5).id, "b": "0"}


def test_a_reader_that_stops_reading_holds_up_the_threads_within_their_bounds() -> None:
    source = Source(stream(*range(5000)), ends=False)
    merged = follow_merged({"a": source}, buffer=7)
    reading = iter(merged)
    next(reading)
    eventually(lambda: merged.stats().held == 7, "the window is full")
    # What was taken at once, what is held, and one in the thread's hand.
    assert source.given <= 256 + 7 + 1
    merged.close()


def test_a_stream_may_be_closed_from_another_thread() -> None:
    merged = follow_merged({"a": Source(stream(1), ends=False)})
    out: list[Followed] = []
    reader = threading.Thread(target=lambda: out.extend(merged), daemon=True)
    reader.start()
    eventually(lambda: merged.cursors == {"a": event(1).id}, "the first event is handed out")
    merged.close()
    reader.join(5)
    assert not reader.is_alive()
    assert shown(out) == [("a", 1)]


def test_a_stream_may_be_closed_from_another_task() -> None:
    async def close_it() -> list[Followed]:
        merged = afollow_merged({"a": Source(stream(1), ends=False)})
        first_came = asyncio.Event()
        out: list[Followed] = []

        async def read() -> None:
            async for followed in merged:
                out.append(followed)
                first_came.set()

        reader = asyncio.create_task(read())
        await asyncio.wait_for(first_came.wait(), 5)
        await merged.aclose()
        await asyncio.wait_for(reader, 5)
        return [*out, *[followed async for followed in merged]]

    assert shown(asyncio.run(close_it())) == [("a", 1)]


def test_a_generator_that_waits_for_room_is_closed_too() -> None:
    ended = threading.Event()

    def endless() -> Iterator[Event]:
        try:
            for ms in range(100_000):
                yield event(ms, ms + 1)
        finally:
            ended.set()

    with follow_merged({"a": endless()}, buffer=2) as merged:
        next(iter(merged))
    assert ended.wait(5)


@pytest.mark.parametrize(
    ("field", "followers", "options"),
    [
        ("followers", {}, {}),
        ("hold_back_s", {"a": []}, {"hold_back_s": -1.0}),
        ("hold_back_s", {"a": []}, {"hold_back_s": float("nan")}),
        ("hold_back_s", {"a": []}, {"hold_back_s": "1"}),
        ("buffer", {"a": []}, {"buffer": 0}),
        ("buffer", {"a": []}, {"buffer": 1.5}),
        ("followers", [[]], {}),
        ("followers", {"a": "abc"}, {}),
        ("followers", {"a": {}}, {}),
    ],
)
def test_what_makes_no_sense_is_refused(
    field: str, followers: dict[str, list[Event]], options: dict[str, float]
) -> None:
    with pytest.raises(InvalidInput) as refused:
        follow_merged(followers, **options)  # type: ignore[arg-type]
    assert refused.value.field == field


def test_a_log_itself_and_a_follower_of_the_other_colour_are_refused_at_once() -> None:
    async def none() -> AsyncIterator[Event]:
        for each in stream():
            yield each

    cases: list[tuple[Callable[..., object], object, str]] = [
        (follow_merged, create_event_log("memory"), "a is a DirectLog: give what log.follow"),
        (afollow_merged, create_event_log("memory"), "a is a DirectLog: give what log.follow"),
        (follow_merged, none(), "a is for asyncio: use afollow_merged"),
        (afollow_merged, stream(1), "a blocks: use follow_merged"),
    ]
    for merge, follower, problem in cases:
        with pytest.raises(InvalidInput, match=f"^followers: {problem}"):
            merge({"a": follower})


@pytest.mark.parametrize("colour", ["sync", "async"])
def test_what_is_no_event_ends_the_stream_with_an_error_that_says_so(colour: str) -> None:
    wrong: list[Event] = [*stream(1), event(2).to_dict()]  # type: ignore[list-item]
    with pytest.raises(InvalidInput, match=r"^followers\.a: .*Event\.from_dict") as raised:
        Merging(colour).all_of(a=Source(wrong))
    assert raised.value.__notes__ == ["while following a"]


def test_a_merge_that_is_closed_twice_at_once_closes_its_followers_one_after_another() -> None:
    async def endless() -> AsyncIterator[Event]:
        try:
            yield event(1)
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)

    async def unread() -> AsyncIterator[Event]:
        try:
            for n in range(1000):
                yield event(n)
        finally:
            await asyncio.sleep(0.01)

    async def main() -> None:
        told: list[object] = []
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: told.append(context))
        async with afollow_merged({"a": endless(), "b": unread()}, hold_back_s=0.01, buffer=2) as merged:
            async for _ in merged:
                break
        again = afollow_merged({"a": endless(), "b": unread()}, hold_back_s=0.01, buffer=2)
        iteration: Any = aiter(again)
        await anext(iteration)
        await asyncio.gather(again.aclose(), again.aclose())
        await iteration.aclose()
        while len(asyncio.all_tasks()) > 1:  # noqa: ASYNC110  (the tasks are those of the interpreter)
            await asyncio.sleep(0.01)
        gc.collect()
        assert told == []

    asyncio.run(main())


def test_the_smallest_bounds_will_do() -> None:
    merged = follow_merged({"a": stream(*range(20)), "b": stream(*range(20))}, hold_back_s=0.0, buffer=1)
    assert sorted(shown(merged)) == sorted((name, ms) for ms in range(20) for name in ("a", "b"))


def test_a_closed_stream_has_no_events() -> None:
    merged: MergedFollower = follow_merged({"a": stream(1, 2)})
    merged.close()
    assert list(merged) == []

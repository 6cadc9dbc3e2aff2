"""Lanes of one run, filled by many at once: dense, in order, replayed from where a reader stood, and merged."""

import asyncio
import random
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from eventlog import Event, create_async_event_log, create_event_log
from eventlog.errors import NotFound
from eventlog.runs.lanes import merge_lanes, parallel_merge
from eventlog.runs.merge import AsyncMergedFollower, Followed, MergedFollower, afollow_merged, follow_merged
from tests.contract.colours import AsyncColour, Colour, Gaps, SyncColour
from tests.contract.lane_worker import EACH, LANES, RUN, WORKERS, fill
from tests.contract.worlds import RedisWorld, World
from tests.support.redis_process import eventually

ROOT = Path(__file__).parents[2]


def fill_from_threads(log: Colour, each: int) -> None:
    start = threading.Barrier(WORKERS)

    def work(number: int) -> None:
        start.wait(20)
        fill(log, f"w{number}", each)

    with ThreadPoolExecutor(WORKERS) as pool:
        list(pool.map(work, range(WORKERS)))


def fill_from_processes(world: RedisWorld) -> None:
    arguments = [sys.executable, "-m", "tests.contract.lane_worker", world.url, world.key_prefix]
    children = [
        subprocess.Popen([*arguments, f"w{n}"], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for n in range(WORKERS)
    ]
    try:
        for child in children:
            assert child.stdout is not None
            assert child.stdout.readline() == "ready\n"
        for child in children:
            assert child.stdin is not None
            child.stdin.write("go\n")
            child.stdin.flush()
        for child in children:
            child.communicate(timeout=60)
        assert [child.returncode for child in children] == [0] * WORKERS
    finally:
        for child in children:
            child.kill()
            child.communicate()


def by_lane(events: list[Event]) -> dict[str, list[Event]]:
    lanes: dict[str, list[Event]] = {lane: [] for lane in LANES}
    for event in events:
        lanes[str(event.lane_id)].append(event)
    return lanes


def check_filled(log: Colour, each: int) -> None:
    """Every lane is dense and in order, merges are identical, and a replay goes on exactly where a reader stood."""
    in_a_lane = each * WORKERS
    events = log.replay(RUN)
    assert [event.offset for event in events] == list(range(1, len(LANES) * in_a_lane + 1))
    lanes = by_lane(events)
    for lane, mine in lanes.items():
        assert [event.seq for event in mine] == list(range(1, in_a_lane + 1)), lane
        for worker in range(WORKERS):
            numbers = [event.payload["n"] for event in mine if event.source == f"w{worker}"]
            assert numbers == list(range(each)), (lane, worker)
    assert log.run(RUN).lanes == dict.fromkeys(LANES, in_a_lane)

    merged = parallel_merge(lanes)
    chance = random.Random(7)
    for _ in range(2):
        shuffled = {lane: chance.sample(lanes[lane], in_a_lane) for lane in chance.sample(LANES, len(LANES))}
        assert [event.to_json() for event in parallel_merge(shuffled)] == [event.to_json() for event in merged]
    assert list(merge_lanes(lanes)) == merged
    assert [(event.timestamp, event.lane_id, event.seq) for event in merged] == sorted(
        (event.timestamp, str(event.lane_id), event.seq or 0) for event in events
    )

    for seq in (0, 1, in_a_lane // 2, in_a_lane - 1, in_a_lane):
        assert log.replay(RUN, lane_id="lane-7", since_seq=seq) == lanes["lane-7"][seq:]
        assert log.replay(RUN, since_seq=seq) == [event for event in events if (event.seq or 0) > seq]
    assert log.verify().clean


def test_lanes_filled_by_threads_are_dense_in_order_and_merge_alike(world: World) -> None:
    log = world.open(max_entries=20_000)
    # Processes fill the real Redis in full, below.
    each = EACH if world.name == "memory" else 10
    fill_from_threads(log, each)
    check_filled(log, each)


def test_lanes_filled_by_processes_are_dense_in_order_and_merge_alike(redis_world: RedisWorld) -> None:
    log = redis_world.open(max_entries=20_000)
    fill_from_processes(redis_world)
    check_filled(log, EACH)


def test_a_reader_of_a_lane_goes_on_page_by_page_from_its_last_seq(log: Colour) -> None:
    log.append_many([{"kind": "a", "run_id": "r1", "lane_id": f"l{n % 3}"} for n in range(700)])
    seen: list[int] = []
    while True:
        page = log.replay("r1", lane_id="l1", since_seq=seen[-1] if seen else 0, limit=50)
        if not page:
            break
        seen += [event.seq or 0 for event in page]
        if len(seen) == 100:
            log.append_many([{"kind": "a", "run_id": "r1", "lane_id": f"l{n % 3}"} for n in range(30)])
    assert seen == list(range(1, 233 + 10 + 1))


def test_a_run_that_nobody_knows_has_no_replay_and_no_stages(log: Colour) -> None:
    for ask in (log.replay, log.stages, log.run):
        with pytest.raises(NotFound):
            ask("nobody")


class Merging:
    """A merge of followers in the colour of their log. Use it with `with`; `first` may be asked once."""

    def __init__(self, log: Colour, requests: dict[str, dict[str, Any]], hold_back_s: float = 0.1) -> None:
        self._log = log
        # A blocking follower begins where it is made, an asyncio one where it is iterated, unless it is told.
        self._followers = {name: _following(log, request) for name, request in requests.items()}
        self._merged = (follow_merged if isinstance(log, SyncColour) else afollow_merged)(
            self._followers, hold_back_s=hold_back_s
        )
        self.late = 0

    @property
    def cursors(self) -> dict[str, str]:
        return self._merged.cursors

    def first(self, count: int) -> list[Followed]:
        """The first `count` of the stream, or all of it."""
        if isinstance(self._merged, MergedFollower):
            with self._merged:
                out = [followed for _, followed in zip(range(count), self._merged, strict=False)]
        else:
            assert isinstance(self._log, AsyncColour)
            out = self._log.wait_for(_first(self._merged, count))
        self.late = self._merged.stats().late
        return out


def _following(log: Colour, request: dict[str, Any]) -> Any:
    assert isinstance(log, SyncColour | AsyncColour)
    return log.log.follow(**request)


async def _first(merged: AsyncMergedFollower, count: int) -> list[Followed]:
    out: list[Followed] = []
    async with merged:
        async for followed in merged:
            out.append(followed)
            if len(out) == count:
                break
    return out


def shown(followed: list[Followed]) -> list[tuple[str, int | None]]:
    return [(name, event.seq) for name, event in followed]


LONG_S = 60.0
"""Longer than any test: nothing is late, and what waits for silence waits for ever."""


def lanes_until_the_end(since: object = 0) -> dict[str, dict[str, Any]]:
    """Requests to follow three lanes of a run; each sees the event that ends the run."""
    return {f"l{n}": {"since": since, "run_id": "r1", "lane_id": f"l{n}", "until_terminal": True} for n in range(3)}


def by_time(events: list[Event]) -> list[tuple[str, Event]]:
    """What a merge of the lanes has to give of these events and the last of them, which every lane is given."""
    ended = [(lane, events[-1]) for lane in ("l0", "l1", "l2")]
    lanes = [(str(event.lane_id), event) for event in events[:-1]]
    return sorted(lanes + ended, key=lambda each: (each[1].timestamp, each[0], each[1].offset))


def test_followed_lanes_make_one_stream_in_the_order_of_the_log(log: Colour) -> None:
    events = log.append_many([{"kind": "a", "run_id": "r1", "lane_id": f"l{n % 3}"} for n in range(300)])
    events.append(log.append("run.finished", run_id="r1"))
    merging = Merging(log, lanes_until_the_end(), LONG_S)
    assert merging.first(1000) == by_time(events)
    assert merging.late == 0


def test_what_is_appended_later_is_merged_in_its_place(log: Colour) -> None:
    merging = Merging(log, lanes_until_the_end(), LONG_S)
    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(merging.first, 1000)
        events = [log.append("a", run_id="r1", lane_id=f"l{n % 3}") for n in range(90)]
        events.append(log.append("run.finished", run_id="r1"))
        assert reading.result(30) == by_time(events)
    assert merging.late == 0


def test_a_log_where_nothing_happens_holds_up_another_for_a_moment_only(log: Colour) -> None:
    merging = Merging(log, {"busy": {"since": 0, "run_id": "r1"}, "idle": {"since": 0, "run_id": "r2"}}, 0.05)
    events = [log.append("a", run_id="r1") for _ in range(10)]
    assert merging.first(10) == [("busy", event) for event in events]


def test_a_merge_may_be_resumed_behind_what_a_quiet_follower_passed_over(log: Colour) -> None:
    merging = Merging(log, {"busy": {"since": 0, "run_id": "r1"}, "quiet": {"since": 0, "run_id": "r2"}}, 0.05)
    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(merging.first, 11)
        last = log.append_many([{"kind": "a", "run_id": "r1"}] * 10 + [{"kind": "b"}] * 5)[-1]
        eventually(lambda: merging.cursors == {"busy": last.id, "quiet": last.id}, "both have passed all")
        log.append("a", run_id="r1")
        assert len(reading.result(30)) == 11


def test_a_merge_ends_when_all_that_it_follows_has_ended(log: Colour) -> None:
    log.append_many([{"kind": kind, "run_id": run} for kind in ("a", "run.finished") for run in ("r2", "r1")])
    log.append("a", run_id="r1")
    runs = {run: {"since": 0, "run_id": run, "until_terminal": True} for run in ("r1", "r2")}
    # At the same time: by name.
    assert shown(Merging(log, runs, LONG_S).first(10)) == [("r1", 1), ("r1", 2), ("r2", 1), ("r2", 2)]


def test_what_a_merged_follower_missed_is_told_by_it(world: World) -> None:
    log = world.open(max_entries=100)
    log.append_many([{"kind": "a", "run_id": "r1"}] * 350)
    gaps = Gaps()
    # Redis keeps up to a node more than it has to; what is shown is exact.
    first = log.page(0).events[0].offset
    followers: dict[str, dict[str, Any]] = {"all": {"since": 0, "on_gap": gaps}, "rest": {"since": 340}}
    out = Merging(log, followers).first(351 - first + 10)
    assert [event.offset for name, event in out if name == "all"] == list(range(first, 351))
    assert [event.offset for name, event in out if name == "rest"] == list(range(341, 351))
    assert [(gap.missed, gap.reason) for gap in gaps] == [(first - 1, "trimmed")]


def test_logs_of_several_workspaces_make_one_stream(redis_world: RedisWorld) -> None:
    options: dict[str, Any] = {"url": redis_world.url, "key_prefix": redis_world.key_prefix}
    with ExitStack() as stack:
        logs = {
            name: stack.enter_context(create_event_log("redis", workspace=name, **options)) for name in ("w1", "w2")
        }
        events = [(name, logs[name].append("a", {"n": n})) for n in range(50) for name in ("w2", "w1")]
        if redis_world.colour == "sync":
            with follow_merged({name: log.follow(0) for name, log in logs.items()}) as merged:
                out = [followed for _, followed in zip(events, merged, strict=False)]
        else:
            out = asyncio.run(_both(options, len(events)))
    assert out == sorted(events, key=lambda each: (each[1].timestamp, each[0], each[1].offset))


async def _both(options: dict[str, Any], count: int) -> list[Followed]:
    async with (
        create_async_event_log("redis", workspace="w1", **options) as one,
        create_async_event_log("redis", workspace="w2", **options) as other,
    ):
        return await _first(afollow_merged({"w1": one.follow(0), "w2": other.follow(0)}), count)

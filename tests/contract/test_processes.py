"""Many callers at once: threads, tasks, processes that fork."""

import json
import os
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from itertools import chain

from eventlog import create_event_log
from tests.contract.colours import Colour
from tests.contract.worlds import RedisWorld, World

THREADS, EACH = 8, 200


def test_appends_of_many_threads_are_dense_and_each_threads_are_in_order(log: Colour) -> None:
    start = threading.Barrier(THREADS)

    def work(number: int) -> list[int]:
        start.wait(20)
        return [log.append("a", {"n": n}, run_id=f"r{number % 3}", lane_id=f"t{number}").offset for n in range(EACH)]

    with ThreadPoolExecutor(THREADS) as pool:
        offsets = list(pool.map(work, range(THREADS)))
    assert sorted(chain(*offsets)) == list(range(1, THREADS * EACH + 1))
    assert all(mine == sorted(mine) for mine in offsets)
    events = log.query()
    assert len(events) == THREADS * EACH
    for number in range(THREADS):
        mine = [event for event in events if event.lane_id == f"t{number}"]
        assert [event.seq for event in mine] == list(range(1, EACH + 1))
        assert [event.payload["n"] for event in mine] == list(range(EACH))
    assert log.verify().clean


def test_threads_that_append_read_and_clear_disturb_nobody(world: World) -> None:
    log = world.open(max_entries=50)

    def work(number: int) -> int:
        for n in range(30):
            log.append_many([{"kind": "a", "run_id": f"r{number}"}] * 3)
            page = log.page(0, limit=20)
            assert (
                [e.offset for e in page.events]
                == list(range(page.events[0].offset, page.events[0].offset + len(page.events)))
                if page.events
                else True
            )
            if n % 10 == number:
                log.clear()
        return 90

    with ThreadPoolExecutor(4) as pool:
        total = sum(pool.map(work, range(4)))
    assert log.info().last_offset == total
    assert log.verify().clean


def test_one_key_used_by_many_threads_appends_once(log: Colour) -> None:
    start = threading.Barrier(THREADS)

    def work(_: int) -> tuple[str, bool]:
        start.wait(20)
        event = log.append("a", idempotency_key="k")
        return event.id, event.duplicate

    with ThreadPoolExecutor(THREADS) as pool:
        answers = Counter(pool.map(work, range(THREADS)))
    assert len({event_id for event_id, _ in answers}) == 1
    assert sorted(answers.values()) == [1, THREADS - 1]
    assert len(log.query()) == 1


def test_one_expected_offset_lets_one_of_many_threads_through(log: Colour) -> None:
    start = threading.Barrier(THREADS)

    def work(number: int) -> str:
        start.wait(20)
        try:
            return str(log.append("a", {"n": number}, expected_offset=0).offset)
        except Exception as error:
            return type(error).__name__

    with ThreadPoolExecutor(THREADS) as pool:
        answers = Counter(pool.map(work, range(THREADS)))
    assert answers == {"1": 1, "Conflict": THREADS - 1}


def test_a_forked_child_goes_on_with_the_same_log_object(redis_world: RedisWorld) -> None:
    log = create_event_log("redis", url=redis_world.url, workspace="w", key_prefix=redis_world.key_prefix)
    log.append("before", {"by": "parent"})
    children = []
    for number in range(3):
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                for n in range(50):
                    log.append("child", {"by": number, "n": n}, run_id=f"r{number}")
                assert len(log.query(run_id=f"r{number}")) == 50
                status = 0
            finally:
                os._exit(status)
        children.append(pid)
    for n in range(50):
        log.append("parent", {"by": "parent", "n": n})
    assert [os.waitpid(pid, 0)[1] for pid in children] == [0, 0, 0]
    events = log.query()
    assert [event.offset for event in events] == list(range(1, 202))
    assert len({json.dumps(event.payload) for event in events}) == 201
    assert log.verify().clean
    log.close()


def test_a_fork_during_appends_of_other_threads_leaves_the_child_a_working_log(redis_world: RedisWorld) -> None:
    log = create_event_log("redis", url=redis_world.url, workspace="w", key_prefix=redis_world.key_prefix)
    stop = threading.Event()
    counts = [0, 0]

    def work(number: int) -> None:
        while not stop.is_set():
            log.append("thread", {"by": number, "n": counts[number]})
            counts[number] += 1

    threads = [threading.Thread(target=work, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    statuses = []
    for number in range(5):
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                for n in range(10):
                    log.append("child", {"by": f"child {number}", "n": n})
                status = 0
            finally:
                os._exit(status)
        statuses.append(os.waitpid(pid, 0)[1])
    stop.set()
    for thread in threads:
        thread.join(20)
    assert statuses == [0] * 5
    events = log.query()
    assert len(events) == sum(counts) + 50
    assert len({json.dumps(event.payload) for event in events}) == len(events)
    assert [event.offset for event in events] == list(range(events[0].offset, events[0].offset + len(events)))
    log.close()

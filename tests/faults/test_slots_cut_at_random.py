"""Threads and tasks share slots while connections are cut at random, Redis restarts or hangs: all have their turn."""

import asyncio
import os
import random
import threading
import time
from collections.abc import Callable

import pytest

from eventlog.errors import EventLogError
from eventlog.factory import create_async_slot_queue
from eventlog.slots.awaited import AsyncSlotQueue
from tests.faults.opening import open_log
from tests.faults.proxy import CUTS, ChaosProxy, Fault
from tests.faults.slot_chaos import fold
from tests.faults.slot_workers import open_slots
from tests.support.redis_process import RedisProcess, eventually

pytestmark = pytest.mark.chaos

LIMIT, CLIENTS, EACH = 3, 12, 60
LEASE_S = 3.0


class Witness:
    """Counts who is inside at once, of those whose slot is good."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self.most = 0
        self.fences: list[int] = []

    def enters(self, fence: int) -> None:
        with self._lock:
            self.fences.append(fence)
            self._inside += 1
            self.most = max(self.most, self._inside)

    def leaves(self) -> None:
        with self._lock:
            self._inside -= 1


def seeded() -> int:
    seed = int(os.environ.get("EVENTLOG_TEST_SEED", random.randrange(2**32)))
    print(f"EVENTLOG_TEST_SEED={seed}")
    return seed


def work_in_threads(url: str, witness: Witness) -> list[EventLogError]:
    failures: list[EventLogError] = []
    with open_slots(url, deadline_s=20.0) as slots:

        def work(name: str) -> None:
            try:
                for n in range(EACH):
                    with slots.acquire("build", f"{name}.{n}", max_concurrent=LIMIT, lease_s=LEASE_S) as slot:
                        witness.enters(slot.fencing_token)
                        time.sleep(0.002)
                        witness.leaves()
            except EventLogError as error:
                failures.append(error)

        threads = [threading.Thread(target=work, args=(f"t{n}",)) for n in range(CLIENTS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    return failures


async def tasks_of(slots: AsyncSlotQueue, witness: Witness) -> None:
    async def work(name: str) -> None:
        for n in range(EACH):
            async with slots.acquire("build", f"{name}.{n}", max_concurrent=LIMIT, lease_s=LEASE_S) as slot:
                witness.enters(slot.fencing_token)
                await asyncio.sleep(0.002)
                witness.leaves()

    async with asyncio.TaskGroup() as group:
        for n in range(CLIENTS):
            group.create_task(work(f"t{n}"))


def work_in_tasks(url: str, witness: Witness) -> list[EventLogError]:
    async def scenario() -> None:
        async with create_async_slot_queue(
            "redis", url=url, workspace="w1", deadline_seconds=20.0, max_entries=1_000_000
        ) as slots:
            await tasks_of(slots, witness)

    try:
        asyncio.run(scenario())
    except ExceptionGroup as group:
        return [error for error in group.exceptions if isinstance(error, EventLogError)]
    return []


Work = Callable[[str, Witness], list[EventLogError]]
EACH_COLOUR = pytest.mark.parametrize("work", [work_in_threads, work_in_tasks], ids=["threads", "tasks"])


def hold_to_account(server: RedisProcess, witness: Witness, failures: list[EventLogError]) -> None:
    assert not failures
    assert witness.most <= LIMIT
    assert len(witness.fences) == len(set(witness.fences)) == CLIENTS * EACH
    with open_slots(server.url) as slots:

        def nothing_is_left() -> bool:
            slots.set_limit("build", None)  # looks at the queue, so that what has expired goes
            slots.set_limit("build", LIMIT)
            stats = slots.stats("build")
            return (stats.active_count, stats.queue_length) == (0, 0)

        eventually(nothing_is_left, "nothing is left", patience_s=2 * LEASE_S)
    with open_log(server.url) as log:
        assert log.verify().clean
        grants, overtakes = fold(log.query(since=0), LIMIT)
    assert grants == sorted(set(grants))
    assert overtakes == 0
    assert set(witness.fences) <= set(grants)


@EACH_COLOUR
def test_connections_cut_at_random_cost_nobody_a_turn(own_server: RedisProcess, proxy: ChaosProxy, work: Work) -> None:
    proxy.strike_at_random(seeded(), 0.05, *CUTS, Fault.DELAYED)
    witness = Witness()
    failures = work(proxy.url, witness)
    proxy.calm()
    assert sum(proxy.struck[fault] for fault in CUTS) > 5
    hold_to_account(own_server, witness, failures)


@EACH_COLOUR
def test_a_redis_restarted_with_its_data_costs_nobody_a_turn(work: Work) -> None:
    witness = Witness()
    with RedisProcess(appendfsync="always") as server:
        done = threading.Event()

        def restart() -> None:
            while not done.wait(0.3):
                server.kill()
                server.start()

        restarts = threading.Thread(target=restart)
        restarts.start()
        try:
            failures = work(server.url, witness)
        finally:
            done.set()
            restarts.join()
        hold_to_account(server, witness, failures)


@EACH_COLOUR
def test_a_redis_that_hangs_now_and_then_costs_nobody_a_turn(own_server: RedisProcess, work: Work) -> None:
    witness = Witness()
    chosen = random.Random(seeded())
    done = threading.Event()

    def hang() -> None:
        while not done.wait(0.2):
            own_server.pause()
            done.wait(chosen.uniform(0.05, 0.6))
            own_server.resume()

    hangs = threading.Thread(target=hang)
    hangs.start()
    try:
        failures = work(own_server.url, witness)
    finally:
        done.set()
        hangs.join()
    hold_to_account(own_server, witness, failures)


@pytest.mark.parametrize("keeps", [True, False], ids=["with its data", "empty"])
def test_tasks_that_hold_and_wait_go_on_over_a_restart(keeps: bool) -> None:
    async def scenario(server: RedisProcess) -> None:
        order: list[str] = []
        async with create_async_slot_queue("redis", url=server.url, workspace="w1") as slots:
            held = await slots.acquire("build", "holder", max_concurrent=1, lease_s=2.0)

            async def wait(name: str) -> None:
                async with slots.acquire("build", name, max_concurrent=1, lease_s=2.0) as slot:
                    order.append(name)
                    assert slot.fencing_token > held.fencing_token
                    assert not held.valid

            tasks = []
            for n in range(20):
                tasks.append(asyncio.create_task(wait(f"w{n:02}")))
                await waiting(slots, n + 1)
            await asyncio.to_thread(server.restart)
            await waiting(slots, 20)
            async with asyncio.timeout(10):
                while (await slots.stats("build")).active_count == 0:  # noqa: ASYNC110 - Redis' state is awaited
                    await asyncio.sleep(0.01)
            assert held.valid
            assert order == []
            await held.release()
            async with asyncio.timeout(20):
                await asyncio.gather(*tasks)
            assert order == [f"w{n:02}" for n in range(20)]
            stats = await slots.stats("build")
            assert (stats.active_count, stats.queue_length) == (0, 0)

    with RedisProcess(appendonly=keeps) as server:
        asyncio.run(scenario(server))


async def waiting(slots: AsyncSlotQueue, count: int) -> None:
    """Until so many wait."""
    async with asyncio.timeout(20):
        while (await slots.stats("build")).queue_length != count:  # noqa: ASYNC110 - Redis' state is awaited
            await asyncio.sleep(0.005)

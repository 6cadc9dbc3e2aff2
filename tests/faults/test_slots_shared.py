"""Many who compete: threads, forked children, processes and tasks; in order, within the limit, nothing left over."""

import asyncio
import os
import threading
import time
from contextlib import ExitStack

import pytest

from eventlog.factory import create_async_slot_queue
from eventlog.slots.blocking import Slot
from tests.faults.opening import open_log
from tests.faults.slot_workers import SlotWorker, open_slots
from tests.faults.test_processes_forked import in_forks
from tests.faults.test_slots_cut_at_random import waiting
from tests.faults.test_slots_killed import line_is, line_up
from tests.faults.test_slots_redis_away import most_at_once
from tests.support.redis_process import RedisProcess, eventually


def test_fifty_threads_share_three_slots(own_server: RedisProcess) -> None:
    inside: list[str] = []
    seen: list[int] = []
    fences: list[int] = []

    with open_slots(own_server.url) as slots:

        def work(name: str) -> None:
            for n in range(4):
                with slots.acquire("build", f"{name}.{n}", max_concurrent=3) as slot:
                    inside.append(name)
                    seen.append(len(inside))
                    fences.append(slot.fencing_token)
                    inside.remove(name)

        threads = [threading.Thread(target=work, args=(f"t{n}",)) for n in range(50)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        stats = slots.stats("build")
    assert max(seen) <= 3
    assert len(set(fences)) == 200
    assert (stats.total_enqueued, stats.total_completed, stats.total_expired) == (200, 200, 0)
    assert (stats.active_count, stats.queue_length) == (0, 0)


def test_a_notice_that_takes_its_time_keeps_no_other_slot_from_being_renewed(own_server: RedisProcess) -> None:
    told, go_on = threading.Event(), threading.Event()

    def take_time(slot: Slot) -> None:
        told.set()
        assert go_on.wait(20)

    with open_slots(own_server.url) as slots:
        slots.acquire("build", "lost", lease_s=1.0, on_lost=take_time)
        kept = slots.acquire("other", "kept", lease_s=1.0)
        assert slots.clear("build") == (1, 0)
        assert told.wait(10)
        until = time.monotonic() + 3.0
        eventually(lambda: kept.lost or time.monotonic() > until, "three leases pass")
        assert kept.valid
        go_on.set()
        assert kept.release()


def test_three_processes_at_limit_one_run_in_the_order_in_which_they_queued(own_server: RedisProcess) -> None:
    with ExitStack() as stack:
        slots = stack.enter_context(open_slots(own_server.url))
        gate = slots.acquire("build", "gate", max_concurrent=1)
        names = ["e0", "e1", "e2"]
        workers = line_up(stack, slots, own_server.url, *names, lease_s=30.0, hold_s=0.1)
        with slots.acquire("deploy", "independent", max_concurrent=1, timeout_s=1):
            assert line_is(slots, *names), "another action is not touched"
        with slots.acquire("build", "independent", max_concurrent=1, timeout_s=1, group_key="g"):
            assert line_is(slots, *names), "nor another group"
        gate.release()
        for worker in workers:
            worker.finish()
        grants = [next(iter(worker.of("granted"))) for worker in workers]
        assert grants == sorted(grants), "times and tokens rise in the order of the line"
        stats = slots.stats("build")
        assert (stats.total_enqueued, stats.total_completed, stats.queue_length) == (4, 4, 0)


def test_eight_processes_never_hold_more_than_the_limit(own_server: RedisProcess) -> None:
    with ExitStack() as stack:
        slots = stack.enter_context(open_slots(own_server.url))
        given = {"style": "often", "count": 40, "limit": 3, "hold_s": 0.002}
        workers = [stack.enter_context(SlotWorker(own_server.url, f"w{n}", 30.0, **given)) for n in range(8)]
        for worker in workers:
            worker.finish()
        stays = [stay for worker in workers for stay in worker.of("held")]
        assert len({fence for fence, *_ in stays}) == len(stays) == 320
        assert most_at_once(stays) <= 3
        stats = slots.stats("build")
        assert (stats.total_completed, stats.total_expired, stats.active_count) == (320, 0, 0)


def test_a_forked_child_neither_renews_nor_releases_what_its_parent_holds(own_server: RedisProcess) -> None:
    with open_slots(own_server.url) as slots:
        slot = slots.acquire("build", "parent", max_concurrent=1, lease_s=1.0)

        def child(n: int) -> None:
            assert slot.release() is False
            with slots.acquire("other", f"child{n}", max_concurrent=1):
                assert slots.try_acquire("build", f"child{n}") is None

        in_forks(3, child)
        slot.renew()
        assert [who.execution_id for who in slots.stats("build").holders] == ["parent"]
        eventually(lambda: slot.renew_at > slot.valid_until - 1.0, "it is renewed on")
        assert slot.release()


def test_a_child_forked_within_the_block_leaves_it_without_taking_the_slot_along(own_server: RedisProcess) -> None:
    with open_slots(own_server.url) as slots, slots.acquire("build", "parent", max_concurrent=1) as slot:
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                with slot:
                    pass
                status = 0
            finally:
                os._exit(status)
        assert os.waitpid(pid, 0)[1] == 0
        slot.renew()


def test_a_process_that_forks_while_others_of_its_threads_wait_goes_on_and_its_child_can_wait_too(
    own_server: RedisProcess,
) -> None:
    got: list[Slot] = []
    with open_slots(own_server.url) as slots:
        slot = slots.acquire("build", "holder", max_concurrent=1)
        thread = threading.Thread(target=lambda: got.append(slots.acquire("build", "thread")))
        thread.start()
        eventually(lambda: line_is(slots, "thread"), "a thread waits")

        def child(_: int) -> None:
            with slots.acquire("build", "child"):
                pass

        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                child(0)
                status = 0
            finally:
                os._exit(status)
        eventually(lambda: line_is(slots, "thread", "child"), "the child waits behind it")
        assert slot.release()
        thread.join(10)
        assert got[0].release()
        assert os.waitpid(pid, 0)[1] == 0
        eventually(lambda: slots.stats("build").active_count == 0, "all is given back")


def inversions(order: list[str]) -> int:
    numbers = [int(name) for name in order]
    return sum(a > b for i, a in enumerate(numbers) for b in numbers[i + 1 :])


@pytest.mark.timeout(120)
def test_a_thousand_enqueued_drain_at_limit_ten_without_an_inversion(own_server: RedisProcess) -> None:
    async def scenario() -> float:
        order: list[str] = []
        async with create_async_slot_queue("redis", url=own_server.url, workspace="w1", max_entries=100_000) as slots:

            async def work(n: int) -> None:
                async with slots.acquire("build", str(n), max_concurrent=10) as slot:
                    order.append(str(n))
                    assert slot.valid

            gate = [await slots.acquire("build", f"gate{n}", max_concurrent=10) for n in range(10)]
            tasks = [asyncio.create_task(work(n)) for n in range(1000)]
            await waiting(slots, 1000)
            began = time.perf_counter()
            for slot in gate:
                await slot.release()
            await asyncio.gather(*tasks)
            took_s = time.perf_counter() - began
            stats = await slots.stats("build")
            assert (stats.total_enqueued, stats.total_completed, stats.total_expired) == (1010, 1010, 0)
            assert (stats.active_count, stats.queue_length) == (0, 0)
            assert len(order) == 1000
            return took_s

    took_s = asyncio.run(scenario())
    print(f"1000 drained at limit 10 in {took_s:.3f} s")
    with open_log(own_server.url) as log:
        granted = [e.payload["execution_id"] for e in log.query(since=0, kind="slot.granted")]
    assert inversions([who for who in granted if who.isdigit()]) == 0
    assert took_s < 5


def test_a_thousand_unattended_places_drain_in_order(own_server: RedisProcess) -> None:
    with open_slots(own_server.url) as slots:
        for n in range(1000):
            slots.enqueue("build", str(n), max_concurrent=10, lease_s=60)
        began = time.perf_counter()
        for n in range(1000):
            assert slots.release("build", str(n)), f"{n} holds when it is its turn"
        print(f"1000 enqueued drained in {time.perf_counter() - began:.3f} s")
    with open_log(own_server.url) as log:
        granted = [e.payload["execution_id"] for e in log.query(since=0, kind="slot.granted")]
    assert granted == [str(n) for n in range(1000)]


def test_a_task_cancelled_while_it_waits_or_holds_leaves_nothing_behind(own_server: RedisProcess) -> None:
    async def scenario() -> None:
        async with create_async_slot_queue("redis", url=own_server.url, workspace="w1") as slots:
            entered = asyncio.Event()

            async def hold(name: str) -> None:
                async with slots.acquire("build", name, max_concurrent=1, lease_s=60):
                    entered.set()
                    await asyncio.sleep(60)

            holder = asyncio.create_task(hold("holder"))
            await entered.wait()
            waiters = [asyncio.create_task(hold(f"w{n}")) for n in range(20)]
            await waiting(slots, 20)
            for waiter in waiters[:19]:
                waiter.cancel()
            entered.clear()
            holder.cancel()
            await asyncio.gather(holder, *waiters[:19], return_exceptions=True)
            async with asyncio.timeout(5):
                await entered.wait()
            waiters[19].cancel()
            await asyncio.gather(waiters[19], return_exceptions=True)
            stats = await slots.stats("build")
            assert (stats.active_count, stats.queue_length, stats.total_expired) == (0, 0, 0)

    asyncio.run(scenario())


@pytest.mark.parametrize("after_steps", range(0, 40, 2))
def test_a_task_cancelled_at_any_step_of_acquiring_leaves_nothing_behind(
    own_server: RedisProcess, after_steps: int
) -> None:
    async def scenario() -> None:
        async with create_async_slot_queue("redis", url=own_server.url, workspace="w1") as slots:
            await slots.stats("build")

            async def use() -> None:
                async with slots.acquire("build", "cancelled", max_concurrent=1, lease_s=60):
                    await asyncio.sleep(0)

            task = asyncio.create_task(use())
            for _ in range(after_steps):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            async with asyncio.timeout(2):
                async with slots.acquire("build", "next", max_concurrent=1):
                    pass

    asyncio.run(scenario())

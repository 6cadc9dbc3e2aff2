"""Redis restarted, emptied, hanging, refusing or full under slots that are held and waited for."""

import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

from eventlog.errors import BackendFull, BackendUnavailable, LeaseLost
from eventlog.slots import waiting
from eventlog.slots.blocking import SlotQueue
from eventlog.slots.request import moment
from tests.faults.slot_workers import SlotWorker, open_slots
from tests.faults.test_server_crashes import EACH_BINARY
from tests.faults.test_slots_frozen import holder_is
from tests.faults.test_slots_killed import line_is, line_up
from tests.support.redis_process import Binary, RedisProcess, eventually

NAMES = ("w0", "w1", "w2")


@contextmanager
def ends_within(most_s: float) -> Iterator[None]:
    began = time.monotonic()
    yield
    assert time.monotonic() - began < most_s


def serve(slots: SlotQueue, workers: list[SlotWorker]) -> list[int]:
    """Hand the slot from each to the next, in the order in which they waited; returns their tokens."""
    fences = []
    for worker in workers:
        fences.append(worker.granted()[1])
        name = worker.given["execution_id"]
        eventually(lambda name=name: holder_is(slots, name), f"{name} alone holds")
        assert slots.release("build", name, fencing_token=fences[-1])
    return fences


@pytest.mark.parametrize("how", ["restarted", "killed"])
@EACH_BINARY
def test_a_redis_that_comes_back_with_its_data_costs_no_slot_and_no_place(binary: Binary, how: str) -> None:
    with ExitStack() as stack:
        server = stack.enter_context(RedisProcess(binary=binary, appendfsync="always"))
        slots = stack.enter_context(open_slots(server.url))
        slot = slots.acquire("build", "holder", max_concurrent=1, lease_s=20.0)
        workers = line_up(stack, slots, server.url, *NAMES, lease_s=30.0)
        for _ in range(3):
            (server.restart if how == "restarted" else lambda: (server.kill(), server.start()))()
            eventually(lambda: line_is(slots, *NAMES), "all wait in their order")
            slot.renew()
            assert holder_is(slots, "holder")
        assert slot.valid
        assert slot.release()
        fences = serve(slots, workers)
        assert fences == sorted({slot.fencing_token, *fences})[1:]
        assert slots.stats("build").total_expired == 0


@EACH_BINARY
def test_a_redis_that_comes_back_empty_is_told_who_holds_and_who_waits(binary: Binary) -> None:
    with ExitStack() as stack:
        server = stack.enter_context(RedisProcess(binary=binary, appendonly=False))
        slots = stack.enter_context(open_slots(server.url))
        held = [slots.acquire("build", f"h{n}", max_concurrent=2, lease_s=6.0) for n in range(2)]
        workers = line_up(stack, slots, server.url, *NAMES, lease_s=6.0, limit=2)
        server.kill()
        server.start()
        eventually(lambda: slots.stats("build").active_count == 2, "the holders are back")
        eventually(lambda: line_is(slots, *NAMES), "the line is back in its order")
        assert all(slot.valid for slot in held)
        assert {who.fencing_token for who in slots.stats("build").holders} == {slot.fencing_token for slot in held}
        fences = [slot.fencing_token for slot in held]
        for slot, worker in zip(held, workers, strict=False):
            assert slot.release()
            fences.append(worker.granted()[1])
            assert slots.stats("build").active_count <= 2
        assert fences == sorted(set(fences))
        assert all(not any(line[0] in ("lost", "notice") for line in worker.lines) for worker in workers)


def test_a_holder_that_died_with_the_data_does_not_keep_the_line_for_longer_than_a_lease() -> None:
    lease_s = 2.0
    with ExitStack() as stack:
        server = stack.enter_context(RedisProcess(appendonly=False))
        slots = stack.enter_context(open_slots(server.url))
        holder = stack.enter_context(SlotWorker(server.url, "holder", lease_s))
        holder.granted()
        workers = line_up(stack, slots, server.url, *NAMES, lease_s=lease_s)
        holder.kill()
        server.kill()
        server.start()
        began = time.monotonic()
        granted_at, _ = workers[0].granted()
        print(f"emptied, holder dead: next after {granted_at - began:.3f} s, lease {lease_s} s")
        assert granted_at - began < lease_s + 10  # without the data nothing else would end it


@pytest.mark.chaos
def test_scripts_flushed_all_the_time_are_loaded_again(own_server: RedisProcess) -> None:
    with ExitStack() as stack:
        slots = stack.enter_context(open_slots(own_server.url))
        workers = [
            stack.enter_context(SlotWorker(own_server.url, f"w{n}", style="often", count=60, limit=2, lease_s=30.0))
            for n in range(4)
        ]
        redis = stack.enter_context(own_server.client())
        while any(worker.process.poll() is None for worker in workers):
            redis.script_flush()
        for worker in workers:
            worker.finish()
        stays = sorted(stay for worker in workers for stay in worker.of("held"))
        assert len({fence for fence, *_ in stays}) == len(stays) == 240
        assert most_at_once(stays) == 2
        stats = slots.stats("build")
        assert (stats.total_enqueued, stats.total_completed, stats.total_expired) == (240, 240, 0)


def most_at_once(stays: list[list[float]]) -> int:
    """How many stays, `[fence, since, until, …]`, overlap at the most."""
    edges = sorted([(since, 1) for _, since, *_ in stays] + [(until, -1) for _, _, until, *_ in stays])
    now = most = 0
    for _, change in edges:
        now += change
        most = max(most, now)
    return most


def test_a_redis_that_hangs_for_less_than_a_lease_is_not_noticed(own_server: RedisProcess) -> None:
    with ExitStack() as stack:
        slots = stack.enter_context(open_slots(own_server.url))
        slot = slots.acquire("build", "holder", max_concurrent=1, lease_s=20.0)
        workers = line_up(stack, slots, own_server.url, *NAMES, lease_s=30.0)
        fence = slot.fencing_token
        for pause_s in (0.3, 1.0, 2.5):
            own_server.pause()
            resume = threading.Timer(pause_s, own_server.resume)
            resume.start()
            resume.join()
            slot.renew()
            assert slot.valid
            assert slot.fencing_token == fence
        eventually(lambda: line_is(slots, *NAMES), "all wait in their order")
        assert slot.release()
        serve(slots, workers)


def test_a_redis_that_hangs_past_the_lease_costs_the_slot_and_the_holder_is_told_in_time(
    own_server: RedisProcess,
) -> None:
    lease_s, told = 1.0, threading.Event()
    with ExitStack() as stack:
        slots = stack.enter_context(open_slots(own_server.url))
        slot = slots.acquire("build", "holder", max_concurrent=1, lease_s=lease_s, on_lost=lambda slot: told.set())
        workers = line_up(stack, slots, own_server.url, *NAMES, lease_s=30.0)
        own_server.pause()
        began, paused_at = time.monotonic(), moment()
        assert slot.valid_until < paused_at + lease_s
        eventually(lambda: slot.lost, "the slot is lost")
        assert told.wait(5)
        print(f"hanging: notice after {time.monotonic() - began:.3f} s, lease {lease_s} s")
        own_server.resume()
        with pytest.raises(LeaseLost):
            slot.raise_if_lost()
        fences = serve(slots, workers)
        assert fences == sorted({slot.fencing_token, *fences})[1:]


def test_calls_to_a_redis_that_is_not_there_end_by_their_deadline(own_server: RedisProcess) -> None:
    with open_slots(own_server.url, deadline_s=0.6) as slots:
        slot = slots.acquire("build", "holder", max_concurrent=1, lease_s=30.0)
        own_server.stop()
        for call in (
            lambda: slots.acquire("build", "e"),
            lambda: slots.try_acquire("build", "e"),
            lambda: slots.enqueue("build", "e"),
            lambda: slots.state("build", "e"),
            lambda: slots.renew("build", "e"),
            lambda: slots.release("build", "e"),
            lambda: slots.cancel("build", "e"),
            lambda: slots.stats("build"),
            lambda: slots.queues(),
            lambda: slots.set_limit("build", 2),
            lambda: slots.clear("build"),
            lambda: slots.policies(),
            slot.renew,
        ):
            with ends_within(0.6 + waiting.HEARTBEAT_S + 1.5), pytest.raises(BackendUnavailable):
                call()
        own_server.start()
        slot.renew()
        assert slot.valid
        stats = slots.stats("build")
        assert (stats.active_count, stats.queue_length, stats.max_concurrent) == (1, 0, 1)


def test_a_slot_released_while_redis_is_away_is_given_back_once_it_is_there(own_server: RedisProcess) -> None:
    with open_slots(own_server.url, deadline_s=0.5) as slots:
        slot = slots.acquire("build", "holder", max_concurrent=1, lease_s=60.0)
        own_server.stop()
        with pytest.raises(BackendUnavailable):
            slot.release()
        own_server.start()
        eventually(lambda: slots.stats("build").active_count == 0, "it is given back", patience_s=5)
        assert slots.stats("build").total_completed == 1


def test_a_waiter_bears_with_a_redis_that_is_away_and_then_says_so(
    own_server: RedisProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiting, "PATIENCE_S", 1.5)
    failures: list[BackendUnavailable] = []
    with open_slots(own_server.url, deadline_s=0.5) as slots:
        slot = slots.acquire("build", "holder", max_concurrent=1, lease_s=60.0)

        def wait() -> None:
            try:
                slots.acquire("build", "waiter")
            except BackendUnavailable as error:
                failures.append(error)

        thread = threading.Thread(target=wait)
        thread.start()
        eventually(lambda: line_is(slots, "waiter"), "it waits")
        own_server.stop()
        with ends_within(1.5 + 0.5 + 1.0 + 1.0):
            thread.join()
        assert len(failures) == 1
        own_server.start()
        eventually(lambda: line_is(slots), "it has left the line", patience_s=5)
        slot.renew()


@contextmanager
def without_memory(server: RedisProcess) -> Iterator[None]:
    with server.client() as redis:
        redis.config_set("maxmemory", 1)
        try:
            yield
        finally:
            redis.config_set("maxmemory", 0)


@EACH_BINARY
def test_a_redis_without_memory_takes_slots_back_and_refuses_new_ones_clearly(binary: Binary) -> None:
    with RedisProcess("--maxmemory-policy", "noeviction", binary=binary) as server, open_slots(server.url) as slots:
        slot = slots.acquire("build", "holder", max_concurrent=1, lease_s=30.0)
        assert slots.enqueue("build", "next").position == 1
        with without_memory(server):
            with ends_within(2.0), pytest.raises(BackendFull) as caught:
                slots.acquire("build", "new")
            assert not caught.value.outcome_unknown
            with pytest.raises(BackendFull):
                slots.enqueue("build", "new")
            assert slots.stats("build").queue_length == 1
            assert slot.release()
            assert holder_is(slots, "next")
            assert slots.release("build", "next")
            assert slots.stats("build").active_count == 0
        with slots.acquire("build", "after"):
            assert slots.stats("build").queue_length == 0


@EACH_BINARY
def test_who_holds_or_waits_when_the_memory_ends_keeps_its_slot_and_its_place(binary: Binary) -> None:
    with RedisProcess("--maxmemory-policy", "noeviction", binary=binary) as server, ExitStack() as stack:
        slots = stack.enter_context(open_slots(server.url))
        slot = slots.acquire("build", "holder", max_concurrent=1, lease_s=2.0)
        (waiter,) = line_up(stack, slots, server.url, "waiter", lease_s=2.0)
        with without_memory(server):
            until = time.monotonic() + 4.0
            eventually(lambda: slot.lost or time.monotonic() > until, "two leases pass")
            assert slot.valid, "leases are renewed"
            assert line_is(slots, "waiter"), "waiters are heard"
            assert slot.release()
            granted_at, _ = waiter.granted()
            eventually(lambda: time.monotonic() > granted_at + 4.0, "two leases pass")
            assert not any(line[0] == "lost" for line in waiter.lines), "what was handed on is kept"
        assert holder_is(slots, "waiter")

"""Processes that end without a word, holding or waiting: the next in line goes on in bounded time."""

import signal
import time
from contextlib import ExitStack
from typing import Any

import pytest

from eventlog.slots.blocking import SlotQueue
from tests.faults.slot_workers import SlotWorker, open_slots
from tests.support.redis_process import RedisProcess, eventually

LEASE_S = 1.0


def line_is(slots: SlotQueue, *executions: str) -> bool:
    return tuple(waiter.execution_id for waiter in slots.stats("build").waiters) == executions


def line_up(
    stack: ExitStack, slots: SlotQueue, url: str, *names: str, lease_s: float = LEASE_S, **given: Any
) -> list[SlotWorker]:
    """Processes that wait, in this order, behind whoever waits already."""
    waiting = [waiter.execution_id for waiter in slots.stats("build").waiters]
    workers = []
    for name in names:
        workers.append(stack.enter_context(SlotWorker(url, name, lease_s, **given)))
        waiting.append(name)
        eventually(lambda: line_is(slots, *waiting), f"{waiting} wait")
    return workers


def test_after_a_killed_holder_the_next_has_the_slot_within_its_lease(own_server: RedisProcess) -> None:
    with ExitStack() as stack:
        slots = stack.enter_context(open_slots(own_server.url))
        holder = stack.enter_context(SlotWorker(own_server.url, "holder", LEASE_S))
        _, fence = holder.granted()
        (waiter,) = line_up(stack, slots, own_server.url, "waiter")
        killed_at = time.monotonic()
        holder.kill()
        granted_at, next_fence = waiter.granted()
        print(f"holder killed: next after {granted_at - killed_at:.3f} s, lease {LEASE_S} s")
        assert granted_at - killed_at < LEASE_S + 1
        assert next_fence > fence
        assert not slots.release("build", "holder", fencing_token=fence)
        stats = slots.stats("build")
        assert [who.execution_id for who in stats.holders] == ["waiter"]
        assert stats.total_expired == 1


@pytest.mark.parametrize("dead", [1, 3])
def test_a_slot_goes_past_killed_waiters_at_the_head(own_server: RedisProcess, dead: int) -> None:
    with ExitStack() as stack:
        slots = stack.enter_context(open_slots(own_server.url))
        slot = slots.acquire("build", "holder", max_concurrent=1)
        waiters = line_up(stack, slots, own_server.url, *(f"w{n}" for n in range(dead + 1)))
        for waiter in waiters[:dead]:
            waiter.kill()
        released_at = time.monotonic()
        assert slot.release()
        granted_at, _ = waiters[-1].granted()
        print(f"{dead} killed at the head: next after {granted_at - released_at:.3f} s")
        assert granted_at - released_at < 0.5 * dead + 1.5
        assert slots.stats("build").queue_length == 0


def test_a_killed_holder_that_nobody_waits_behind_leaves_its_slot_to_who_comes_next(own_server: RedisProcess) -> None:
    with open_slots(own_server.url) as slots, SlotWorker(own_server.url, "holder", LEASE_S) as holder:
        holder.granted()
        holder.kill()
        assert slots.try_acquire("build") is None
        began = time.monotonic()
        with slots.acquire("build"):
            assert time.monotonic() - began < LEASE_S + 1
        assert slots.stats("build").active_count == 0


def test_an_interpreter_that_ends_holding_ends_at_once_and_its_slot_with_the_lease(own_server: RedisProcess) -> None:
    with (
        open_slots(own_server.url) as slots,
        SlotWorker(own_server.url, "leaver", LEASE_S, style="end_holding") as leaver,
    ):
        granted_at, _ = leaver.granted()
        leaver.finish(patience_s=10)
        with slots.acquire("build", "next"):
            passed = time.monotonic() - granted_at
        print(f"ended holding: next after {passed:.3f} s")
        # A waiter of that process is at the head: it is dead too, and gone past.
        assert passed < LEASE_S + 2


@pytest.mark.parametrize("place", ["waiting", "holding"])
@pytest.mark.parametrize("how", ["SIGINT", "SIGTERM"])
def test_a_process_that_is_told_to_end_leaves_nothing_behind(own_server: RedisProcess, place: str, how: str) -> None:
    lease_s = 30.0
    with ExitStack() as stack:
        slots = stack.enter_context(open_slots(own_server.url))
        slot = slots.acquire("build", "holder", max_concurrent=1)
        worker = stack.enter_context(SlotWorker(own_server.url, "told", lease_s, exits_on_sigterm=True))
        eventually(lambda: line_is(slots, "told"), "it waits")
        if place == "holding":
            assert slot.release()
            worker.granted()
        worker.process.send_signal(getattr(signal, how))
        worker.process.wait(10)
        stats = slots.stats("build")
        assert (stats.queue_length, stats.active_count) == (0, 0 if place == "holding" else 1)
        assert (stats.total_cancelled, stats.total_expired) == (0 if place == "holding" else 1, 0)

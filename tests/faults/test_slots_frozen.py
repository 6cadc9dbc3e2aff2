"""Processes stopped (SIGSTOP) for longer than their lease, and woken: they learn that they lost, and do no harm."""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

from eventlog.errors import LeaseLost
from eventlog.slots.blocking import SlotQueue
from tests.faults.slot_workers import SlotWorker, open_slots
from tests.faults.test_slots_killed import LEASE_S, line_is, line_up
from tests.support.redis_process import RedisProcess, eventually


@contextmanager
def stopped(worker: SlotWorker) -> Iterator[None]:
    os.kill(worker.process.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(worker.process.pid, signal.SIGCONT)


def holder_is(slots: SlotQueue, execution: str) -> bool:
    return [who.execution_id for who in slots.stats("build").holders] == [execution]


def test_a_holder_stopped_past_its_lease_learns_that_it_lost_and_its_token_does_nothing(
    own_server: RedisProcess,
) -> None:
    with ExitStack() as stack:
        slots = stack.enter_context(open_slots(own_server.url))
        frozen = stack.enter_context(SlotWorker(own_server.url, "frozen", LEASE_S))
        _, old = frozen.granted()
        (waiter,) = line_up(stack, slots, own_server.url, "waiter", lease_s=30.0)
        with stopped(frozen):
            _, new = waiter.granted()
            woken_at = time.monotonic()
        _, lost_at, valid, expires_in_s = frozen.until("lost")
        frozen.finish()
        print(f"woken: told after {lost_at - woken_at:.3f} s")
        assert (valid, expires_in_s) == (False, 0.0)
        assert list(frozen.of("notice")) == [[old]], "the notice comes once"
        assert list(frozen.of("LeaseLost")), "the block ends with the loss, before or after the notice of it"
        assert new > old
        with pytest.raises(LeaseLost):
            slots.renew("build", "frozen", fencing_token=old)
        with pytest.raises(LeaseLost):
            slots.renew("build", "waiter", fencing_token=old)
        assert not slots.release("build", "frozen", fencing_token=old)
        assert not slots.release("build", "waiter", fencing_token=old)
        assert holder_is(slots, "waiter")
        assert slots.stats("build").holders[0].fencing_token == new


def test_a_holder_stopped_past_its_lease_learns_it_also_where_nobody_took_its_place(own_server: RedisProcess) -> None:
    with open_slots(own_server.url) as slots, SlotWorker(own_server.url, "frozen", LEASE_S) as frozen:
        _, fence = frozen.granted()
        with stopped(frozen):
            eventually(lambda: slots.stats("build").active_count == 0, "its lease has ended")
        frozen.finish()
        assert [line[0] for line in frozen.lines[2:]].count("lost") == 1
        assert list(frozen.of("LeaseLost")), "the block ends with the loss, before or after the notice of it"
        with pytest.raises(LeaseLost):
            slots.renew("build", "frozen", fencing_token=fence)


def test_a_holder_stopped_for_less_than_its_lease_notices_nothing(own_server: RedisProcess) -> None:
    with (
        open_slots(own_server.url) as slots,
        SlotWorker(own_server.url, "paused", lease_s=3.0, hold_s=3.5) as paused,
    ):
        granted_at, _ = paused.granted()
        with stopped(paused):
            eventually(lambda: time.monotonic() > granted_at + 1.5, "half of its lease has passed")
        paused.ends_with("granted")
        assert slots.stats("build").total_completed == 1


def test_a_waiter_that_was_stopped_comes_back_to_its_place_without_an_error(own_server: RedisProcess) -> None:
    with ExitStack() as stack:
        slots = stack.enter_context(open_slots(own_server.url))
        slot = slots.acquire("build", "holder", max_concurrent=1)
        first, second, third = line_up(stack, slots, own_server.url, "first", "second", "third", lease_s=30.0)
        with stopped(second):
            eventually(lambda: line_is(slots, "first", "third"), "nothing was heard of it, and it is out of the line")
        eventually(lambda: line_is(slots, "first", "second", "third"), "it is back where it was")
        assert slot.release()
        fences = []
        for worker in (first, second, third):
            fences.append(worker.granted()[1])
            assert slots.release("build", worker.given["execution_id"], fencing_token=fences[-1])
        assert fences == sorted(fences)


def test_a_waiter_stopped_when_its_turn_came_has_it_later_and_keeps_nobody_waiting(own_server: RedisProcess) -> None:
    with ExitStack() as stack:
        slots = stack.enter_context(open_slots(own_server.url))
        slot = slots.acquire("build", "holder", max_concurrent=1)
        frozen, behind = line_up(stack, slots, own_server.url, "frozen", "behind", lease_s=30.0)
        with stopped(frozen):
            released_at = time.monotonic()
            assert slot.release()
            granted_at, fence = behind.granted()
            print(f"stopped at the head: next after {granted_at - released_at:.3f} s")
            assert granted_at - released_at < 3.0
        eventually(lambda: line_is(slots, "frozen"), "it is back in the line")
        assert holder_is(slots, "behind"), "a grant that it did not read in time is not its own"
        assert slots.release("build", "behind", fencing_token=fence)
        _, later = frozen.granted()
        assert later > fence
        assert not any(line[0] == "lost" for line in frozen.lines)


def test_the_whole_line_stopped_and_woken_is_served_in_order(own_server: RedisProcess) -> None:
    names = [f"w{n}" for n in range(4)]
    with ExitStack() as stack:
        slots = stack.enter_context(open_slots(own_server.url))
        slot = slots.acquire("build", "holder", max_concurrent=1)
        workers = line_up(stack, slots, own_server.url, *names, lease_s=30.0)
        with ExitStack() as stops:
            for worker in workers:
                stops.enter_context(stopped(worker))
            eventually(lambda: line_is(slots), "all are out of the line")
        eventually(lambda: line_is(slots, *names), "all are back where they were")
        assert slot.release()
        for worker in workers:
            _, fence = worker.granted()
            assert slots.release("build", worker.given["execution_id"], fencing_token=fence)

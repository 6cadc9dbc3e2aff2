"""Connections cut at every step, from acquiring to giving back: no slot is lost, none is given twice."""

import threading
from collections.abc import Callable
from typing import TypeVar

import pytest

from eventlog.errors import SlotCancelled
from eventlog.slots.blocking import Slot, SlotQueue
from tests.faults.opening import open_log
from tests.faults.proxy import CUTS, ChaosProxy, Fault
from tests.faults.slot_workers import open_slots
from tests.faults.test_lost_replies import _script_calls
from tests.faults.test_slots_killed import line_is
from tests.support.redis_process import RedisProcess, eventually

EACH_CUT = pytest.mark.parametrize("cut", CUTS, ids=lambda cut: cut.name)
LEASE_S = 60.0
T = TypeVar("T")


class Waiting:
    """A thread that waits for a slot."""

    def __init__(self, slots: SlotQueue, execution: str) -> None:
        self.got: list[Slot] = []
        self.failures: list[Exception] = []
        self._slots = slots
        self._execution = execution
        self._thread = threading.Thread(target=self._wait)
        self._thread.start()

    def _wait(self) -> None:
        try:
            self.got.append(self._slots.acquire("build", self._execution, max_concurrent=1, lease_s=LEASE_S))
        except Exception as error:
            self.failures.append(error)

    def slot(self) -> Slot:
        """What it was given."""
        self._thread.join(20)
        assert not self.failures, self.failures
        return self.got[0]

    def failure(self) -> Exception:
        """What it was refused with."""
        self._thread.join(20)
        assert not self.got
        return self.failures[0]


def told_story(server: RedisProcess) -> list[tuple[str, str]]:
    """What the log says happened in the queue, in order."""
    with open_log(server.url) as log:
        assert log.verify().clean
        return [(event.kind.removeprefix("slot."), event.payload["execution_id"]) for event in log.query()]


def is_empty(slots: SlotQueue) -> bool:
    stats = slots.stats("build")
    return (stats.active_count, stats.queue_length) == (0, 0)


@EACH_CUT
@pytest.mark.parametrize("step", range(12))
def test_a_hand_over_cut_at_any_step_is_the_same_hand_over(
    own_server: RedisProcess, proxy: ChaosProxy, step: int, cut: Fault
) -> None:
    """Twice cut from that step on: the first call and the repetition of it, whichever they are of."""
    with open_slots(own_server.url) as sees, open_slots(proxy.url) as slots:
        slots.stats("warm")
        proxy.plan(*[Fault.NONE] * step, cut, cut)
        first = slots.acquire("build", "first", max_concurrent=1, lease_s=LEASE_S)
        waiting = Waiting(slots, "second")
        eventually(lambda: line_is(sees, "second"), "the second waits")
        first.renew()
        first.renew()
        first.release()
        second = waiting.slot()
        assert second.fencing_token > first.fencing_token
        second.renew()
        assert [who.fencing_token for who in sees.stats("build").holders] == [second.fencing_token]
        second.release()
        proxy.calm()
        eventually(lambda: is_empty(sees), "nothing is left")
        stats = sees.stats("build")
        assert (stats.total_enqueued, stats.total_completed, stats.total_expired) == (2, 2, 0)
    assert told_story(own_server) == [
        ("granted", "first"),
        ("queued", "second"),
        ("released", "first"),
        ("granted", "second"),
        ("released", "second"),
    ]


@EACH_CUT
def test_each_call_is_carried_out_once_even_if_the_reply_was_lost(
    own_server: RedisProcess, proxy: ChaosProxy, cut: Fault
) -> None:
    with open_slots(own_server.url) as sees, open_slots(proxy.url) as slots:

        def under_fault(call: Callable[[], T]) -> T:
            proxy.plan(cut)
            return call()

        def counts() -> tuple[int, int]:
            stats = sees.stats("build")
            return stats.active_count, stats.queue_length

        slot = under_fault(lambda: slots.acquire("build", "a", max_concurrent=1, lease_s=LEASE_S))
        assert under_fault(lambda: slots.enqueue("build", "b", lease_s=LEASE_S)).position == 1
        assert under_fault(lambda: slots.try_acquire("build", "c")) is None
        under_fault(lambda: slots.cancel("build", "b"))
        assert counts() == (1, 0)
        slots.enqueue("build", "d", lease_s=LEASE_S)
        under_fault(slot.release)
        fence = slots.state("build", "d").fencing_token
        assert under_fault(lambda: slots.renew("build", "d", fencing_token=fence)).fencing_token == fence
        under_fault(lambda: slots.release("build", "d", fencing_token=fence))
        assert counts() == (0, 0)
        assert isinstance(under_fault(lambda: slots.try_acquire("build", "e", lease_s=LEASE_S)), Slot)
        slots.enqueue("build", "f", lease_s=LEASE_S)
        assert under_fault(lambda: slots.clear("build")) == (1, 1)
        assert counts() == (0, 0)
        stats = sees.stats("build")
        assert (stats.total_enqueued, stats.total_completed, stats.total_cancelled) == (5, 2, 1)


def late(server: RedisProcess, proxy: ChaosProxy) -> None:
    """Let the requests that were kept back reach Redis, and wait until it has carried them out."""
    with server.client() as redis:
        before, kept = _script_calls(redis), proxy.held
        assert kept > 0
        proxy.release()
        eventually(lambda: _script_calls(redis) >= before + kept, "the late requests were carried out")


def test_an_acquire_that_arrives_after_its_release_takes_no_slot(own_server: RedisProcess, proxy: ChaosProxy) -> None:
    with open_slots(proxy.url) as slots:
        slots.stats("build")
        proxy.plan(Fault.HELD)
        with slots.acquire("build", "a", max_concurrent=1, lease_s=LEASE_S):
            assert slots.stats("build").active_count == 1
        late(own_server, proxy)
        assert is_empty(slots)
        assert slots.stats("build").total_enqueued == 1


def test_an_acquire_that_arrives_after_its_waiter_gave_up_takes_no_place(
    own_server: RedisProcess, proxy: ChaosProxy
) -> None:
    with open_slots(own_server.url) as sees, open_slots(proxy.url) as slots:
        holder = sees.acquire("build", "holder", max_concurrent=1, lease_s=LEASE_S)
        proxy.plan(Fault.HELD)
        waiting = Waiting(slots, "a")
        eventually(lambda: line_is(sees, "a"), "it waits")
        assert sees.cancel("build", "a")
        assert isinstance(waiting.failure(), SlotCancelled)
        late(own_server, proxy)
        assert line_is(sees)
        holder.release()
        assert is_empty(sees)


def test_a_touch_or_renewal_that_arrives_after_the_release_brings_nothing_back(
    own_server: RedisProcess, proxy: ChaosProxy
) -> None:
    with open_slots(proxy.url) as slots:
        slot = slots.acquire("build", "a", max_concurrent=1, lease_s=LEASE_S)
        proxy.plan(Fault.HELD)
        slot.renew()
        slot.release()
        late(own_server, proxy)
        assert is_empty(slots)


def test_a_release_that_arrives_after_its_retry_takes_nothing_from_the_next_acquisition(
    own_server: RedisProcess, proxy: ChaosProxy
) -> None:
    with open_slots(own_server.url) as sees, open_slots(proxy.url) as slots:
        slot = slots.acquire("build", "a", max_concurrent=1, lease_s=LEASE_S)
        proxy.plan(Fault.HELD)
        slot.release()
        again = sees.acquire("build", "a", max_concurrent=1, lease_s=LEASE_S)
        late(own_server, proxy)
        again.renew()
        proxy.plan(Fault.HELD)
        slots.release("build", "a", fencing_token=again.fencing_token)
        third = sees.acquire("build", "a", max_concurrent=1, lease_s=LEASE_S)
        late(own_server, proxy)
        third.renew()
        assert third.valid


@pytest.mark.parametrize("cut", [Fault.REPLY_LOST, Fault.REPLY_CUT])
def test_a_cancel_or_release_says_what_it_did_even_if_the_reply_was_lost(
    own_server: RedisProcess, proxy: ChaosProxy, cut: Fault
) -> None:
    with open_slots(proxy.url) as slots:
        said = []
        slot = slots.acquire("build", "a", max_concurrent=1, lease_s=LEASE_S)
        slots.enqueue("build", "b", lease_s=LEASE_S)
        proxy.plan(cut)
        said.append(slots.cancel("build", "b"))
        slots.enqueue("build", "d", lease_s=LEASE_S)
        proxy.plan(cut)
        said.append(slot.release())
        fence = slots.state("build", "d").fencing_token
        proxy.plan(cut)
        said.append(slots.release("build", "d", fencing_token=fence))
        slots.enqueue("build", "e", lease_s=LEASE_S)
        proxy.plan(cut)
        said.append(slots.release("build", "e"))
        assert said == [True] * 4


def test_a_release_by_name_that_arrives_late_takes_nothing_from_the_next_acquisition(
    own_server: RedisProcess, proxy: ChaosProxy
) -> None:
    with open_slots(own_server.url) as sees, open_slots(proxy.url) as slots:
        sees.enqueue("build", "a", max_concurrent=1, lease_s=LEASE_S)
        proxy.plan(Fault.HELD)
        slots.release("build", "a")
        fence = sees.enqueue("build", "a", max_concurrent=1, lease_s=LEASE_S).fencing_token
        late(own_server, proxy)
        assert sees.state("build", "a").fencing_token == fence


def test_an_enqueue_that_arrives_after_the_release_takes_no_slot(own_server: RedisProcess, proxy: ChaosProxy) -> None:
    with open_slots(proxy.url) as slots:
        slots.stats("build")
        proxy.plan(Fault.HELD)
        assert slots.enqueue("build", "a", max_concurrent=1, lease_s=LEASE_S).state == "granted"
        assert slots.release("build", "a")
        late(own_server, proxy)
        assert is_empty(slots)

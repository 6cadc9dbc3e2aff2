"""All data is lost while executions hold and wait: they come back, in the order that they had."""

from contextlib import ExitStack
from typing import Any

from tests.contract.slots.queues import InLine
from tests.contract.worlds import World
from tests.support.redis_process import eventually


def lose_everything(place: World, slots: Any, log: Any) -> None:
    """As a Redis that restarts empty would."""
    place.wipe(log)
    if place.name == "memory":
        slots.queue.operations.backend.forget_everything()


def test_holders_keep_their_slots_and_waiters_their_order(slots: Any, place: World, log: Any) -> None:
    slot = slots.acquire("build", "e0", max_concurrent=1, lease_s=0.9)
    with ExitStack() as stack:
        names = ["e1", "e2", "e3"]
        line = [stack.enter_context(InLine(slots, "build", name, max_concurrent=1, lease_s=0.9)) for name in names]
        lose_everything(place, slots, log)
        eventually(lambda: slots.state("build", "e0").fencing_token == slot.fencing_token, "the holder came back")
        eventually(lambda: slots.stats("build").queue_length == 3, "the waiters came back")
        assert [waiter.execution_id for waiter in slots.stats("build").waiters] == names
        assert slot.valid
        tokens = [slot.fencing_token]
        slot.release()
        for waiter in line:
            granted = waiter.join()
            tokens.append(granted.fencing_token)
            granted.release()
    assert tokens == sorted(set(tokens))
    assert log.verify().problems == []


def test_nobody_is_let_in_before_holders_had_time_to_come_back(slots: Any, place: World, log: Any) -> None:
    held = slots.enqueue("build", "e0", max_concurrent=1, lease_s=0.6)
    with InLine(slots, "build", "e1", max_concurrent=1, lease_s=0.6) as waiter:
        lose_everything(place, slots, log)
        slot = waiter.join()
        # Who held the slot did not come back; its lease was over by then.
        assert slot.fencing_token > held.fencing_token
        assert slots.stats("build").holders[0].granted_at >= held.time + 0.6 - 0.001


def test_tokens_grow_over_a_loss_of_all_data(slots: Any, place: World, log: Any) -> None:
    before = slots.enqueue("build", "e0").fencing_token
    lose_everything(place, slots, log)
    assert slots.enqueue("build", "e0").fencing_token > before

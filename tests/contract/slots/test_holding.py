"""Who holds a slot: leases, fencing tokens, and what becomes of both."""

import threading
from typing import Any

import pytest

from eventlog.errors import AlreadyHeld, LeaseLost
from tests.contract.slots.queues import InLine, story
from tests.contract.worlds import World
from tests.support.redis_process import eventually


def test_a_free_slot_is_had_at_once(slots: Any) -> None:
    slot = slots.acquire("build", "e1", max_concurrent=1, lease_s=20)
    assert slot.valid
    assert not slot.lost
    assert slot.fencing_token > 0
    assert 15 < slot.expires_in_s <= 20
    assert 0 <= slot.waited_s < 5
    assert (slot.action, slot.group_key, slot.execution_id) == ("build", None, "e1")
    slot.raise_if_lost()
    state = slots.state("build", "e1")
    assert (state.state, state.fencing_token) == ("granted", slot.fencing_token)
    assert 15 < state.lease_expires_at - state.time <= 20


def test_a_released_slot_is_the_next_ones(slots: Any) -> None:
    slot = slots.acquire("build", "e1", max_concurrent=1)
    assert slots.try_acquire("build", "e2", max_concurrent=1) is None
    assert slot.release()
    assert not slot.release()
    assert (slot.valid, slot.lost, slot.expires_in_s) == (False, False, 0)
    assert slots.state("build", "e1").state == "none"
    assert slots.try_acquire("build", "e2", max_concurrent=1).valid


def test_the_block_holds_the_slot_and_gives_it_back(slots: Any) -> None:
    with slots.hold("build", "e1", max_concurrent=1, group_key="g") as slot:
        assert slot.group_key == "g"
        assert slots.state("build", "e1", group_key="g").state == "granted"
    assert slots.state("build", "e1", group_key="g").state == "none"
    with pytest.raises(ZeroDivisionError), slots.hold("build", "e1"):
        raise ZeroDivisionError
    assert slots.state("build", "e1").state == "none"


def test_fencing_tokens_only_grow(slots: Any) -> None:
    tokens = []
    for n in range(20):
        slot = slots.acquire("build", f"e{n % 3}", max_concurrent=2)
        tokens.append(slot.fencing_token)
        slot.release()
    tokens.append(slots.enqueue("build", "e1").fencing_token)
    tokens.append(slots.acquire("build", "e1", adopt=True).fencing_token)
    assert tokens == sorted(set(tokens))


def test_there_are_never_more_holders_than_the_limit(slots: Any) -> None:
    held = [slots.try_acquire("build", f"e{n}", max_concurrent=3) for n in range(5)]
    assert [slot is not None for slot in held] == [True, True, True, False, False]


def test_without_any_limit_everybody_holds(slots: Any) -> None:
    assert all(slots.try_acquire("build", f"e{n}") for n in range(50))
    assert slots.stats("build").max_concurrent is None


def test_an_execution_that_holds_its_slot_is_told_so(slots: Any) -> None:
    slot = slots.acquire("build", "e1", max_concurrent=1)
    for ask in (slots.acquire, slots.try_acquire):
        with pytest.raises(AlreadyHeld) as told:
            ask("build", "e1", max_concurrent=1)
        assert told.value.fencing_token == slot.fencing_token
        assert (told.value.queue, told.value.execution_id) == ("build", "e1")
    again = slots.enqueue("build", "e1", max_concurrent=1)
    assert (again.state, again.fencing_token) == ("granted", slot.fencing_token)
    assert slots.stats("build").active_count == 1
    assert slots.stats("build").queue_length == 0


def test_a_slot_can_be_taken_over_and_its_old_holder_finds_out(slots: Any) -> None:
    old = slots.acquire("build", "e1", max_concurrent=1)
    new = slots.acquire("build", "e1", max_concurrent=1, adopt=True)
    assert new.fencing_token > old.fencing_token
    with pytest.raises(LeaseLost):
        old.renew()
    assert old.lost
    assert not old.release()
    assert slots.state("build", "e1").fencing_token == new.fencing_token
    assert slots.stats("build").active_count == 1


def test_a_place_can_be_taken_over(slots: Any) -> None:
    first = slots.acquire("build", "e1", max_concurrent=1)
    slots.enqueue("build", "e2", max_concurrent=1)
    slots.enqueue("build", "e3", max_concurrent=1)
    with InLine(slots, "build", "e2", max_concurrent=1, adopt=True) as waiter:
        assert slots.state("build", "e2").position == 1
        first.release()
        assert waiter.join().execution_id == "e2"


def test_executions_without_a_name_get_one_of_their_own(slots: Any) -> None:
    one, other = slots.acquire("build", max_concurrent=2), slots.acquire("build", max_concurrent=2)
    assert one.execution_id != other.execution_id


def test_a_lease_renews_itself_while_it_is_held(slots: Any) -> None:
    with slots.hold("build", "e1", max_concurrent=1, lease_s=1.5) as slot:
        first = slots.state("build", "e1").lease_expires_at
        eventually(lambda: slots.state("build", "e1").lease_expires_at > first + 0.8, "it was renewed twice")
        assert slot.valid
    assert slots.stats("build").total_expired == 0


def test_a_lease_that_nobody_renews_ends_and_the_next_gets_the_slot(slots: Any, place: World, log: Any) -> None:
    slots.enqueue("build", "e1", max_concurrent=1, lease_s=30)
    slots.enqueue("build", "e2", max_concurrent=1, lease_s=30)
    slots.renew("build", "e1", lease_s=0.3)  # not before both stand: a machine may be slow
    place.pass_time(0.3)
    assert slots.state("build", "e2").state == "granted"
    assert slots.state("build", "e1").state == "none"
    assert story(log) == [("granted", "e1"), ("queued", "e2"), ("expired", "e1"), ("granted", "e2")]
    assert log.query(kind="slot.expired")[0].payload["reason"] == "lease"


def test_a_waiter_is_woken_the_moment_a_lease_ends(slots: Any, place: World) -> None:
    slots.enqueue("build", "e1", max_concurrent=1, lease_s=0.4)
    with InLine(slots, "build", "e2", max_concurrent=1) as waiter:
        place.pass_time(0.4)
        slot = waiter.join()
        assert slot.waited_s < 0.4 + 0.6


def test_the_holder_is_told_once_that_its_lease_was_lost(slots: Any) -> None:
    notices: list[Any] = []
    slot = slots.acquire("build", "e1", max_concurrent=1, lease_s=0.3, on_lost=notices.append)
    slots.clear("build")
    eventually(lambda: notices, "the notice came")
    assert slot.lost
    assert not slot.valid
    with pytest.raises(LeaseLost):
        slot.raise_if_lost()
    assert not slot.release()
    assert [notice.execution_id for notice in notices] == ["e1"]


def lose_the_lease_in_the_block(slots: Any, error: type[Exception] | None = None) -> None:
    lost = threading.Event()
    with slots.hold("build", "e1", lease_s=0.3, on_lost=lambda slot: lost.set()):
        slots.clear("build")
        assert lost.wait(10)
        if error is not None:
            raise error


def test_a_block_whose_lease_was_lost_says_so(slots: Any) -> None:
    with pytest.raises(LeaseLost):
        lose_the_lease_in_the_block(slots)


def test_an_error_in_a_block_is_not_hidden_by_a_lost_lease(slots: Any) -> None:
    with pytest.raises(ZeroDivisionError):
        lose_the_lease_in_the_block(slots, ZeroDivisionError)


def test_a_stale_token_neither_releases_nor_renews(slots: Any) -> None:
    old = slots.enqueue("build", "e1", max_concurrent=1)
    assert slots.release("build", "e1", fencing_token=old.fencing_token)
    new = slots.enqueue("build", "e1", max_concurrent=1)
    assert not slots.release("build", "e1", fencing_token=old.fencing_token)
    with pytest.raises(LeaseLost):
        slots.renew("build", "e1", fencing_token=old.fencing_token)
    assert slots.state("build", "e1").fencing_token == new.fencing_token
    assert slots.release("build", "e1", fencing_token=new.fencing_token)
    assert not slots.release("build", "e1", fencing_token=new.fencing_token)


def test_a_renewal_can_change_the_length_of_the_lease(slots: Any) -> None:
    granted = slots.enqueue("build", "e1", lease_s=10)
    renewed = slots.renew("build", "e1", fencing_token=granted.fencing_token, lease_s=100)
    assert renewed.fencing_token == granted.fencing_token
    assert 95 < renewed.lease_expires_at - renewed.time <= 100
    kept = slots.renew("build", "e1")
    assert 95 < kept.lease_expires_at - kept.time <= 100
    slot = slots.acquire("build", "e2", lease_s=10)
    slot.renew(200)
    assert 190 < slot.expires_in_s <= 200


def test_an_expired_lease_cannot_be_renewed(slots: Any, place: World) -> None:
    granted = slots.enqueue("build", "e1", max_concurrent=1, lease_s=0.2)
    place.pass_time(0.2)
    with pytest.raises(LeaseLost) as lost:
        slots.renew("build", "e1", fencing_token=granted.fencing_token)
    assert (lost.value.queue, lost.value.execution_id) == ("build", "e1")
    assert not slots.release("build", "e1", fencing_token=granted.fencing_token)


def test_anybody_can_release_an_execution_by_name(slots: Any) -> None:
    slot = slots.acquire("build", "e1", max_concurrent=1)
    assert slots.release("build", "e1")
    assert slots.try_acquire("build", "e2", max_concurrent=1) is not None
    with pytest.raises(LeaseLost):
        slot.renew()


def test_nothing_is_known_of_unknown_executions(slots: Any) -> None:
    assert slots.state("build", "nobody").state == "none"
    assert not slots.release("build", "nobody")
    assert not slots.cancel("build", "nobody")
    with pytest.raises(LeaseLost):
        slots.renew("build", "nobody")
    assert slots.queues() == []


def test_slots_of_an_execution_are_found_in_every_queue(slots: Any) -> None:
    slots.enqueue("build", "e1")
    slots.enqueue("build", "e1", group_key="g")
    slots.enqueue("deploy", "e1", max_concurrent=1)
    slots.enqueue("deploy", "e2", max_concurrent=1)
    assert slots.queues_of("e1") == ["build", "build/g", "deploy"]
    assert slots.queues_of("e1", action="build") == ["build", "build/g"]
    assert slots.queues_of("e2") == ["deploy"]
    assert slots.queues_of("e3") == []


def test_who_leaves_is_told_what_it_left(slots: Any) -> None:
    slots.enqueue("build", "e1", max_concurrent=1)
    slots.enqueue("build", "e2", max_concurrent=1)
    assert [slots.leave("build", name) for name in ("e2", "e1", "e1", "e2")] == [
        *("cancelled", "released", "none", "none")
    ]


def test_a_release_can_be_kept_from_younger_slots(slots: Any, place: World) -> None:
    old = slots.enqueue("build", "e1", max_concurrent=1)
    slots.release("build", "e1")
    place.pass_time(0.02)
    slots.enqueue("build", "e1", max_concurrent=1)
    slots.enqueue("build", "e2", max_concurrent=1)
    assert not slots.release("build", "e1", not_after_s=old.time + 0.01)
    assert slots.leave("build", "e2", not_after_s=old.time + 0.01) == "none"
    assert slots.state("build", "e1").state == "granted"
    assert slots.release("build", "e1", not_after_s=slots.state("build", "e1").time)


def test_a_second_handle_on_a_slot_renews_and_releases_it(slots: Any) -> None:
    assert slots.attach("build", "e1") is None
    slots.enqueue("build", "e1", max_concurrent=1, lease_s=1.5)
    slots.enqueue("build", "e2", max_concurrent=1)
    assert slots.attach("build", "e2") is None
    handle = slots.attach("build", "e1")
    first = slots.state("build", "e1")
    assert handle.fencing_token == first.fencing_token
    eventually(lambda: slots.state("build", "e1").lease_expires_at > first.lease_expires_at + 0.6, "it is renewed")
    assert handle.release()
    assert slots.state("build", "e2").state == "granted"


def test_defaults_are_those_that_are_promised(slots: Any) -> None:
    granted = slots.enqueue("build", "e1", max_concurrent=1)
    queued = slots.enqueue("build", "e2", max_concurrent=1)
    assert granted.lease_expires_at - granted.time == pytest.approx(30)
    assert queued.queue_expires_at - queued.time == pytest.approx(3600)
    assert not granted.already
    assert slots.enqueue("build", "e1", max_concurrent=1).already


def test_that_a_lease_ran_out_is_known_afterwards(slots: Any, place: World) -> None:
    began = slots.enqueue("build", "e1", lease_s=30).time
    slots.enqueue("build", "e2", lease_s=30)
    slots.release("build", "e2")
    slots.renew("build", "e1", lease_s=0.2)
    place.pass_time(0.2)
    states = [slots.state("build", f"e{n}") for n in (1, 2, 3)]
    assert [state.state for state in states] == ["none"] * 3
    assert states[0].lease_expires_at >= began
    assert [state.lease_expires_at for state in states[1:]] == [None, None]

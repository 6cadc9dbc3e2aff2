"""Who waits: the order of the line, places, time-outs, and limits that change while executions wait."""

import threading
from contextlib import ExitStack
from typing import Any

import pytest

from eventlog.errors import AlreadyHeld, QueueFull, QueueTimeout, SlotCancelled
from eventlog.slots.policy import Policy
from tests.contract.slots.queues import InLine, story
from tests.contract.worlds import World


def test_who_came_first_is_served_first(slots: Any) -> None:
    holder = slots.acquire("build", "e0", max_concurrent=1)
    tokens = [holder.fencing_token]
    with ExitStack() as stack:
        line = [stack.enter_context(InLine(slots, "build", f"e{n}", max_concurrent=1)) for n in range(1, 6)]
        assert [waiter.execution_id for waiter in slots.stats("build").waiters] == ["e1", "e2", "e3", "e4", "e5"]
        for waiter in line:
            assert all(other.waits for other in line[line.index(waiter) :])
            holder.release()
            holder = waiter.join()
            tokens.append(holder.fencing_token)
    assert tokens == sorted(set(tokens))


def test_a_place_is_told_with_its_position(slots: Any) -> None:
    assert slots.enqueue("build", "e1", max_concurrent=1).state == "granted"
    places = [slots.enqueue("build", f"e{n}", max_concurrent=1) for n in (2, 3, 4)]
    assert [(place.state, place.position, place.limited_by) for place in places] == [
        ("queued", 1, "busy"),
        ("queued", 2, "busy"),
        ("queued", 3, "busy"),
    ]
    assert slots.cancel("build", "e2")
    assert [slots.state("build", f"e{n}").position for n in (3, 4)] == [1, 2]
    assert slots.release("build", "e1")
    states = [slots.state("build", f"e{n}") for n in (3, 4)]
    assert [(state.state, state.position) for state in states] == [("granted", None), ("queued", 1)]


def test_asking_again_gives_no_second_place(slots: Any) -> None:
    slots.enqueue("build", "e1", max_concurrent=1)
    slots.enqueue("build", "e2", max_concurrent=1)
    slots.enqueue("build", "e3", max_concurrent=1)
    again = slots.enqueue("build", "e2", max_concurrent=1)
    assert (again.state, again.position) == ("queued", 1)
    assert slots.stats("build").queue_length == 2


def test_who_waits_goes_on_with_the_place_that_was_taken_before(slots: Any, log: Any) -> None:
    slots.enqueue("build", "e1", max_concurrent=1, lease_s=1)
    slots.enqueue("build", "e2", max_concurrent=1)
    slots.enqueue("build", "e3", max_concurrent=1)
    # Longer than a grant may lie unread: it is heard at the place's own bell.
    slot = slots.acquire("build", "e2", max_concurrent=1)
    assert slot.valid
    assert slots.state("build", "e2").fencing_token == slot.fencing_token
    assert slots.state("build", "e3").position == 1
    assert story(log)[3:] == [("expired", "e1"), ("granted", "e2")]


def test_an_execution_that_waits_already_is_told_so(slots: Any) -> None:
    slots.enqueue("build", "e1", max_concurrent=1)
    with InLine(slots, "build", "e2", max_concurrent=1):
        with pytest.raises(AlreadyHeld) as told:
            slots.acquire("build", "e2", max_concurrent=1)
        assert told.value.fencing_token is None
        assert slots.stats("build").queue_length == 1


def test_trying_never_queues(slots: Any) -> None:
    slots.enqueue("build", "e1", max_concurrent=1)
    slots.enqueue("build", "e2", max_concurrent=1)
    assert slots.try_acquire("build", "e3", max_concurrent=1) is None
    with pytest.raises(QueueTimeout):
        slots.acquire("build", "e3", max_concurrent=1, timeout_s=0)
    assert [waiter.execution_id for waiter in slots.stats("build").waiters] == ["e2"]
    assert slots.acquire("other", "e3", timeout_s=0).valid


def test_a_cancelled_waiter_is_told_and_leaves_the_line(slots: Any, log: Any) -> None:
    slots.enqueue("build", "e1", max_concurrent=1)
    with InLine(slots, "build", "e2", max_concurrent=1) as waiter:
        assert slots.cancel("build", "e2")
        with pytest.raises(SlotCancelled):
            waiter.join()
    assert not slots.cancel("build", "e2")
    assert slots.state("build", "e2").state == "none"
    assert story(log)[-1] == ("cancelled", "e2")


def test_cancelling_a_holder_takes_nothing_from_it(slots: Any) -> None:
    slot = slots.acquire("build", "e1", max_concurrent=1)
    assert not slots.cancel("build", "e1")
    slot.renew()
    assert slot.valid


def test_releasing_a_waiter_takes_it_out_of_the_line(slots: Any) -> None:
    slots.enqueue("build", "e1", max_concurrent=1)
    slots.enqueue("build", "e2", max_concurrent=1)
    assert not slots.release("build", "e2")
    assert slots.state("build", "e2").state == "none"


def test_patience_ends(slots: Any, log: Any) -> None:
    slots.enqueue("build", "e1", max_concurrent=1)
    with pytest.raises(QueueTimeout) as told:
        slots.acquire("build", "e2", max_concurrent=1, timeout_s=0.3)
    assert told.value.waited_s == pytest.approx(0.3, abs=0.005)
    assert str(told.value).endswith("no slot within 0.3 s")
    assert slots.stats("build").queue_length == 0
    assert slots.stats("build").total_timed_out == 1
    assert story(log)[-1] == ("timed_out", "e2")


def test_a_place_that_nobody_attends_to_ends_with_its_timeout(slots: Any, place: World, log: Any) -> None:
    slots.enqueue("build", "e1", max_concurrent=1)
    slots.enqueue("build", "e2", max_concurrent=1, queue_timeout_s=0.3)
    slots.enqueue("build", "e3", max_concurrent=1, queue_timeout_s=60)
    place.pass_time(0.3)
    assert slots.state("build", "e2").state == "none"
    assert slots.state("build", "e3").position == 1
    assert story(log)[-1] == ("timed_out", "e2")


def test_a_place_that_nobody_attends_to_is_granted_with_the_whole_lease(slots: Any) -> None:
    slots.enqueue("build", "e1", max_concurrent=1)
    slots.enqueue("build", "e2", max_concurrent=1, lease_s=50)
    slots.release("build", "e1")
    state = slots.state("build", "e2")
    assert state.state == "granted"
    assert 45 < state.lease_expires_at - state.time <= 50


def test_a_long_look_returns_when_the_turn_comes(slots: Any) -> None:
    slots.enqueue("build", "e1", max_concurrent=1)
    slots.enqueue("build", "e2", max_concurrent=1)
    assert slots.state("build", "e2", wait_s=0.1).state == "queued"
    found: list[Any] = []
    looking = threading.Thread(target=lambda: found.append(slots.state("build", "e2", wait_s=25)))
    looking.start()
    slots.release("build", "e1")
    looking.join(10)
    assert [state.state for state in found] == ["granted"]


def test_a_line_has_a_length(slots: Any) -> None:
    slots.enqueue("build", "e1", max_concurrent=1, max_queue_length=2)
    slots.enqueue("build", "e2", max_concurrent=1, max_queue_length=2)
    slots.enqueue("build", "e3", max_concurrent=1, max_queue_length=2)
    for ask in (slots.enqueue, slots.acquire):
        with pytest.raises(QueueFull) as told:
            ask("build", "e4", max_concurrent=1, max_queue_length=2)
        assert (told.value.length, told.value.limit) == (2, 2)
    assert slots.state("build", "e4").state == "none"
    # Who is in the line already is not refused.
    assert slots.enqueue("build", "e3", max_concurrent=1, max_queue_length=2).position == 2


def test_actions_and_groups_do_not_touch(slots: Any) -> None:
    for action, group in (("a", None), ("a", "g1"), ("a", "g2"), ("b", "g1")):
        assert slots.enqueue(action, "e1", max_concurrent=1, group_key=group).state == "granted"
        assert slots.enqueue(action, "e2", max_concurrent=1, group_key=group).state == "queued"
    assert slots.release("a", "e1", group_key="g1")
    granted = [
        slots.state(action, "e2", group_key=group).state == "granted"
        for action, group in (("a", None), ("a", "g1"), ("a", "g2"), ("b", "g1"))
    ]
    assert granted == [False, True, False, False]


def test_a_raised_limit_hands_out_slots_at_once(slots: Any) -> None:
    slots.enqueue("build", "e1", max_concurrent=1)
    with (
        InLine(slots, "build", "e2", max_concurrent=1) as second,
        InLine(slots, "build", "e3", max_concurrent=1) as third,
        InLine(slots, "build", "e4", max_concurrent=1) as fourth,
    ):
        slots.set_limit("build", 3)
        assert second.join().fencing_token < third.join().fencing_token
        assert fourth.waits
        assert slots.stats("build").max_concurrent == 3


def test_a_lowered_limit_takes_no_slot_away(slots: Any) -> None:
    held = [slots.acquire("build", f"e{n}", max_concurrent=3) for n in range(3)]
    slots.set_limit("build", 1)
    slots.enqueue("build", "late", max_concurrent=3)
    assert all(slots.state("build", f"e{n}").state == "granted" for n in range(3))
    for slot in held[:2]:
        slot.release()
        assert slots.state("build", "late").state == "queued"
    held[2].release()
    assert slots.state("build", "late").state == "granted"


def test_a_limit_that_is_removed_leaves_the_callers_number(slots: Any) -> None:
    slots.set_limit("build", 1)
    slots.enqueue("build", "e1", max_concurrent=2)
    slots.enqueue("build", "e2", max_concurrent=2)
    assert slots.state("build", "e2").state == "queued"
    slots.set_limit("build", None)
    assert slots.stats("build").max_concurrent == 2
    assert slots.state("build", "e2").state == "granted"


def logged(slots: Any, caplog: Any, words: str) -> list[str]:
    """The messages with these words; a server, which is in this process, has logged each of them too."""
    said = [record.message for record in caplog.records if words in record.message]
    return said[::2] if slots.queue.backend == "http" else said


@pytest.mark.parametrize("other", [1, 3, 1_000_000])
def test_the_number_that_was_named_first_stands_while_anybody_is_there(slots: Any, other: int) -> None:
    assert slots.enqueue("build", "e1", max_concurrent=2).warning is None
    assert slots.enqueue("build", "e2", max_concurrent=2).max_concurrent == 2
    late = slots.enqueue("build", "e3", max_concurrent=other)
    assert (late.state, late.max_concurrent) == ("queued", 2)
    assert f"max_concurrent {other} does not count: 2 was named first" in late.warning
    assert (slots.enqueue("build", "e4").warning, slots.stats("build").max_concurrent) == (None, 2)
    for n in (1, 2, 4):
        slots.release("build", f"e{n}")
    assert "does not count" in slots.enqueue("build", "e5", max_concurrent=other).warning
    for n in (3, 5):
        slots.release("build", f"e{n}")
    free = slots.enqueue("build", "e6", max_concurrent=other)
    assert (free.max_concurrent, free.warning) == (other, None)


def test_a_slot_knows_its_limit_and_why_its_number_does_not_count(slots: Any, caplog: Any) -> None:
    with slots.hold("build", "e1", max_concurrent=2) as first:
        assert (first.max_concurrent, first.warning) == (2, None)
        for n in (2, 3):
            with slots.hold("build", f"e{n}", max_concurrent=5) as second:
                assert second.max_concurrent == 2
                assert "5 does not count: 2 was named first" in second.warning
    assert logged(slots, caplog, "does not count") == [second.warning]
    alone = slots.try_acquire("build", "e4", max_concurrent=5)
    assert (alone.max_concurrent, alone.warning) == (5, None)


def test_a_holder_whose_lease_is_over_no_longer_keeps_its_number(slots: Any, place: World) -> None:
    slots.enqueue("build", "e1", max_concurrent=1, lease_s=0.2)
    place.pass_time(0.2)
    found = slots.enqueue("build", "e2", max_concurrent=2)
    assert (found.state, found.max_concurrent, found.warning) == ("granted", 2, None)


def test_a_number_limits_a_queue_that_had_none(slots: Any) -> None:
    slots.enqueue("build", "e1")
    found = slots.enqueue("build", "e2", max_concurrent=1)
    assert (found.state, found.max_concurrent, found.warning) == ("queued", 1, None)


@pytest.mark.parametrize("scope", ["global", "action/build", "pack/p"])
def test_a_policy_goes_before_numbers_and_is_no_reason_to_warn(slots: Any, scope: str) -> None:
    slots.put_policy(scope, Policy(max_concurrent=2))
    for n, asked in enumerate([5, 7, None, 2]):
        found = slots.enqueue("build", f"e{n}", max_concurrent=asked, pack="p")
        assert (found.max_concurrent, found.warning) == (2, None)


def test_a_limit_is_changed_on_purpose(slots: Any) -> None:
    slots.enqueue("build", "e1", max_concurrent=1)
    slots.set_limit("build", 2)
    found = slots.enqueue("build", "e2", max_concurrent=3)
    assert (found.state, found.max_concurrent, found.warning) == ("granted", 2, None)


def test_a_queue_without_a_limit_says_so_in_its_answers_and_once_in_the_log(slots: Any, caplog: Any) -> None:
    for n in (1, 2):
        found = slots.enqueue("build", f"e{n}")
        assert (found.state, found.max_concurrent, found.to_dict()["max_concurrent"]) == ("granted", None, None)
    slots.acquire("build", "e3").release()
    slots.enqueue("deploy", "e1")
    assert [message.split()[2] for message in logged(slots, caplog, "are not limited")] == ["build", "deploy"]


def test_threads_that_compete_are_never_more_than_the_limit(slots: Any, log: Any) -> None:
    inside: set[str] = set()
    most: list[int] = []
    tokens: list[int] = []
    errors: list[BaseException] = []

    def compete(name: str) -> None:
        try:
            for turn in range(10):
                with slots.hold("build", f"{name}-{turn}", max_concurrent=2, timeout_s=60) as slot:
                    inside.add(name)
                    most.append(len(inside))
                    tokens.append(slot.fencing_token)
                    inside.discard(name)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=compete, args=(f"t{n}",)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert errors == []
    assert max(most) <= 2
    assert len(set(tokens)) == 80
    stats = slots.stats("build")
    assert (stats.active_count, stats.queue_length) == (0, 0)
    assert (stats.total_enqueued, stats.total_completed, stats.total_expired) == (80, 80, 0)
    told = story(log)
    queued = [execution for transition, execution in told if transition == "queued"]
    assert [execution for transition, execution in told if transition == "granted" and execution in queued] == queued

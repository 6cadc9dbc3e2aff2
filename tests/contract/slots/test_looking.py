"""What operators see and can do: statistics, the list of queues, the emergency reset."""

from typing import Any

import pytest

from eventlog.errors import LeaseLost, SlotCancelled
from eventlog.slots.protocol import Cleared
from tests.contract.slots.queues import InLine
from tests.contract.worlds import World


def test_statistics_are_exact(slots: Any, place: World) -> None:
    first = slots.enqueue("build", "e1", max_concurrent=1, owner="me")
    slots.enqueue("build", "e2", max_concurrent=1, lease_s=0.2, owner="you")
    slots.enqueue("build", "e3", max_concurrent=1, queue_timeout_s=0.4)
    slots.enqueue("build", "e4", max_concurrent=1)
    slots.enqueue("build", "e5", max_concurrent=1)
    stats = slots.stats("build")
    assert (stats.action, stats.group_key, stats.max_concurrent) == ("build", None, 1)
    assert (stats.active_count, stats.queue_length, stats.total_enqueued) == (1, 4, 5)
    assert [(holder.execution_id, holder.fencing_token, holder.owner) for holder in stats.holders] == [
        ("e1", first.fencing_token, "me")
    ]
    assert 0 < stats.holders[0].lease_expires_at - stats.time <= 30
    assert 0 <= stats.time - stats.holders[0].granted_at < 20
    assert [(waiter.execution_id, waiter.position) for waiter in stats.waiters] == [
        *(("e2", 1), ("e3", 2), ("e4", 3), ("e5", 4))
    ]
    assert stats.oldest_enqueued_at == stats.waiters[0].enqueued_at <= stats.waiters[1].enqueued_at
    assert stats.waiters[0].owner == "you"

    slots.release("build", "e1")
    place.pass_time(0.2)
    assert slots.state("build", "e2").state == "none"
    assert slots.state("build", "e3").state in ("granted", "none")
    slots.release("build", "e3")
    slots.cancel("build", "e5")
    stats = slots.stats("build")
    assert (stats.active_count, stats.queue_length) == (1, 0)
    assert stats.holders[0].execution_id == "e4"
    assert (stats.total_enqueued, stats.total_expired, stats.total_cancelled) == (5, 1, 1)
    assert stats.total_completed + stats.total_timed_out == 2
    assert stats.oldest_enqueued_at is None


def test_what_has_expired_is_not_counted(slots: Any, place: World) -> None:
    slots.enqueue("build", "e1", max_concurrent=1, lease_s=0.2)
    slots.enqueue("build", "e2", max_concurrent=1, queue_timeout_s=0.2)
    place.pass_time(0.2)
    stats = slots.stats("build")
    assert (stats.active_count, stats.queue_length, stats.holders, stats.waiters) == (0, 0, (), ())


def test_a_look_lists_no_more_than_was_asked_for_and_counts_all(slots: Any) -> None:
    for n in range(8):
        slots.enqueue("build", f"e{n}", max_concurrent=4)
    stats = slots.stats("build", listed=2)
    assert (stats.active_count, stats.queue_length) == (4, 4)
    assert (len(stats.holders), [waiter.execution_id for waiter in stats.waiters]) == (2, ["e4", "e5"])


def test_an_unknown_queue_is_empty_and_looking_makes_none(slots: Any) -> None:
    stats = slots.stats("build", group_key="g")
    assert (stats.active_count, stats.queue_length, stats.total_enqueued) == (0, 0, 0)
    assert (stats.max_concurrent, stats.oldest_enqueued_at, stats.holders, stats.waiters) == (None, None, (), ())
    assert slots.queues() == []


def test_the_queues_in_use_are_listed_by_name(slots: Any) -> None:
    for action, group in (("b", None), ("a", "g2"), ("a", None), ("a", "g1")):
        slots.enqueue(action, "e1", group_key=group)
    assert [(stats.action, stats.group_key, stats.active_count) for stats in slots.queues()] == [
        *(("a", None, 1), ("a", "g1", 1), ("a", "g2", 1), ("b", None, 1))
    ]


@pytest.mark.parametrize("limit", [1, 2, 3, 4, 5, 1000])
def test_queues_are_listed_page_by_page(slots: Any, limit: int) -> None:
    names = ["a", "a-b", "a/g", "b/a"]
    for name in reversed(names):
        action, _, group = name.partition("/")
        slots.enqueue(action, "e1", group_key=group or None)
    page, found = slots.queues_page(limit=limit), []
    while True:
        assert 0 < len(page.queues) <= limit
        assert page.cursor == page.queues[-1].queue
        found += [stats.queue for stats in page.queues]
        if page.at_end:
            break
        page = slots.queues_page(after=page.cursor, limit=limit)
    assert found == names
    rest = slots.queues_page(after="b/a")
    assert (rest.queues, rest.cursor, rest.at_end) == ([], "b/a", True)
    assert [stats.queue for stats in slots.queues_page(after="a.gone").queues] == ["a/g", "b/a"]


def test_a_page_of_no_queues(slots: Any) -> None:
    page = slots.queues_page()
    assert (page.queues, page.cursor, page.at_end) == ([], None, True)


def test_statistics_have_a_wire_form(slots: Any) -> None:
    slots.enqueue("build", "e1", max_concurrent=1, owner="me")
    slots.enqueue("build", "e2", max_concurrent=1, owner="you")
    said = slots.stats("build").to_dict()
    holder, waiter = said.pop("holders")[0], said.pop("waiters")[0]
    assert set(holder) == {"execution_id", "fencing_token", "granted_at", "lease_expires_at", "owner"}
    assert set(waiter) == {"execution_id", "position", "enqueued_at", "owner"}
    assert said["limits"]["max_concurrent"] == said["max_concurrent"] == 1
    assert (said["queue_length"], said["active_count"], said["total_enqueued"]) == (1, 1, 2)
    assert said["oldest_enqueued_at"] == waiter["enqueued_at"]


@pytest.mark.waits
def test_a_reset_takes_everybody_out_of_one_queue(slots: Any) -> None:
    slot = slots.acquire("build", "e1", max_concurrent=1)
    slots.enqueue("other", "e1", max_concurrent=1)
    with InLine(slots, "build", "e2", max_concurrent=1) as waiter:
        slots.enqueue("build", "e3", max_concurrent=1)
        assert slots.clear("build") == Cleared(holders=1, waiters=2)
        with pytest.raises(SlotCancelled):
            waiter.join()
    with pytest.raises(LeaseLost):
        slot.renew()
    assert [slots.state("build", f"e{n}").state for n in (1, 2, 3)] == ["none", "none", "none"]
    assert slots.state("other", "e1").state == "granted"
    assert slots.clear("build") == Cleared(0, 0)
    after = slots.acquire("build", "e4", max_concurrent=1)
    assert after.fencing_token > slot.fencing_token
    assert slots.stats("build").total_enqueued == 4


def test_a_reset_of_all_queues(slots: Any) -> None:
    for action in ("a", "b", "c"):
        slots.enqueue(action, "e1", max_concurrent=1)
        slots.enqueue(action, "e2", max_concurrent=1)
    slots.set_limit("a", 7)
    assert slots.clear_all() == Cleared(holders=4, waiters=2)
    assert [(stats.active_count, stats.queue_length) for stats in slots.queues()] == [(0, 0)] * 3
    assert slots.stats("a").max_concurrent == 7


def test_tending_hands_on_what_nobody_looks_after(slots: Any, place: World) -> None:
    assert slots.tend() == 0
    for queue in ("build", "deploy"):
        slots.enqueue(queue, "e1", max_concurrent=1, lease_s=0.2)
    slots.enqueue("build", "e2", max_concurrent=1, lease_s=60.0)
    place.pass_time(0.2)
    assert slots.tend() == 2
    assert [holder.execution_id for holder in slots.stats("build").holders] == ["e2"]
    assert [slots.stats(queue).total_expired for queue in ("build", "deploy")] == [1, 1]
    assert slots.tend() == 0

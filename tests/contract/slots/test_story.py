"""Log and queue tell one story: each transition is an event, in order, with what there is to say about it."""

from typing import Any

import pytest

from eventlog.slots.policy import Policy
from tests.contract.slots.queues import SLOT_COLOURS, InLine, story
from tests.contract.worlds import World


@pytest.mark.waits
def test_each_transition_is_told_in_order(slots: Any, place: World, log: Any) -> None:
    first = slots.acquire("build", "e1", max_concurrent=1, group_key="g", owner="me")
    with InLine(slots, "build", "e2", max_concurrent=1, group_key="g", owner="you") as second:
        slots.enqueue("build", "e3", max_concurrent=1, group_key="g", lease_s=20)
        slots.enqueue("build", "e4", max_concurrent=1, group_key="g", queue_timeout_s=20)
        slots.enqueue("build", "e5", max_concurrent=1, group_key="g")
        first.release()
        second.join().release()
    slots.cancel("build", "e5", group_key="g")
    place.pass_time(20)
    slots.state("build", "e3", group_key="g")
    assert story(log) == [
        ("granted", "e1"),
        ("queued", "e2"),
        ("queued", "e3"),
        ("queued", "e4"),
        ("queued", "e5"),
        ("released", "e1"),
        ("granted", "e2"),
        ("released", "e2"),
        ("granted", "e3"),
        ("cancelled", "e5"),
        ("expired", "e3"),
        ("timed_out", "e4"),
    ]


def test_events_say_who_what_and_how_long(slots: Any, place: World, log: Any) -> None:
    state = slots.enqueue("build", "e1", max_concurrent=1, group_key="g", owner="me")
    slots.enqueue("build", "e2", max_concurrent=1, group_key="g", owner="you")
    place.pass_time(0.05)
    slots.release("build", "e1", group_key="g")
    granted, queued, released, second = log.query(kind="slot.*")
    head = {"action": "build", "group": "g"}
    assert granted.payload == {
        **head,
        "execution_id": "e1",
        "fencing_token": state.fencing_token,
        "waited_ms": 0,
        "owner": "me",
    }
    assert queued.payload == {**head, "execution_id": "e2", "position": 1, "owner": "you"}
    assert released.payload.pop("held_ms") >= 50
    assert released.payload == {**head, "execution_id": "e1", "fencing_token": state.fencing_token}
    assert second.payload.pop("waited_ms") >= 50
    assert second.payload == {
        **head,
        "execution_id": "e2",
        "fencing_token": slots.state("build", "e2", group_key="g").fencing_token,
        "owner": "you",
    }


def test_transitions_are_internal(slots: Any, log: Any) -> None:
    slots.enqueue("build", "e1")
    assert [event.visibility for event in log.query()] == ["internal"]
    assert log.query(visibility="public") == []


def test_a_slot_that_is_had_at_once_is_granted_and_was_never_queued(slots: Any, log: Any) -> None:
    slots.acquire("build", "e1", max_concurrent=1).release()
    assert story(log) == [("granted", "e1"), ("released", "e1")]


def test_refusals_and_looks_leave_no_trace(slots: Any, log: Any) -> None:
    slots.enqueue("build", "e1", max_concurrent=1)
    before = log.info().last_offset
    slots.try_acquire("build", "e2", max_concurrent=1)
    slots.state("build", "e1")
    slots.stats("build")
    slots.queues()
    slots.release("build", "nobody")
    slots.renew("build", "e1")
    assert log.info().last_offset == before


def test_slots_and_events_share_one_dense_log(slots: Any, log: Any) -> None:
    for n in range(5):
        log.append("work.began", {"n": n}, run_id="r1")
        slots.acquire("build", f"e{n}", max_concurrent=1).release()
        log.append_many([{"kind": "work.done", "run_id": "r1"}] * 3)
    events = log.query()
    assert [event.offset for event in events] == list(range(1, 31))
    assert [event.timestamp for event in events] == sorted(event.timestamp for event in events)
    audit = log.verify()
    assert (audit.problems, audit.events, audit.runs) == ([], 30, 1)


@pytest.mark.waits
def test_a_follower_sees_slots_change_hands(slots: Any, log: Any) -> None:
    following = log.follow(since=0, kind="slot.*")
    slots.enqueue("build", "e1", max_concurrent=1)
    slots.enqueue("build", "e2", max_concurrent=1)
    slots.release("build", "e1")
    seen = []
    for event in following:
        seen.append((event.kind, event.payload["execution_id"]))
        if len(seen) == 4:
            break
    following.close()
    assert seen == [
        ("slot.granted", "e1"),
        ("slot.queued", "e2"),
        ("slot.released", "e1"),
        ("slot.granted", "e2"),
    ]


def test_retention_is_the_logs_own(place: World) -> None:
    log = place.open(max_entries=5, workspace="small")
    slots = SLOT_COLOURS[place.colour](log)
    log.append("first")  # retention is decided by who appends
    for n in range(100):
        slots.acquire("build", f"e{n}", max_concurrent=1).release()
    assert len(log.query()) == 5
    assert log.info().last_offset == 201
    assert log.verify().problems == []
    assert slots.stats("build").total_completed == 100


def test_clearing_the_log_takes_nothing_from_holders(slots: Any, log: Any) -> None:
    slot = slots.acquire("build", "e1", max_concurrent=1)
    slots.enqueue("build", "e2", max_concurrent=1)
    log.clear()
    slot.renew()
    slot.release()
    assert slots.state("build", "e2").state == "granted"
    assert story(log) == [("released", "e1"), ("granted", "e2")]


def test_a_reset_is_told_even_by_a_quiet_queue(slots: Any, log: Any) -> None:
    slots.put_policy("action/build", Policy(log_transitions=False))
    slots.enqueue("build", "e1", max_concurrent=1, group_key="g")
    slots.enqueue("build", "e2", max_concurrent=1, group_key="g")
    slots.clear("build", group_key="g")
    events = log.query()
    assert [event.kind for event in events] == ["slot.cleared"]
    assert events[0].payload == {"action": "build", "group": "g", "holders": 1, "waiters": 1}

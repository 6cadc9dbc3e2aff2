"""Appending again with the same key: the first answer, marked duplicate, and nothing new in the log."""

import pytest

from eventlog.errors import Conflict, InvalidInput
from tests.contract.colours import Colour
from tests.contract.worlds import World


def test_a_repeated_key_returns_the_first_event_marked_duplicate(log: Colour) -> None:
    first = log.append("a", {"n": 1}, idempotency_key="k")
    again = log.append("a", {"n": 1}, idempotency_key="k")
    assert (first.duplicate, again.duplicate) == (False, True)
    assert again == first
    assert len(log.query()) == 1
    assert log.append("b").offset == 2


def test_the_first_event_is_returned_also_when_the_content_differs(log: Colour) -> None:
    first = log.append("a", {"n": 1}, run_id="r", source="one", idempotency_key="k")
    again = log.append("b", {"n": 2}, stage_name="s", idempotency_key="k")
    assert again.duplicate
    assert again == first
    assert again.to_dict() == {**first.to_dict(), "duplicate": True}


def test_a_key_is_the_logs_own_and_not_shown_to_readers(log: Colour) -> None:
    log.append("a", idempotency_key="secret-key")
    assert "secret-key" not in str(log.query()[0].to_dict())


def test_a_repeated_batch_key_returns_the_first_batch(log: Colour) -> None:
    batch = [{"kind": "a", "run_id": "r"}, {"kind": "b"}, {"kind": "c", "run_id": "r", "lane_id": "x"}]
    first = log.append_many(batch, idempotency_key="k")
    between = log.append("between", run_id="r")
    again = log.append_many(batch, idempotency_key="k")
    assert again == first
    assert [event.seq for event in again] == [1, None, 1]
    assert all(event.duplicate for event in again)
    assert not any(event.duplicate for event in first)
    assert log.query() == [*first, between]
    assert log.append("next", run_id="r").seq == 3


@pytest.mark.parametrize("length", [1, 2, 4])
def test_a_repeated_batch_key_returns_the_first_batch_whatever_the_second_says(log: Colour, length: int) -> None:
    first = log.append_many([{"kind": "a", "run_id": "r"}, {"kind": "b"}, {"kind": "c"}], idempotency_key="k")
    again = log.append_many([{"kind": "z", "payload": {"n": n}} for n in range(length)], idempotency_key="k")
    assert again == first
    assert len(log.query()) == 3


def test_a_key_used_for_an_event_then_for_a_batch_is_one_key(log: Colour) -> None:
    first = log.append("a", run_id="r", idempotency_key="k")
    again = log.append_many([{"kind": "x"}, {"kind": "y"}], idempotency_key="k")
    assert again == [first]
    assert again[0].duplicate


def test_a_key_used_for_a_batch_then_for_an_event_gives_the_first_of_the_batch(log: Colour) -> None:
    first = log.append_many([{"kind": "a"}, {"kind": "b"}], idempotency_key="k")
    again = log.append("c", idempotency_key="k")
    assert again == first[0]
    assert again.duplicate


def test_a_key_for_the_batch_and_one_for_an_event_is_an_error(log: Colour) -> None:
    with pytest.raises(InvalidInput) as refused:
        log.append_many([{"kind": "a"}, {"kind": "b", "idempotency_key": "e"}], idempotency_key="k")
    assert (refused.value.field, refused.value.index) == ("idempotency_key", 1)
    assert log.query() == []


def test_keys_repeated_inside_one_batch_append_once(log: Colour) -> None:
    events = log.append_many(
        [
            {"kind": "a", "idempotency_key": "x", "run_id": "r"},
            {"kind": "b"},
            {"kind": "c", "idempotency_key": "x"},
            {"kind": "d", "idempotency_key": "y"},
            {"kind": "e", "idempotency_key": "x", "run_id": "r"},
        ]
    )
    assert [event.offset for event in events] == [1, 2, 1, 3, 1]
    assert [event.duplicate for event in events] == [False, False, True, False, True]
    assert [event.kind for event in events] == ["a", "b", "a", "d", "a"]
    assert [event.kind for event in log.query()] == ["a", "b", "d"]
    assert log.append("next", run_id="r").seq == 2


def test_a_batch_with_event_keys_appends_only_what_is_new(log: Colour) -> None:
    first = log.append("a", idempotency_key="k1")
    events = log.append_many([{"kind": "n", "idempotency_key": f"k{n}"} for n in range(3)])
    assert [event.offset for event in events] == [2, 1, 3]
    assert events[1] == first
    assert [event.duplicate for event in events] == [False, True, False]
    again = log.append_many([{"kind": "n", "idempotency_key": f"k{n}"} for n in range(3)])
    assert again == events
    assert all(event.duplicate for event in again)


def test_the_window_expires(world: World) -> None:
    log = world.open(idempotency_window_seconds=40)
    first = log.append("a", idempotency_key="k")
    many = log.append_many([{"kind": "b"}] * 2, idempotency_key="batch")
    assert log.append("a", idempotency_key="k").duplicate
    world.pass_time(40)
    again = log.append("a", idempotency_key="k")
    assert (again.duplicate, again.offset) == (False, many[-1].offset + 1)
    assert again.offset > first.offset
    assert not log.append_many([{"kind": "b"}] * 2, idempotency_key="batch")[0].duplicate


def test_a_duplicate_does_not_prolong_the_window(world: World) -> None:
    log = world.open(idempotency_window_seconds=50)
    log.append("a", idempotency_key="k")
    world.pass_time(30)
    assert log.append("a", idempotency_key="k").duplicate
    world.pass_time(25)
    assert not log.append("a", idempotency_key="k").duplicate


def test_a_duplicate_is_still_known_after_its_event_is_gone(log: Colour) -> None:
    first = log.append("a", {"n": 1}, run_id="r", idempotency_key="k")
    log.clear()
    again = log.append("a", {"n": 1}, run_id="r", idempotency_key="k")
    assert again == first
    assert again.duplicate
    assert log.query() == []


def test_a_retry_of_a_conditional_append_is_recognised_before_its_condition(log: Colour) -> None:
    first = log.append("a", expected_offset=0, idempotency_key="k")
    again = log.append("a", expected_offset=0, idempotency_key="k")
    assert again == first
    assert again.duplicate
    batch = [{"kind": "b"}, {"kind": "c"}]
    many = log.append_many(batch, expected_offset=1, idempotency_key="batch")
    assert log.append_many(batch, expected_offset=1, idempotency_key="batch") == many
    with pytest.raises(Conflict):
        log.append("d", expected_offset=1, idempotency_key="other")


def test_a_retry_of_a_conditional_batch_with_event_keys_is_recognised(log: Colour) -> None:
    batch = [{"kind": "a", "idempotency_key": "x"}, {"kind": "b", "idempotency_key": "y"}]
    first = log.append_many(batch, expected_offset=0)
    again = log.append_many(batch, expected_offset=0)
    assert again == first
    assert all(event.duplicate for event in again)


def test_a_conflict_does_not_use_up_the_key(log: Colour) -> None:
    with pytest.raises(Conflict):
        log.append_many([{"kind": "a"}], expected_offset=5, idempotency_key="k")
    with pytest.raises(Conflict):
        log.append("a", expected_offset=5, idempotency_key="e")
    assert not log.append_many([{"kind": "a"}], expected_offset=0, idempotency_key="k")[0].duplicate
    assert not log.append("a", expected_offset=1, idempotency_key="e").duplicate


@pytest.mark.parametrize("key", ["k", "a:b|c,d", "0", "x" * 256, "{w}", "%s", "~!@#$%^&*()"])
def test_any_printable_key_works(log: Colour, key: str) -> None:
    first = log.append("a", run_id="r", idempotency_key=key)
    batch = log.append_many([{"kind": "a"}], idempotency_key=key)
    assert batch == [first]
    assert batch[0].duplicate

"""Appending: positions, atomic batches, conditions, sequence numbers."""

import time
from typing import Any

import pytest

from eventlog import Event
from eventlog.errors import Conflict, InvalidInput, PayloadTooLarge, RejectedContent
from eventlog.model import EventId
from tests.contract.colours import Colour
from tests.contract.worlds import World


def test_offsets_are_dense_from_one_and_ids_date_and_sort_the_events(log: Colour) -> None:
    before = time.time()
    events = [log.append("a.b", {"n": n}) for n in range(20)]
    after = time.time()
    assert [event.offset for event in events] == list(range(1, 21))
    assert [event.id for event in events] == [f"{event.position.ms}-{event.offset}" for event in events]
    assert sorted(events, key=lambda event: event.position) == events
    # A new log is born a millisecond ahead of the clock.
    assert before - 0.002 <= events[0].timestamp <= events[-1].timestamp <= after + 0.002
    assert log.query() == events


def test_an_event_comes_back_with_everything_it_was_given(log: Colour) -> None:
    given = {
        "run_id": "r-1",
        "lane_id": "left",
        "stage_name": "Bauen & Prüfen",
        "group_id": "g0",
        "visibility": "private",
        "source": "worker/7 (北京)",
        "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    }
    appended = log.append("tool.invoked", {"a": 1}, **given)
    (read,) = log.query()
    assert read == appended
    for event in (appended, read):
        wire = event.to_dict()
        assert {name: wire[name] for name in given} == given
        assert (wire["kind"], wire["payload"], wire["seq"], wire["offset"]) == ("tool.invoked", {"a": 1}, 1, 1)
        assert event.duplicate is False


def test_absent_attributes_are_absent_from_the_wire_form(log: Colour) -> None:
    log.append("a")
    (event,) = log.query()
    assert set(event.to_dict()) == {"id", "offset", "timestamp", "kind", "payload", "visibility"}
    assert event.to_dict()["payload"] == {}
    assert event.to_dict()["visibility"] == "public"


def test_a_batch_is_contiguous_and_in_order(log: Colour) -> None:
    log.append("before")
    events = log.append_many([{"kind": f"k{n}", "payload": {"n": n}} for n in range(50)])
    log.append("after")
    assert [event.offset for event in events] == list(range(2, 52))
    assert [event.kind for event in events] == [f"k{n}" for n in range(50)]
    assert log.query()[1:-1] == events


def test_a_batch_with_one_bad_event_names_it_and_appends_nothing(log: Colour) -> None:
    log.append("before")
    with pytest.raises(InvalidInput) as refused:
        log.append_many([{"kind": "good"}, {"kind": "good"}, {"kind": "not good!"}, {"kind": "good"}])
    assert (refused.value.index, refused.value.field) == (2, "kind")
    assert [event.kind for event in log.query()] == ["before"]
    assert log.append("after").offset == 2


def test_an_empty_batch_is_an_empty_list_and_makes_no_log(log: Colour) -> None:
    assert log.append_many([]) == []
    assert log.append_many([], idempotency_key="k", expected_offset=5) == []
    assert log.info().epoch is None
    assert log.append("a").offset == 1


def test_a_batch_takes_any_iterable_of_mappings(log: Colour) -> None:
    events = log.append_many({"kind": "k", "payload": {"n": n}} for n in range(3))
    assert [event.payload for event in events] == [{"n": 0}, {"n": 1}, {"n": 2}]


def test_a_batch_of_mixed_shapes_keeps_every_event_as_it_was(log: Colour) -> None:
    given = [
        {"kind": "a"},
        {"kind": "b", "run_id": "r"},
        {"kind": "c", "run_id": "r", "lane_id": "x", "stage_name": "s"},
        {"kind": "d", "source": "me", "idempotency_key": "k"},
        {"kind": "e", "visibility": "internal"},
        {"kind": "f"},
        {"kind": "g", "run_id": "q", "group_id": "g1", "idempotency_key": "k2"},
    ] * 2
    given = [
        {**event, "idempotency_key": f"{event['idempotency_key']}{i}"} if "idempotency_key" in event else event
        for i, event in enumerate(given)
    ]
    appended = log.append_many(given)
    assert log.query() == appended
    for event, wanted in zip(appended, given, strict=True):
        wire = event.to_dict()
        assert {name: wire[name] for name in wanted if name != "idempotency_key"} == {
            name: value for name, value in wanted.items() if name != "idempotency_key"
        }
    assert [event.seq for event in appended] == [None, 1, 1, None, None, None, 1, None, 2, 2, None, None, None, 2]


def test_expected_offset_appends_only_at_that_end(log: Colour) -> None:
    assert log.append("a", expected_offset=0).offset == 1
    assert log.append_many([{"kind": "b"}, {"kind": "c"}], expected_offset=1)[-1].offset == 3
    with pytest.raises(Conflict) as conflict:
        log.append("d", expected_offset=1)
    assert (conflict.value.expected_offset, conflict.value.last_offset) == (1, 3)
    with pytest.raises(Conflict) as conflict:
        log.append_many([{"kind": "d", "run_id": "r"}] * 3, expected_offset=99)
    assert (conflict.value.expected_offset, conflict.value.last_offset) == (99, 3)
    assert [event.kind for event in log.query()] == ["a", "b", "c"]
    assert log.append("d", run_id="r", expected_offset=3).seq == 1


def test_a_conflict_on_a_log_that_never_was_leaves_no_log(log: Colour) -> None:
    with pytest.raises(Conflict) as conflict:
        log.append("a", expected_offset=7)
    assert conflict.value.last_offset == 0
    assert log.info().epoch is None


def test_seq_counts_densely_for_every_run_and_lane(log: Colour) -> None:
    seqs: dict[tuple[str, str], list[int | None]] = {}
    for n in range(60):
        run, lane = f"run-{n % 3}", f"lane-{n % 4}"
        if n % 7 == 0:
            log.append("outside", {"n": n})
        seqs.setdefault((run, lane), []).append(log.append("inside", run_id=run, lane_id=lane).seq)
    assert len(seqs) == 12
    assert all(numbers == [1, 2, 3, 4, 5] for numbers in seqs.values())


def test_the_lane_is_main_unless_named(log: Colour) -> None:
    first = log.append("a", run_id="r")
    second = log.append("b", run_id="r", lane_id="main")
    other = log.append("c", run_id="r", lane_id="other")
    assert [(event.lane_id, event.seq) for event in (first, second, other)] == [
        ("main", 1),
        ("main", 2),
        ("other", 1),
    ]


def test_run_and_lane_names_that_look_like_internals_are_only_names(log: Colour) -> None:
    for run in ("meta", "log", "first", "a:b", "index:", "..", "-"):
        for lane in ("first", "last", "count", "lane:x", "ended"):
            assert log.append("a", run_id=run, lane_id=lane).seq == 1
            assert log.append("a", run_id=run, lane_id=lane).seq == 2
    assert log.verify().clean
    assert [event.lane_id for event in log.query(run_id="a:b", lane_id="ended")] == ["ended", "ended"]


def test_a_payload_at_the_limit_is_taken_and_one_byte_more_is_refused(world: World) -> None:
    log = world.open(payload_max_bytes=100)
    just = {"x": "y" * (100 - len('{"x":""}'))}
    assert log.append("a", just).payload == just
    with pytest.raises(PayloadTooLarge) as refused:
        log.append("a", {"x": just["x"] + "y"})
    assert refused.value.field == "payload"
    with pytest.raises(PayloadTooLarge) as refused:
        log.append_many([{"kind": "a"}, {"kind": "b", "payload": {"x": just["x"] + "y"}}])
    assert (refused.value.field, refused.value.index) == ("payload", 1)
    assert len(log.query()) == 1


def test_a_batch_of_more_than_ten_thousand_events_is_refused_as_a_whole(log: Colour) -> None:
    with pytest.raises(PayloadTooLarge) as refused:
        log.append_many([{"kind": "a"}] * 10_001)
    assert refused.value.field == "events"
    assert log.query() == []


def test_a_big_batch_is_one_append(world: World) -> None:
    log = world.open(max_entries=6_000)
    events = log.append_many([{"kind": "a", "payload": {"n": n}, "run_id": f"r{n % 7}"} for n in range(5_000)])
    assert [event.offset for event in events] == list(range(1, 5_001))
    assert len({event.position.ms for event in events}) == 1
    assert log.query() == events


def test_an_event_handed_out_is_not_a_handle_on_the_log(log: Colour) -> None:
    appended = log.append("a", {"list": [1]})
    appended.payload["list"].append(2)
    log.query()[0].payload["more"] = True
    assert log.query()[0].payload == {"list": [1]}


def test_a_payload_changed_after_the_append_changes_nothing(log: Colour) -> None:
    payload = {"list": [1]}
    appended = log.append("a", payload)
    payload["list"].append(2)
    assert appended.payload == log.query()[0].payload == {"list": [1]}


def test_ids_of_all_appends_are_positions(log: Colour) -> None:
    event = log.append("a")
    assert isinstance(event, Event)
    assert isinstance(event.position, EventId)
    assert EventId.parse(event.id) == event.position


def test_append_each_appends_all_but_what_is_refused_and_says_why_in_its_place(log: Colour) -> None:
    given: list[Any] = [
        {"kind": "a", "payload": {"n": 0}},
        {"kind": "no kind at all"},
        {"kind": "a", "payload": {"chain_of_thought": "hidden"}},
        {"kind": "a", "payload": {"n": 1}},
        {"kind": "a", "payload": {"x": "y" * 70_000}},
        {"kind": "a", "payload": {"n": 2}},
    ]
    results = log.append_each(given, idempotency_key="k")
    assert [type(result) for result in results] == [Event, InvalidInput, RejectedContent, Event, PayloadTooLarge, Event]
    assert [result.index for result in results if isinstance(result, InvalidInput)] == [None] * 3
    assert log.query() == [result for result in results if isinstance(result, Event)]
    again = log.append_each(given, idempotency_key="k")
    assert [result.duplicate for result in again if isinstance(result, Event)] == [True] * 3
    assert [event.payload["n"] for event in log.query()] == [0, 1, 2]
    assert log.append_each([]) == []

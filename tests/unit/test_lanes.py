"""Lanes merged into one stream: deterministic, every lane ascending, nothing lost, nothing twice."""

import random
from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eventlog.errors import InvalidInput
from eventlog.model.events import Body, Event
from eventlog.runs.lanes import merge_lanes, parallel_merge
from tests.support.extent import examples

T0 = 1_763_720_000_000
Lanes = Mapping[str, list[Event]]


def event(lane: str, seq: int | None, ms: int, offset: int = 0, run_id: str | None = "r1", **payload: object) -> Event:
    body = Body.of("a", payload, run_id=run_id, lane_id=lane if run_id else None)
    return Event(T0 + ms, offset or 1000 * ms + (seq or 0), body, seq)


def shown(events: list[Event]) -> list[tuple[str | None, int | None]]:
    return [(each.lane_id, each.seq) for each in events]


def test_lanes_come_in_order_of_time_then_lane_then_seq() -> None:
    merged = parallel_merge(
        {
            "b": [event("b", 1, 10, 1), event("b", 2, 10, 4), event("b", 3, 30, 6)],
            "a": [event("a", 1, 10, 2), event("a", 2, 10, 3), event("a", 3, 20, 5)],
        }
    )
    assert shown(merged) == [("a", 1), ("a", 2), ("b", 1), ("b", 2), ("a", 3), ("b", 3)]


def test_nothing_makes_nothing() -> None:
    assert parallel_merge({}) == parallel_merge({"a": []}) == list(merge_lanes({"a": []})) == []


def test_a_lane_whose_seq_runs_back_is_put_in_order_with_a_warning_that_names_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    merged = parallel_merge({"good": [event("good", 1, 5)], "bad": [event("bad", n, 10 * n) for n in (1, 4, 2, 3)]})
    assert shown(merged) == [("good", 1), ("bad", 1), ("bad", 2), ("bad", 3), ("bad", 4)]
    assert [record.getMessage() for record in caplog.records] == [
        "lane bad: seq runs back from 4 to 2; put in order",
    ]


def test_lanes_in_order_are_no_reason_to_warn(caplog: pytest.LogCaptureFixture) -> None:
    lanes = {lane: [event(lane, n, n // 3) for n in range(1, 50)] for lane in "abc"}
    assert list(merge_lanes(lanes)) == parallel_merge(lanes)
    assert caplog.records == []


def test_a_lane_ascends_also_where_its_time_runs_back(caplog: pytest.LogCaptureFixture) -> None:
    lane = [event("a", 1, 50, 1), event("a", 2, 10, 2), event("a", 3, 60, 3)]
    merged = parallel_merge({"a": lane, "b": [event("b", 1, 20), event("b", 2, 55)]})
    assert shown(merged) == [("b", 1), ("a", 1), ("a", 2), ("b", 2), ("a", 3)]
    assert caplog.records == []


def test_an_event_that_was_given_twice_comes_once_and_is_no_reason_to_warn(caplog: pytest.LogCaptureFixture) -> None:
    lane = [event("a", n, n) for n in range(1, 6)]
    assert parallel_merge({"a": lane[:4] + lane[1:]}) == lane
    assert caplog.records == []


def test_two_events_of_one_seq_both_come_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    lane = [event("a", 1, 10, 1), event("a", 1, 20, 2)]
    assert parallel_merge({"a": lane}) == lane
    assert "from 1 to 1" in caplog.text


def test_runs_that_share_a_lanes_name_do_not_wait_for_each_other(caplog: pytest.LogCaptureFixture) -> None:
    lane = [event("main", 9, 10, 1, "r1"), event("main", 1, 20, 2, "r2"), event("main", 10, 30, 3, "r1")]
    assert parallel_merge({"main": lane}) == lane
    assert caplog.records == []


def test_events_without_a_run_are_in_the_order_of_their_log() -> None:
    lane = [event("x", None, 10, 7, None), event("x", None, 10, 8, None)]
    assert parallel_merge({"x": lane[::-1]}) == lane


def test_events_of_several_logs_may_have_the_same_place() -> None:
    one, other = event("a", 1, 10, 1, n=1), event("a", 1, 10, 1, n=2)
    assert parallel_merge({"x": [other], "y": [one]}) == [other, one]
    assert parallel_merge({"x": [other, one]}) == parallel_merge({"x": [one, other]}) == [one, other]


def test_runs_of_several_logs_may_have_the_same_place() -> None:
    one, other = event("a", 1, 10, 1, "r1"), event("a", 1, 10, 1, "r2")
    assert parallel_merge({"x": [other, one]}) == parallel_merge({"x": [one, other]}) == [one, other]


def test_a_lazy_merge_takes_no_more_than_it_hands_out_and_one_a_lane() -> None:
    taken: Counter[str] = Counter()

    def endless(lane: str) -> Iterator[Event]:
        seq = 0
        while True:
            seq += 1
            taken[lane] += 1
            yield event(lane, seq, seq)

    first = list(islice(merge_lanes({"a": endless("a"), "b": endless("b")}), 10))
    assert shown(first) == [(lane, seq) for seq in range(1, 6) for lane in "ab"]
    assert max(taken.values()) <= 7


def test_a_lazy_merge_hands_out_a_lane_as_it_comes_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    lane = [event("bad", n, 10 * n) for n in (1, 4, 2, 2, 3)]
    merged = list(merge_lanes({"bad": lane, "good": [event("good", 1, 35)]}))
    assert shown(merged) == [("bad", 1), ("good", 1), ("bad", 4), ("bad", 2), ("bad", 3)]
    assert [record.getMessage() for record in caplog.records] == [
        "lane bad: seq runs back from 4 to 2; handed out as they come",
    ]


LANES = st.dictionaries(
    st.sampled_from(["a", "b", "c", "main"]),
    st.lists(st.tuples(st.integers(-3, 20), st.sampled_from(["r1", "r1", "r2", None])), max_size=25),
    max_size=4,
)


def lanes_of(drawn: dict[str, list[tuple[int, str | None]]]) -> Lanes:
    """Lanes whose clock now and then runs back, of one log."""
    lanes: dict[str, list[Event]] = {}
    offset = 0
    for lane, steps in drawn.items():
        ms, seqs = 100, Counter[str | None]()
        lanes[lane] = []
        for step, run_id in steps:
            ms, offset = max(ms + step, 0), offset + 1
            seqs[run_id] += 1
            lanes[lane].append(event(lane, seqs[run_id] if run_id else None, ms, offset, run_id))
    return lanes


@given(LANES, st.randoms(use_true_random=False))
@settings(max_examples=examples(300), deadline=None)
def test_shuffled_lanes_merge_to_the_identical_stream(drawn: object, chance: random.Random) -> None:
    lanes = lanes_of(drawn)  # type: ignore[arg-type]
    shuffled = {lane: chance.sample(events, len(events)) for lane, events in lanes.items()}
    names = chance.sample(list(shuffled), len(shuffled))
    twice = {lane: shuffled[lane] + shuffled[lane][:3] for lane in names}
    assert [each.to_json() for each in parallel_merge(twice)] == [each.to_json() for each in parallel_merge(lanes)]


@given(LANES)
@settings(max_examples=examples(300), deadline=None)
def test_all_events_come_once_and_every_lane_of_a_run_ascends(drawn: object) -> None:
    lanes = lanes_of(drawn)  # type: ignore[arg-type]
    merged = parallel_merge(lanes)
    assert Counter(merged) == Counter(each for events in lanes.values() for each in events)
    for lane, events in lanes.items():
        for run_id in {each.run_id for each in events}:
            mine = [each for each in merged if each in events and each.run_id == run_id]
            assert [each.seq or each.offset for each in mine] == sorted(each.seq or each.offset for each in mine), lane


@given(LANES)
@settings(max_examples=examples(200), deadline=None)
def test_lanes_whose_time_never_runs_back_merge_by_time_lane_and_seq(drawn: object) -> None:
    lanes = {
        lane: [each for each in events if each.run_id == "r1"]
        for lane, events in lanes_of(
            {lane: [(abs(step), run) for step, run in steps] for lane, steps in drawn.items()}  # type: ignore[attr-defined]
        ).items()
    }
    merged = parallel_merge(lanes)
    assert [(each.timestamp, each.lane_id, each.seq) for each in merged] == sorted(
        (each.timestamp, each.lane_id, each.seq) for each in merged
    )
    assert list(merge_lanes(lanes)) == merged


@pytest.mark.parametrize(
    ("lanes", "field"),
    [
        ([], "lanes"),
        ([event("a", 1, 0)], "lanes"),
        ({"a": 5}, "lanes.a"),
        ({"a": event("a", 1, 0).to_dict()}, "lanes.a"),
        ({"a": [], "b": [event("b", 1, 0).to_dict()]}, "lanes.b"),
    ],
)
@pytest.mark.parametrize("merge", [parallel_merge, merge_lanes])
def test_what_are_no_lanes_of_events_is_refused(merge: Any, lanes: Any, field: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        list(merge(lanes))
    assert refused.value.field == field

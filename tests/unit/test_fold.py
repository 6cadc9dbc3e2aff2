"""Stage views: what the events of a run say of its stages, also when some are missing, late, doubled or garbage."""

import random
from collections.abc import Iterable
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eventlog.errors import InvalidInput
from eventlog.model.events import Body, Event
from eventlog.runs.fold import StageView, fold_stages
from tests.support.extent import examples

T0 = 1_763_720_000_000
KINDS = ("queued", "started", "succeeded", "failed", "skipped", "completed")


def told(offset: int, kind: str, stage: str | None = "build", at_ms: int | None = None, **payload: Any) -> Event:
    """The event at `offset`, a second after the one before it unless `at_ms` (after the start) says otherwise."""
    parts = {name: payload.pop(name) for name in ("group_id", "run_id") if name in payload}
    kind = kind if "." in kind else f"stage.{kind}"
    body = Body.of(kind, payload, **{"run_id": "r1", "stage_name": stage, **parts})
    return Event(T0 + (1000 * offset if at_ms is None else at_ms), offset, body, seq=offset)


def at(offset: int) -> float:
    return (T0 + 1000 * offset) / 1000


def only(events: Iterable[Event]) -> StageView:
    (view,) = fold_stages(events)
    return view


def test_a_stage_that_ran_well_has_its_times_and_exit_code() -> None:
    view = only(
        [
            told(1, "queued", depends_on=["fetch"], group_id="g1"),
            told(2, "started", stage_attempt=1, group_id="g1"),
            told(5, "succeeded", stage_attempt=1, duration_ms=2950, exit_code=0, group_id="g1"),
        ]
    )
    assert view == StageView(
        "build", "succeeded", 1, "g1", ["fetch"], at(1), at(2), at(5), duration_ms=2950, exit_code=0
    )


def test_a_failed_stage_says_why() -> None:
    view = only([told(1, "started"), told(2, "failed", error="ValueError: no", reason="bad input", exit_code=2)])
    assert (view.status, view.error, view.reason, view.exit_code) == ("failed", "ValueError: no", "bad input", 2)


def test_a_queued_stage_waits_for_its_first_attempt() -> None:
    view = only([told(1, "queued")])
    assert (view.status, view.stage_attempt, view.queued_at, view.started_at) == ("queued", 1, at(1), None)


def test_why_a_stage_waits_is_said_until_it_runs() -> None:
    events = [told(1, "queued", reason="no slot"), told(2, "started")]
    assert only(events[:1]).reason == "no slot"
    assert only(events).reason is None


def test_a_running_stage_has_no_duration_yet() -> None:
    view = only([told(1, "started")])
    assert (view.status, view.started_at, view.completed_at, view.duration_ms) == ("running", at(1), None, None)


def test_a_duration_that_nobody_told_is_what_the_log_says() -> None:
    assert only([told(1, "started"), told(4, "succeeded")]).duration_ms == 3000


def test_a_duration_that_was_told_counts_more_than_what_the_log_says() -> None:
    assert only([told(1, "started"), told(4, "succeeded", duration_ms=0)]).duration_ms == 0


def test_a_stage_of_which_only_the_end_is_left_has_attempt_duration_and_start_from_it() -> None:
    view = only([told(9, "failed", stage_attempt=3, duration_ms=2500)])
    assert (view.status, view.stage_attempt, view.duration_ms) == ("failed", 3, 2500)
    assert view.started_at == at(9) - 2.5
    assert view.queued_at is None


def test_an_end_without_anything_else_is_an_end_all_the_same() -> None:
    view = only([told(9, "succeeded")])
    assert (view.status, view.completed_at, view.started_at, view.duration_ms) == ("succeeded", at(9), None, None)


def test_a_duration_longer_than_time_itself_starts_at_its_beginning() -> None:
    assert only([told(9, "succeeded", duration_ms=10**15)]).started_at == 0.0


def test_a_stage_without_a_group_is_in_g0() -> None:
    assert only([told(1, "started")]).group_id == "g0"


def test_a_known_group_is_not_undone_by_who_does_not_know_it() -> None:
    events = [told(1, "queued", group_id="g2"), told(2, "started", group_id="g0"), told(3, "succeeded")]
    assert only(events).group_id == "g2"


def test_dependencies_stay_known_through_attempts() -> None:
    events = [
        told(1, "queued", depends_on=["a", "b"]),
        told(2, "started", stage_attempt=1),
        told(3, "failed", stage_attempt=1),
        told(4, "started", stage_attempt=2),
    ]
    assert only(events).depends_on == ["a", "b"]
    assert only(events).queued_at == at(1)


def test_a_higher_attempt_begins_anew() -> None:
    view = only(
        [
            told(1, "started", stage_attempt=1),
            told(2, "failed", stage_attempt=1, error="e", reason="r", exit_code=3, duration_ms=5),
            told(3, "started", stage_attempt=2),
        ]
    )
    assert view == StageView("build", "running", 2, started_at=at(3))


def test_a_stage_that_is_queued_again_for_another_attempt_waits_again() -> None:
    events = [told(1, "queued"), told(2, "started"), told(3, "failed"), told(4, "queued", stage_attempt=2)]
    view = only(events)
    assert (view.status, view.stage_attempt, view.queued_at, view.completed_at) == ("queued", 2, at(4), None)


@pytest.mark.parametrize("end", ["succeeded", "failed", "skipped"])
@pytest.mark.parametrize("late", ["queued", "started", "succeeded", "failed", "skipped", "completed"])
@pytest.mark.parametrize("numbered", [True, False])
def test_an_end_is_not_undone_by_what_comes_late(end: str, late: str, numbered: bool) -> None:
    number = {"stage_attempt": 1} if numbered else {}
    events = [
        told(1, "queued"),
        told(2, "started", stage_attempt=1),
        told(3, end, stage_attempt=1, duration_ms=1000, exit_code=7, error="first"),
    ]
    assert only([*events, told(4, late, **number, exit_code=1, error="second")]) == only(events)


def test_what_an_earlier_attempt_says_late_changes_nothing() -> None:
    events = [told(1, "started", stage_attempt=1), told(2, "started", stage_attempt=2)]
    assert only([*events, told(3, "failed", stage_attempt=1), told(4, "started", stage_attempt=1)]) == only(events)


def test_what_comes_late_still_tells_what_was_not_known() -> None:
    view = only([told(3, "succeeded"), told(4, "started"), told(5, "queued", depends_on=["a"], group_id="g1")])
    assert (view.status, view.depends_on, view.group_id) == ("succeeded", ["a"], "g1")
    assert (view.queued_at, view.started_at, view.completed_at) == (at(3), at(3), at(3))


def test_an_event_without_a_number_belongs_to_the_attempt_at_hand() -> None:
    view = only([told(1, "started", stage_attempt=4), told(2, "failed")])
    assert (view.status, view.stage_attempt) == ("failed", 4)


def test_the_first_mention_of_the_queue_counts() -> None:
    assert only([told(1, "queued"), told(2, "queued")]).queued_at == at(1)


@pytest.mark.parametrize(
    ("payload", "status"),
    [
        ({}, "succeeded"),
        ({"status": "success"}, "succeeded"),
        ({"status": "Failed"}, "failed"),
        ({"status": "cancelled"}, "failed"),
        ({"status": "timed_out"}, "failed"),
        ({"status": "skipped"}, "skipped"),
        ({"status": "completed", "success": False}, "failed"),
        ({"status": "completed", "exit_code": 1}, "failed"),
        ({"status": "success", "error": "a warning"}, "succeeded"),
        ({"success": True}, "succeeded"),
        ({"success": False}, "failed"),
        ({"success": True, "exit_code": 2}, "failed"),
        ({"exit_code": 0}, "succeeded"),
        ({"exit_code": -9}, "failed"),
        ({"exit_code": True}, "succeeded"),
        ({"error": "boom"}, "failed"),
        ({"error": None}, "succeeded"),
        ({"status": ["failed"], "success": "no", "exit_code": "1", "error": 5}, "succeeded"),
    ],
)
def test_the_older_stage_completed_says_how_it_ended_in_its_payload(payload: dict[str, Any], status: str) -> None:
    view = only([told(1, "started"), told(2, "completed", **payload)])
    assert view.status == status
    assert view.completed_at == at(2)


def test_older_producers_name_stage_and_group_in_the_payload() -> None:
    view = only([told(1, "started", None, stage_name="lint", group_id="g3"), told(2, "succeeded", "lint")])
    assert (view.stage_name, view.status, view.group_id) == ("lint", "succeeded", "g3")


def test_an_event_that_names_no_stage_is_passed_over() -> None:
    assert fold_stages([told(1, "started", None), told(2, "tool.invoked"), told(3, "stage.paused")]) == []


@pytest.mark.parametrize(
    ("kind", "reason"),
    [("run.cancelled", "run cancelled"), ("run.failed", "run failed"), ("run.error", "run failed")],
)
def test_a_run_that_was_cut_short_leaves_no_stage_queued_or_running(kind: str, reason: str) -> None:
    events = [
        told(1, "started", "a"),
        told(2, "succeeded", "a"),
        told(3, "started", "b"),
        told(4, "queued", "c", depends_on=["b"]),
        told(5, kind, None),
    ]
    done, running, queued = fold_stages(events)
    assert done == fold_stages(events[:2])[0]
    assert running == StageView("b", "failed", started_at=at(3), completed_at=at(5), duration_ms=2000, reason=reason)
    assert queued == StageView("c", "skipped", depends_on=["b"], queued_at=at(4), completed_at=at(5), reason=reason)


def test_a_run_that_finished_says_nothing_of_stages_whose_end_nobody_told() -> None:
    events = [told(1, "started", "a"), told(2, "queued", "b"), told(3, "run.finished", None)]
    assert [view.status for view in fold_stages(events)] == ["running", "queued"]


def test_the_first_end_of_a_run_counts() -> None:
    events = [told(1, "started"), told(2, "run.finished", None), told(3, "run.cancelled", None)]
    assert only(events).status == "running"


def test_a_stages_own_end_is_believed_also_after_the_run_was_cancelled() -> None:
    events = [told(1, "started"), told(2, "run.cancelled", None), told(3, "succeeded")]
    assert only(events).status == "succeeded"


def test_a_stage_that_started_before_it_noticed_the_cancellation_has_failed() -> None:
    view = only([told(1, "run.cancelled", None), told(2, "started")])
    assert (view.status, view.started_at, view.completed_at, view.duration_ms) == ("failed", at(2), at(2), 0)


def test_stages_of_different_runs_are_kept_apart() -> None:
    events = [
        told(1, "started", run_id="r1"),
        told(2, "started", run_id="r2"),
        told(3, "run.cancelled", None, run_id="r2"),
        told(4, "succeeded", run_id="r1"),
    ]
    assert [view.status for view in fold_stages(events)] == ["succeeded", "failed"]


def test_stages_come_by_group_and_then_as_they_were_first_named() -> None:
    events = [
        told(1, "queued", "late", group_id="g10"),
        told(2, "queued", "z", group_id="g2"),
        told(3, "queued", "a", group_id="g2"),
        told(4, "queued", "first"),
    ]
    assert [view.stage_name for view in fold_stages(events)] == ["first", "z", "a", "late"]


GARBAGE = [None, True, -1, 0, 1.5, 10**15, 1e300, "", "x", [], [1, None], {}, {"a": []}]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("value", GARBAGE, ids=repr)
def test_garbage_in_a_payload_is_as_good_as_nothing(kind: str, value: object) -> None:
    names = ("stage_attempt", "duration_ms", "depends_on", "error", "reason", "stage_name", "group_id")
    view = only([told(1, "started"), told(2, kind, at_ms=5, **{name: value for name in names if name != "group_id"})])
    assert view.stage_attempt == 1
    assert isinstance(view.duration_ms, int | None)
    assert isinstance(view.error, str | None)
    assert all(isinstance(name, str) for name in view.depends_on)
    assert orjson.loads(orjson.dumps(view.to_dict())) == view.to_dict()


@pytest.mark.parametrize("raw", [b"[]", b"null", b"5", b"{", b"\xff"])
def test_a_payload_that_is_none_is_passed_over(raw: bytes) -> None:
    broken = Event(T0, 1, Body("stage.failed", raw, "r1", "main", "build"))
    assert only([broken]).status == "failed"


def test_a_view_survives_its_wire_form() -> None:
    view = only([told(1, "queued", depends_on=["a"]), told(2, "failed", exit_code=1, error="e", stage_attempt=2)])
    wire = view.to_dict()
    assert StageView.from_dict(wire) == view
    assert list(wire) == [
        *("stage_name", "status", "stage_attempt", "group_id", "depends_on", "queued_at", "started_at"),
        *("completed_at", "duration_ms", "exit_code", "error", "reason"),
    ]
    assert wire["reason"] is None


@pytest.mark.parametrize("data", [{}, {"stage_name": "a"}, {"stage_name": "a", "status": "odd"}, {"status": "failed"}])
def test_a_view_without_name_or_status_is_refused(data: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        StageView.from_dict(data)


VALUES = st.none() | st.integers(-2, 5) | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=3)
PAYLOADS = st.dictionaries(
    st.sampled_from(["stage_attempt", "duration_ms", "exit_code", "error", "reason", "status", "success"]),
    VALUES | st.booleans() | st.lists(VALUES, max_size=2),
    max_size=4,
)
HISTORIES = st.lists(
    st.tuples(
        st.sampled_from([f"stage.{kind}" for kind in KINDS] * 4 + ["run.cancelled", "run.finished", "a"]),
        st.sampled_from(["a", "b", "c"]),
        st.sampled_from([None, "g0", "g1", "g2"]),
        st.integers(0, 900),
        PAYLOADS,
    ),
    max_size=14,
)


def history(parts: Iterable[tuple[str, str, str | None, int, dict[str, Any]]]) -> list[Event]:
    events, ms = [], T0
    for offset, (kind, stage, group, later_ms, payload) in enumerate(parts, 1):
        ms += later_ms
        body = Body.of(kind, payload, run_id="r1", stage_name=stage if kind != "a" else None, group_id=group)
        events.append(Event(ms, offset, body, offset))
    return events


@given(HISTORIES, st.randoms(use_true_random=False))
@settings(max_examples=examples(300), deadline=None)
def test_any_shuffling_with_repetitions_folds_to_the_same(parts: Any, chance: random.Random) -> None:
    events = history(parts)
    shuffled = events + chance.sample(events, len(events) // 2)
    chance.shuffle(shuffled)
    assert fold_stages(shuffled) == fold_stages(events)


@given(HISTORIES, st.integers(0, 14))
@settings(max_examples=examples(300), deadline=None)
def test_a_suffix_agrees_on_the_stages_whose_events_are_all_there(parts: Any, cut: int) -> None:
    events = history(parts)
    cut_off = {event.stage_name for event in events[:cut] if event.kind.startswith("stage.")}
    if any(event.is_terminal for event in events[:cut]):
        return
    rest = {view.stage_name: view for view in fold_stages(events[cut:])}
    for view in fold_stages(events):
        if view.stage_name not in cut_off:
            assert rest[view.stage_name] == view


@given(HISTORIES)
@settings(max_examples=examples(300), deadline=None)
def test_a_view_makes_sense_whatever_it_was_made_of(parts: Any) -> None:
    for view in fold_stages(history(parts)):
        assert (view.completed_at is not None) == (view.status in ("succeeded", "failed", "skipped"))
        times = [time for time in (view.queued_at, view.started_at, view.completed_at) if time is not None]
        assert view.started_at is None or view.completed_at is None or view.started_at <= view.completed_at
        assert all(time >= 0 for time in times)
        assert view.duration_ms is None or (view.duration_ms >= 0 and view.completed_at is not None)
        assert StageView.from_dict(view.to_dict()) == view


@given(HISTORIES)
@settings(max_examples=examples(200), deadline=None)
def test_an_end_stands_until_a_higher_attempt_however_the_story_goes_on(parts: Any) -> None:
    events = [event for event in history(parts) if not event.is_terminal]
    before: dict[str, StageView] = {}
    for n in range(len(events) + 1):
        now = {view.stage_name: view for view in fold_stages(events[:n])}
        for name, view in before.items():
            if view.status in ("succeeded", "failed", "skipped") and now[name].stage_attempt == view.stage_attempt:
                assert (now[name].status, now[name].completed_at) == (view.status, view.completed_at)
            assert now[name].stage_attempt >= view.stage_attempt
        before = now


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ([told(1, "started").to_dict()], "read it with Event.from_dict"),
        (["stage.started"], "holds a str"),
        ([told(1, "started"), None], "holds a NoneType"),
        ({"events": []}, "not a dict"),
        ("stage.started", "not a str"),
        (5, "not a int"),
    ],
)
def test_what_is_no_event_is_refused_with_the_way_to_make_one(given: Any, problem: str) -> None:
    with pytest.raises(InvalidInput, match=f"^events: .*{problem}"):
        fold_stages(given)


def test_events_read_from_their_wire_form_fold_alike() -> None:
    events = [told(1, "started", stage_attempt=1), told(2, "succeeded", stage_attempt=1)]
    assert fold_stages([Event.from_dict(event.to_dict()) for event in events]) == fold_stages(events)

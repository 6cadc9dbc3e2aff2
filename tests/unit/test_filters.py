"""Filters as predicates."""

from typing import Any

import pytest

from eventlog import Event
from eventlog.errors import InvalidInput
from eventlog.model import Body, EventFilter
from eventlog.model.events import TERMINAL_KINDS
from eventlog.model.filters import FILTER_NAMES, Filters


def event(kind: str = "tool.invoked", **parts: str) -> Event:
    return Event(1, 1, Body.of(kind, **parts), 1 if "run_id" in parts else None)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("kind", "passes"),
    [
        ("tool.invoked", True),
        ("tool.*", True),
        ("tool*", True),
        ("*", True),
        (["other", "tool.invoked"], True),
        (["other", "tool.*"], True),
        ([], True),
        (None, True),
        ("tool", False),
        ("tool.invoked.*", False),
        ("Tool.*", False),
        (["other", "x.*"], False),
    ],
)
def test_a_kind_is_exact_or_a_prefix_and_any_of_several(kind: str | list[str] | None, passes: bool) -> None:
    assert EventFilter.of(kind=kind).matcher()(event()) is passes


@pytest.mark.parametrize(
    ("ceiling", "seen"),
    [
        ("public", ["public"]),
        ("internal", ["public", "internal"]),
        ("private", ["public", "internal", "private"]),
        (None, ["public", "internal", "private"]),
    ],
)
def test_visibility_is_a_ceiling(ceiling: str | None, seen: list[str]) -> None:
    matches = EventFilter.of(visibility=ceiling).matcher()
    assert [level for level in ("public", "internal", "private") if matches(event(visibility=level))] == seen


def test_all_conditions_must_hold() -> None:
    wanted = EventFilter.of(kind="tool.*", run_id="r", lane_id="l", stage_name="s", visibility="public")
    right = {"run_id": "r", "lane_id": "l", "stage_name": "s"}
    assert wanted.matcher()(event(**right))
    for wrong in ({"run_id": "q"}, {"lane_id": "q"}, {"stage_name": "q"}, {"visibility": "private"}, {"kind": "x"}):
        assert not wanted.matcher()(event(**{**right, **wrong}))
    assert not wanted.matcher()(event())


def test_a_filter_knows_what_it_is() -> None:
    assert EventFilter.of().passes_all
    assert EventFilter.of(visibility="private").passes_all
    assert not EventFilter.of(kind="a").passes_all
    assert EventFilter.of(run_id="r").only_run
    assert not EventFilter.of(run_id="r", lane_id="l").only_run


def test_the_end_of_the_run_passes_a_filter_that_is_widened() -> None:
    wanted = EventFilter.of(kind="a", run_id="r").with_terminal_events()
    assert all(wanted.matcher()(event(kind, run_id="r")) for kind in TERMINAL_KINDS)
    assert not wanted.matcher()(event("b", run_id="r"))
    assert not wanted.matcher()(event("run.finished", run_id="q"))
    assert EventFilter.of(run_id="r").with_terminal_events() == EventFilter.of(run_id="r")
    hidden = EventFilter.of(kind="a", run_id="r", visibility="internal").with_terminal_events()
    assert not hidden.matcher()(event("run.finished", run_id="r", visibility="private"))


@pytest.mark.parametrize(
    ("field", "given"),
    [("kind", {"kind": "a**"}), ("kind", {"kind": 5}), ("run_id", {"run_id": 5}), ("visibility", {"visibility": "x"})],
)
def test_a_bad_condition_is_named(field: str, given: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput) as refused:
        EventFilter.of(**given)
    assert refused.value.field == field


def test_every_place_that_names_the_filters_has_those_of_the_table() -> None:
    assert set(Filters.__annotations__) == set(FILTER_NAMES)
    assert EventFilter._fields == (*FILTER_NAMES, "or_ends_run")


def test_a_filter_lists_the_conditions_that_are_set() -> None:
    wanted = EventFilter.of(kind=["a", "b.*"], visibility="private", since_seq=0, stage_name="", run_id=None)
    assert [(field.name, value) for field, value in wanted.conditions()] == [("kind", ("a", "b.*")), ("stage_name", "")]


def test_an_unknown_filter_is_refused() -> None:
    with pytest.raises(TypeError, match="there is no filter 'lane'; there are kind, run_id"):
        EventFilter.of(lane="x")  # type: ignore[call-arg]

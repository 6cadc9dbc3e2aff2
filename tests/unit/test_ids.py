"""Event ids and cursors."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventlog.errors import InvalidInput
from eventlog.model import Cursor, EventId
from eventlog.model.ids import MAX_COUNTER, parse_cursor

COUNTERS = st.integers(0, MAX_COUNTER)


@given(ms=COUNTERS, offset=COUNTERS)
def test_an_id_survives_being_written_and_read(ms: int, offset: int) -> None:
    assert EventId.parse(str(EventId(ms, offset))) == (ms, offset)
    assert parse_cursor(f"{ms}-{offset}") == Cursor(ms, offset)
    assert parse_cursor(str(Cursor(ms, offset))) == Cursor(ms, offset)
    assert parse_cursor(str(Cursor(None, offset))) == Cursor(None, offset)


@given(st.tuples(COUNTERS, COUNTERS), st.tuples(COUNTERS, COUNTERS))
def test_ids_sort_by_time_then_offset(one: tuple[int, int], two: tuple[int, int]) -> None:
    assert (EventId(*one) < EventId(*two)) == (one < two)


@given(offset=COUNTERS)
def test_an_offset_is_a_cursor_as_a_number_and_as_a_string(offset: int) -> None:
    assert parse_cursor(offset) == parse_cursor(str(offset)) == Cursor(None, offset)


@given(st.text())
def test_any_other_text_is_refused_by_name(text: str) -> None:
    if re.fullmatch(r"[0-9]{1,15}(-[0-9]{1,15})?", text):
        assert [int(part) for part in text.split("-")] == [n for n in parse_cursor(text) or () if n is not None]
    else:
        with pytest.raises(InvalidInput) as refused:
            parse_cursor(text, "until")
        assert refused.value.field == "until"


@given(st.one_of(st.floats(), st.binary(), st.booleans(), st.lists(st.integers()), st.integers(max_value=-1)))
def test_any_other_value_is_refused(value: object) -> None:
    with pytest.raises(InvalidInput):
        parse_cursor(value)


def test_a_cursor_may_be_given_in_every_form_that_names_a_position() -> None:
    class Named:
        id = "5-4"

    assert parse_cursor(None) is None
    assert parse_cursor(Cursor(None, 4)) == Cursor(None, 4)
    assert parse_cursor(EventId(5, 4)) == parse_cursor("5-4") == parse_cursor(Named()) == Cursor(5, 4)


@pytest.mark.parametrize("text", ["0", "0-0", "00"])
def test_zero_means_nothing_seen_yet(text: str) -> None:
    cursor = parse_cursor(text)
    assert cursor is not None
    assert cursor.nothing_seen


@pytest.mark.parametrize("text", ["1", "0-1", "1-0", "5-5"])
def test_anything_else_means_something_was_seen(text: str) -> None:
    cursor = parse_cursor(text)
    assert cursor is not None
    assert not cursor.nothing_seen


def test_a_long_bad_value_is_not_repeated_in_full() -> None:
    with pytest.raises(InvalidInput) as refused:
        parse_cursor("x" * 10_000)
    assert len(str(refused.value)) < 200

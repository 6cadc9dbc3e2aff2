"""Bytes cut into lines: nothing lost in between, each bounded, and what is left out is counted exactly."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventlog.execution.lines import Line, LineSplitter

PLENTY = 1_000_000


def _fed(chunks: list[bytes], longest: int = 8192, room: int = PLENTY) -> tuple[list[Line], int]:
    splitter = LineSplitter(longest)
    lines, left_out = [], 0
    for chunk in chunks:
        some, more = splitter.feed(chunk, room)
        lines += some
        left_out += more
    last = splitter.end()
    return lines + ([last] if last is not None else []), left_out


@given(st.lists(st.binary(max_size=40)))
def test_lines_are_those_of_the_whole_however_it_comes_in_pieces(chunks: list[bytes]) -> None:
    whole = b"".join(chunks)
    expected = whole.split(b"\n")
    if expected[-1] == b"":
        expected.pop()
    assert [line.raw for line in _fed(chunks)[0]] == expected


@given(st.lists(st.binary(max_size=40)), st.integers(0, 5))
def test_every_completed_line_is_taken_or_counted(chunks: list[bytes], room: int) -> None:
    splitter = LineSplitter()
    taken = left_out = 0
    for chunk in chunks:
        lines, more = splitter.feed(chunk, room)
        assert len(lines) <= room
        taken += len(lines)
        left_out += more
    assert taken + left_out == b"".join(chunks).count(b"\n")


@given(st.lists(st.text("aß€😀\n").map(str.encode)), st.integers(4, 9))
def test_a_long_line_is_cut_between_characters_and_says_so(chunks: list[bytes], longest: int) -> None:
    expected = b"".join(chunks).split(b"\n")
    lines, _ = _fed(chunks, longest)
    for line, whole in zip(lines, expected, strict=False):
        assert line.truncated == (len(whole) > longest)
        assert whole.startswith(line.raw)
        assert len(line.raw) <= longest
        assert len(line.raw) > min(len(whole), longest) - 4
        line.raw.decode()


def test_after_a_long_line_the_next_is_whole_again() -> None:
    lines, _ = _fed([b"x" * 50, b"y" * 50 + b"\nshort\n"], longest=10)
    assert lines == [Line(b"x" * 10, True), Line(b"short", False)]


def test_a_line_of_exactly_the_bound_is_not_cut() -> None:
    assert _fed([b"x" * 10 + b"\n", b"y" * 5, b"y" * 5], longest=10)[0] == [
        Line(b"x" * 10, False),
        Line(b"y" * 10, False),
    ]


def test_without_room_the_line_under_way_survives() -> None:
    splitter = LineSplitter()
    assert splitter.feed(b"a\nb\nhal", 0) == ([], 2)
    assert splitter.feed(b"f\n", 1) == ([Line(b"half", False)], 0)


@pytest.mark.parametrize(
    ("raw", "text"),
    [(b"windows\r", "windows"), (b"\xff\xfe", "\\xff\\xfe"), ("grün".encode(), "grün"), (b"", ""), (b"\0", "\0")],
)
def test_the_text_of_a_line_holds_whatever_the_bytes_were(raw: bytes, text: str) -> None:
    assert Line(raw, False).text == text

"""Bytes cut into lines: whole however they come in pieces, and what is too long is left out and known."""

import tracemalloc

from hypothesis import given
from hypothesis import strategies as st

from eventlog.model.lines import LineCutter


def cut(chunks: list[bytes], longest: float = float("inf")) -> list[bytes | None]:
    cutter = LineCutter(longest)
    return [line for chunk in chunks for line in cutter.feed(chunk)] + cutter.end()


@given(st.lists(st.binary(max_size=20) | st.sampled_from([b"\n", b"\r\n", b"a\n\nb", b"\xe2\x80\xa8"])))
def test_lines_are_those_of_the_whole_however_it_comes_in_pieces(chunks: list[bytes]) -> None:
    expected = b"".join(chunks).split(b"\n")
    if expected[-1] == b"":
        expected.pop()
    assert cut(chunks) == expected


@given(st.lists(st.sampled_from([b"a", b"bc", b"\n", b"d\ne", b"fghij\n"])), st.integers(1, 6))
def test_none_stands_for_each_line_that_is_too_long(chunks: list[bytes], longest: int) -> None:
    assert cut(chunks, longest) == [line if line is not None and len(line) <= longest else None for line in cut(chunks)]


def test_a_line_comes_as_soon_as_its_end_is_there() -> None:
    cutter = LineCutter()
    assert cutter.feed(b"a\nb") == [b"a"]
    assert cutter.feed(b"") == []
    assert cutter.feed(b"\n") == [b"b"]
    assert cutter.end() == []


def test_a_line_that_is_too_long_takes_no_memory() -> None:
    cutter, chunk = LineCutter(100_000), b"x" * 64_000
    tracemalloc.start()
    try:
        for _ in range(1_000):
            cutter.feed(bytes(bytearray(chunk)))
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert taken < 300_000
    assert cutter.feed(b"\nb\n") == [None, b"b"]

"""Lines from a pipe in batches, without a process around them."""

import os
import threading
from collections.abc import Iterator

import pytest

from eventlog.cli import ndjson
from eventlog.cli.ndjson import Line, batches


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reading, writing = os.pipe()
    yield reading, writing
    os.close(reading)


def _feed(writing: int, raw: bytes) -> threading.Thread:
    def write() -> None:
        left = memoryview(raw)
        while left:
            left = left[os.write(writing, left) :]
        os.close(writing)

    thread = threading.Thread(target=write)
    thread.start()
    return thread


def test_lines_are_numbered_from_one_and_blank_ones_count_but_do_not_come(pipe: tuple[int, int]) -> None:
    _feed(pipe[1], b"a\n\xef\xbb\xbf\n  \r\nb\nc").join()
    assert [line for batch in batches(pipe[0]) for line in batch] == [Line(1, b"a"), Line(4, b"b"), Line(5, b"c")]


def test_what_came_before_a_pause_is_a_batch_of_its_own(pipe: tuple[int, int]) -> None:
    reader = batches(pipe[0])
    os.write(pipe[1], b"a\nb\nhalf")
    assert next(reader) == [Line(1, b"a"), Line(2, b"b")]
    os.write(pipe[1], b" a line\n")
    assert next(reader) == [Line(3, b"half a line")]
    os.close(pipe[1])
    assert list(reader) == []


def test_batches_are_bounded(pipe: tuple[int, int]) -> None:
    feeding = _feed(pipe[1], b"x\n" * 5000)
    sizes = [len(batch) for batch in batches(pipe[0])]
    feeding.join()
    assert sum(sizes) == 5000
    assert max(sizes) == 500


def test_a_line_that_is_too_long_is_dropped_while_it_is_read(
    pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ndjson, "LONGEST_LINE_BYTES", 100_000)
    feeding = _feed(pipe[1], b"a\n" + b"x" * 1_000_000 + b"\nb\n" + b"y" * 200_000)
    found = [line for batch in batches(pipe[0]) for line in batch]
    feeding.join()
    assert found == [Line(1, b"a"), Line(2, None), Line(3, b"b"), Line(4, None)]

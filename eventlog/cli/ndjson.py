"""Lines from a pipe, in batches: many where input is plenty, few where it trickles. Bounded in memory."""

import os
import select
from collections.abc import Iterator
from itertools import count
from typing import NamedTuple

from ..model.lines import LineCutter
from ..model.strictjson import is_blank

LONGEST_LINE_BYTES = 17 * 1024 * 1024
_BATCH_LINES = 500
_BATCH_BYTES = 512 * 1024
_CHUNK_BYTES = 64 * 1024


class Line(NamedTuple):
    """One line of input, counted from 1; `text` is None if it was too long to be kept."""

    number: int
    text: bytes | None


def batches(source: int) -> Iterator[list[Line]]:
    """Lines of the file descriptor `source`, blank ones left out; a batch ends when nothing more is ready."""
    batch: list[Line] = []
    size = 0
    for line in _lines(source):
        if line is not None:
            if line.text is not None and is_blank(line.text):
                continue
            batch.append(line)
            size += len(line.text or b"")
        if batch and (line is None or len(batch) == _BATCH_LINES or size >= _BATCH_BYTES):
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _lines(source: int) -> Iterator[Line | None]:
    """Every line, and None whenever the input pauses."""
    cutter = LineCutter(LONGEST_LINE_BYTES)
    numbers = count(1)
    while chunk := os.read(source, _CHUNK_BYTES):
        for text in cutter.feed(chunk):
            yield Line(next(numbers), text)
        if not select.select([source], [], [], 0)[0]:
            yield None
    for text in cutter.end():
        yield Line(next(numbers), text)

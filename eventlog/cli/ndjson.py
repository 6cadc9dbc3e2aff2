"""Lines from a pipe, in batches: many where input is plenty, few where it trickles. Bounded in memory."""

import os
import select
from collections.abc import Iterator
from typing import NamedTuple

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
            if line.text is not None and not line.text.strip():
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
    number = 0
    rest = bytearray()
    too_long = False
    while chunk := os.read(source, _CHUNK_BYTES):
        *ended, begun = chunk.split(b"\n")
        for end in ended:
            number += 1
            rest += end
            yield Line(number, None if too_long or len(rest) > LONGEST_LINE_BYTES else bytes(rest))
            rest.clear()
            too_long = False
        rest += begun
        if len(rest) > LONGEST_LINE_BYTES:
            too_long = True
            rest.clear()
        if not select.select([source], [], [], 0)[0]:
            yield None
    if rest or too_long:
        yield Line(number + 1, None if too_long else bytes(rest))

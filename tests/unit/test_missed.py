"""The decision what a reader missed, case by case."""

import pytest

from eventlog import Gap
from eventlog.log.reading import missed
from eventlog.model import Cursor, EventId, LogState
from eventlog.model.log_values import Segment

BORN = 1_000


def log(
    first: tuple[int, int] | None,
    last: tuple[int, int],
    following: tuple[int, int] | None,
    epoch: str = "e",
    *,
    holds: bool = False,
) -> Segment:
    """A log born at 1000 whose visible events go from `first` to `last`."""
    state = LogState(epoch, BORN, EventId(*last), first and EventId(*first), 99_999, 3_600_000, 10_000)
    return Segment(state, [], following and EventId(*following), True, None, holds)


WHOLE = log((1_001, 1), (1_010, 10), None)

CASES: dict[str, tuple[Cursor | None, str | None, Segment, Gap | None]] = {
    "no position, no gap": (None, None, log((1_005, 5), (1_010, 10), (1_005, 5)), None),
    "nothing seen of a whole log": (Cursor(None, 0), None, log((1_001, 1), (1_010, 10), (1_001, 1)), None),
    "nothing seen of a trimmed log": (
        *(Cursor(None, 0), None, log((1_005, 5), (1_010, 10), (1_005, 5))),
        Gap(4, 1, 4, "trimmed"),
    ),
    "nothing seen of an emptied log": (Cursor(0, 0), None, log(None, (1_010, 10), None), Gap(10, 1, 10, "trimmed")),
    "nothing seen of no log": (Cursor(None, 0), None, log(None, (0, 0), None, ""), None),
    "all seen": (Cursor(1_010, 10), "e", WHOLE, None),
    "all seen, known by offset": (Cursor(None, 10), None, WHOLE, None),
    "in the middle": (Cursor(1_004, 4), "e", log((1_001, 1), (1_010, 10), (1_005, 5), holds=True), None),
    "trimmed behind the cursor": (
        *(Cursor(1_004, 4), None, log((1_008, 8), (1_010, 10), (1_008, 8))),
        Gap(3, 5, 7, "trimmed"),
    ),
    "trimmed just up to the cursor": (Cursor(1_004, 4), None, log((1_005, 5), (1_010, 10), (1_005, 5)), None),
    "emptied behind the cursor": (Cursor(1_004, 4), None, log(None, (1_010, 10), None), Gap(6, 5, 10, "trimmed")),
    "emptied, all seen": (Cursor(1_010, 10), None, log(None, (1_010, 10), None), None),
    "no log any more": (Cursor(900, 4), "old", log(None, (0, 0), None, ""), Gap(0, 1, 0, "reset")),
    "older than the log's birth": (
        *(Cursor(900, 4), None, log((1_001, 1), (1_010, 10), (1_001, 1))),
        Gap(0, 1, 0, "reset"),
    ),
    "another epoch, and the new log lost some": (
        *(Cursor(900, 4), "old", log((1_005, 5), (1_010, 10), (1_005, 5))),
        Gap(4, 1, 4, "reset"),
    ),
    "another epoch, known by offset": (
        *(Cursor(None, 7), "old", log((1_001, 1), (1_010, 10), (1_001, 1))),
        Gap(0, 1, 0, "reset"),
    ),
    "another epoch, born in the millisecond of the cursor": (
        *(Cursor(BORN, 3), "old", log((BORN, 1), (1_010, 10), (BORN, 4))),
        Gap(0, 1, 0, "reset"),
    ),
    "another epoch of the same events, as only the counters were lost": (
        *(Cursor(1_001, 3), "old", log((1_001, 1), (1_010, 10), (1_001, 4), holds=True)),
        None,
    ),
    "an id beyond the end": (Cursor(2_000, 15), "e", WHOLE, Gap(10, 1, 10, "rollback")),
    "an offset beyond the end": (Cursor(None, 15), None, WHOLE, Gap(10, 1, 10, "rollback")),
    "offsets given out again": (
        *(Cursor(1_006, 8), "e", log((1_001, 1), (2_003, 9), (2_001, 7))),
        Gap(6, 1, 6, "rollback"),
    ),
    "overtaken after a rollback": (
        *(Cursor(1_006, 8), "e", log((1_001, 1), (2_030, 30), (2_001, 7))),
        Gap(6, 1, 6, "rollback"),
    ),
    "rolled back, and what came instead was trimmed": (
        *(Cursor(1_006, 8), "e", log((2_005, 7), (2_030, 30), (2_005, 7))),
        Gap(6, 1, 6, "rollback"),
    ),
    "a hole that no trimming makes": (
        *(Cursor(1_004, 4), "e", log((1_001, 1), (1_010, 10), (1_008, 8), holds=True)),
        Gap(3, 5, 7, "rollback"),
    ),
    "an offset that falls behind the cursor": (
        *(Cursor(1_006, 8), "e", log((1_001, 1), (2_003, 9), (2_001, 7), holds=True)),
        Gap(0, 7, 6, "rollback"),
    ),
    "two primaries: both gave out the same offsets": (
        *(Cursor(1_006, 8), "e", log((1_001, 1), (2_003, 12), (1_007, 9))),
        Gap(8, 1, 8, "rollback"),
    ),
    "two primaries: the other one gave out more": (
        *(Cursor(1_006, 8), "e", log((1_001, 1), (2_003, 30), (1_007, 21))),
        Gap(20, 1, 20, "rollback"),
    ),
    "two primaries: both logs end at one offset": (
        *(Cursor(1_009, 10), "e", WHOLE),
        Gap(10, 1, 10, "rollback"),
    ),
    "two primaries: the other log ended there, and all of it is gone": (
        *(Cursor(1_009, 10), "e", log(None, (1_010, 10), None)),
        Gap(10, 1, 10, "rollback"),
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_what_a_reader_missed(case: str) -> None:
    since, epoch, segment, gap = CASES[case]
    assert missed(since, epoch, segment) == gap

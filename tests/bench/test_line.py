"""Who stood in line, and who was served out of order."""

import pytest

from benchmarks.line import Granted, overtakers


@pytest.mark.parametrize(
    ("numbers", "count"),
    [
        ([0, 1, 2], 0),
        ([1, 0, 2], 1),
        ([2, 1, 0], 2),
        ([2, 0, 1], 1),
        ([0, 3, 1, 2, 3, 3], 1),
        ([0, 1, 2, 3, 3, 3], 0),
        ([], 0),
    ],
)
def test_who_is_served_while_an_earlier_one_waits_has_overtaken(numbers: list[int], count: int) -> None:
    assert overtakers([Granted(number, 0) for number in numbers]) == count

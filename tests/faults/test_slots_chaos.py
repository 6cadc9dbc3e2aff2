"""A short form of the chaos run; `python -m tests.faults.slot_chaos` is the long one."""

import os
import random

import pytest

from tests.faults.slot_chaos import check, run

pytestmark = pytest.mark.chaos


@pytest.mark.timeout(180)
@pytest.mark.parametrize("limit", [1, 2])
def test_processes_killed_and_stopped_at_random_keep_to_the_limit_and_the_order(limit: int) -> None:
    seed = int(os.environ.get("EVENTLOG_TEST_SEED", random.randrange(2**32)))
    print(f"EVENTLOG_TEST_SEED={seed}")
    figures = check(run(seed, limit=limit, seconds=8.0, signals=20))
    print(figures)
    assert figures["grants"] > 10

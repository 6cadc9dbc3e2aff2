"""The scripts run unchanged on fakeredis, so a user's tests may use it: a part of the contract, with each script in it.

Slots are left out: on fakeredis, a client that blocks on a list is not served first come, first served.
"""

from collections.abc import Iterator

import pytest

from tests.contract.colours import Colour
from tests.contract.test_append import *  # noqa: F403
from tests.contract.test_gaps import test_cleared_events_are_counted  # noqa: F401
from tests.contract.test_idempotency import *  # noqa: F403
from tests.contract.test_reading import test_since_time_begins_at_the_first_event_of_that_instant  # noqa: F401
from tests.contract.test_retention import (  # noqa: F401
    test_clear_empties_the_log_and_keeps_the_counters,
    test_the_log_keeps_exactly_max_entries,
)
from tests.contract.test_runs import test_pages_of_a_replay_join_without_a_hole  # noqa: F401
from tests.contract.test_stages import test_a_block_that_ends_well_has_started_and_succeeded  # noqa: F401
from tests.contract.test_state import test_a_sound_log_is_clean_at_every_age  # noqa: F401
from tests.contract.worlds import RedisWorld, fake_redis

# Ten thousand events in one script take an interpreter that is written in Python longer than a call's deadline.
del test_a_big_batch_is_one_append  # noqa: F821


@pytest.fixture(scope="module")
def fakeredis_url() -> Iterator[str]:
    """One fakeredis for all tests here."""
    with fake_redis() as url:
        yield url


@pytest.fixture
def world(fakeredis_url: str, key_prefix: str) -> Iterator[RedisWorld]:
    """Where the logs of this test live."""
    here = RedisWorld("fakeredis", "sync", fakeredis_url, key_prefix)
    yield here
    here.close()


@pytest.fixture
def log(world: RedisWorld) -> Colour:
    """A log with default retention."""
    return world.open()

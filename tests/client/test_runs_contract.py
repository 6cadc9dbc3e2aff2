"""What a log promises of stages, lanes, telemetry and content holds through a server too, by the very same tests."""

from tests.contract.test_guard import *  # noqa: F403
from tests.contract.test_lanes import *  # noqa: F403
from tests.contract.test_stages import *  # noqa: F403
from tests.contract.test_telemetry import *  # noqa: F403

# These are of processes and workspaces straight on Redis.
del test_an_attempt_counts_on_from_a_process_that_was_killed_in_it  # noqa: F821
del test_lanes_filled_by_processes_are_dense_in_order_and_merge_alike  # noqa: F821
del test_logs_of_several_workspaces_make_one_stream  # noqa: F821
del test_processes_that_start_one_stage_at_once_have_an_attempt_each  # noqa: F821
# The warning is the server's, which has several of them told at once.
del test_an_event_with_hidden_chain_of_thought_is_refused_and_warned_about  # noqa: F821

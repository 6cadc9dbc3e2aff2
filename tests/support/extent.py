"""How much the suite tries: enough for every change by default, all it has where `EVENTLOG_TEST_FULL` is set.

`.ci/run` sets it. Then tests marked `chaos` run too, and properties are tried with all their examples.
"""

import os

FULL = os.environ.get("EVENTLOG_TEST_FULL", "") not in {"", "0"}


def examples(in_full: int) -> int:
    """How many examples a property is tried with: `in_full`, or a fifth of them."""
    return in_full if FULL else max(5, in_full // 5)

"""The contests, in the order in which they are reported. One kind of caller a module."""

from ..contest import Contest
from . import (
    batches,
    dispatch,
    follower,
    http,
    one_caller,
    slot_drain,
    slot_handoff,
    slot_killed,
    slot_order,
    slot_pairs,
    slot_tasks,
    tasks,
    threads,
)

CONTESTS: tuple[Contest, ...] = (
    *one_caller.CONTESTS,
    *tasks.CONTESTS,
    *threads.CONTESTS,
    *batches.CONTESTS,
    *http.CONTESTS,
    *follower.CONTESTS,
    *dispatch.CONTESTS,
    *slot_pairs.CONTESTS,
    *slot_tasks.CONTESTS,
    *slot_handoff.CONTESTS,
    *slot_order.CONTESTS,
    *slot_killed.CONTESTS,
    *slot_drain.CONTESTS,
)

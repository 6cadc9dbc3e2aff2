"""The contests, in the order in which they are reported. One kind of caller a module."""

from ..contest import Contest
from . import batches, follower, http, one_caller, tasks, threads

CONTESTS: tuple[Contest, ...] = (
    *one_caller.CONTESTS,
    *tasks.CONTESTS,
    *threads.CONTESTS,
    *batches.CONTESTS,
    *http.CONTESTS,
    *follower.CONTESTS,
)

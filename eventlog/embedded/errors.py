"""The one error of the embedded Redis."""

from ..errors import EventLogError


class EmbeddedRedisError(EventLogError):
    """The embedded Redis cannot be found, started or configured.

    `log_tail` holds the last lines of its log where there are any, else "".
    """

    def __init__(self, problem: str, *, log_tail: str = "") -> None:
        self.problem = problem
        self.log_tail = log_tail
        super().__init__(f"{problem}\nThe end of its log:\n{log_tail}" if log_tail else problem)

"""Short ways to open the logs that fault tests use."""

from eventlog import create_async_event_log, create_event_log
from eventlog.log.awaited import AsyncEventLog
from eventlog.log.blocking import EventLog

ROOMY = 1_000_000


def open_log(url: str, deadline_s: float = 5.0, max_entries: int = ROOMY) -> EventLog:
    """A blocking log that keeps all that a test appends."""
    return create_event_log("redis", url=url, workspace="w1", deadline_seconds=deadline_s, max_entries=max_entries)


def open_async_log(url: str, deadline_s: float = 5.0, max_entries: int = ROOMY) -> AsyncEventLog:
    """The asyncio twin."""
    return create_async_event_log(
        "redis", url=url, workspace="w1", deadline_seconds=deadline_s, max_entries=max_entries
    )

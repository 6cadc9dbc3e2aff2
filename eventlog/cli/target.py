"""Which log a command works on: through a server, straight on a Redis, or on the embedded one."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from ..config import SERVER_SCHEMES, EventLogConfig
from ..errors import InvalidInput
from ..log.blocking import EventLog
from ..model.texts import shown_url
from ..slots.blocking import SlotQueue

if TYPE_CHECKING:
    from ..factory import LogOptions

REDIS_SCHEMES = ("redis://", "rediss://", "unix://")
_URL_VARIABLE = "EVENTLOG_URL"


class Target(NamedTuple):
    """Where a log is: `server` is the URL of an HTTP server, None for straight on Redis."""

    server: str | None
    config: EventLogConfig

    def open_log(self) -> EventLog:
        """Open the log, starting the embedded Redis where that is meant. Close it."""
        from ..factory import create_event_log

        return create_event_log(**self._options())

    def open_slots(self) -> SlotQueue:
        """Open the slot queues of the workspace. Close them."""
        from ..factory import create_slot_queue

        return create_slot_queue(**self._options())

    def _options(self) -> "LogOptions":
        config = self.config
        if self.server is None:
            return {"config": config}
        return {"url": self.server, "workspace": config.workspace, "deadline_seconds": config.deadline_seconds}


def find_target(
    url: str | None = None,
    workspace: str | None = None,
    data_dir: Path | None = None,
    environ: Mapping[str, str] | None = None,
) -> Target:
    """What was given wins over the environment; raises `InvalidInput` naming what is wrong."""
    environ = os.environ if environ is None else environ
    if url is not None and data_dir is not None:
        raise InvalidInput("data_dir", "is of the embedded Redis: give it or a URL, not both")
    if url is None and data_dir is None:
        url = environ.get(_URL_VARIABLE) or None
        named = _URL_VARIABLE
    else:
        named = "url"
    server = None
    if url is not None and url.lower().startswith(SERVER_SCHEMES):
        server, url = url, None
    elif url is not None and not url.lower().startswith(REDIS_SCHEMES):
        known = ", ".join((*SERVER_SCHEMES, *REDIS_SCHEMES))
        raise InvalidInput(named, f"{shown_url(url)[:60]!r} does not begin with one of {known}")
    try:
        if server is not None:
            from ..client.address import checked_url

            checked_url(server)
        config = EventLogConfig.load(
            environ=environ, backend="redis", workspace=workspace, redis_url=url, data_dir=data_dir
        )
    except InvalidInput as error:
        if error.field not in ("url", "redis_url"):
            raise
        raise InvalidInput(named, error.problem) from error
    return Target(server, config)

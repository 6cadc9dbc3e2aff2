"""The server's settings: names, defaults, and the environment. The log's own are in `eventlog.config`."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from eventlog.config import EventLogConfig
from eventlog.settings import Settings, setting

from .hosts import checked_hosts


@dataclass(frozen=True, kw_only=True, repr=False)
class ServerSettings(Settings):
    """Bounds and times of one server. Times are seconds, sizes bytes.

    `request_deadline_s` bounds Redis within one request: the answer, a 503 if need be, comes a little later at
    the latest.
    """

    host: str = "127.0.0.1"
    port: int = setting(8707, least=0, most=65535)
    allowed_hosts: tuple[str, ...] = setting((), check=checked_hosts)
    body_max_bytes: int = setting(1024 * 1024, least=1024, most=256 * 1024 * 1024)
    batch_max_events: int = setting(1000, least=1, most=10_000)
    heartbeat_s: float = setting(15.0, least=0.05, most=3600)
    send_timeout_s: float = setting(30.0, least=0.1, most=3600)
    receive_timeout_s: float = setting(30.0, least=0.1, most=3600)
    follower_buffer: int = setting(1000, least=1, most=1_000_000)
    held_max_bytes: int = setting(64 * 1024 * 1024, least=1024 * 1024, most=2**40)
    connections_max: int = setting(12_000, least=1, most=1_000_000)
    streams_max: int = setting(10_000, least=1, most=1_000_000)
    workspaces_max: int = setting(1000, least=1, most=1_000_000)
    request_deadline_s: float = setting(1.5, least=0.1, most=60)
    grace_s: float = setting(5.0, least=0.1, most=600)
    access_log: bool = False
    completions: bool = True
    log: EventLogConfig = field(default_factory=EventLogConfig)

    @classmethod
    def load(cls, *, environ: Mapping[str, str] | None = None, log: EventLogConfig | None = None, **given: Any) -> Self:
        """Read `EVENTLOG_HOST`, `EVENTLOG_PORT` and so on; `given` wins, except for what is None.

        `log` is read from the environment too unless given. Raises `InvalidInput` naming the variable that is wrong.
        """
        environ = os.environ if environ is None else environ
        return cls.load_from(environ, {**given, "log": log or EventLogConfig.load(environ=environ)}, {})

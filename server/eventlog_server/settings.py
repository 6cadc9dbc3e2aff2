"""The server's settings: names, defaults, and the environment. The log's own are in `eventlog.config`."""

import os
from collections.abc import Mapping
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from eventlog.config import ENV_PREFIX, EventLogConfig, wrong_setting


class ServerSettings(BaseModel):
    """Bounds and times of one server. Times are seconds, sizes bytes.

    `request_deadline_s` bounds Redis within one request: the answer, a 503 if need be, comes a little later at
    the latest.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    host: str = "127.0.0.1"
    port: int = Field(default=8707, ge=0, le=65535)
    body_max_bytes: int = Field(default=1024 * 1024, ge=1024, le=256 * 1024 * 1024)
    batch_max_events: int = Field(default=1000, ge=1, le=10_000)
    heartbeat_s: float = Field(default=15.0, ge=0.05, le=3600)
    send_timeout_s: float = Field(default=30.0, ge=0.1, le=3600)
    receive_timeout_s: float = Field(default=30.0, ge=0.1, le=3600)
    follower_buffer: int = Field(default=1000, ge=1, le=1_000_000)
    streams_max: int = Field(default=10_000, ge=1, le=1_000_000)
    workspaces_max: int = Field(default=1000, ge=1, le=1_000_000)
    request_deadline_s: float = Field(default=1.5, ge=0.1, le=60)
    grace_s: float = Field(default=5.0, ge=0.1, le=600)
    access_log: bool = False
    completions: bool = True
    log: EventLogConfig = Field(default_factory=EventLogConfig)

    @classmethod
    def load(cls, *, environ: Mapping[str, str] | None = None, log: EventLogConfig | None = None, **given: Any) -> Self:
        """Read `EVENTLOG_HOST`, `EVENTLOG_PORT` and so on; `given` wins, except for what is None.

        `log` is read from the environment too unless given. Raises `InvalidInput` naming the variable that is wrong.
        """
        environ = os.environ if environ is None else environ
        variables = {
            name: environ[ENV_PREFIX + name.upper()]
            for name in cls.model_fields
            if name != "log" and environ.get(ENV_PREFIX + name.upper())
        }
        given = {name: value for name, value in given.items() if value is not None}
        log = EventLogConfig.load(environ=environ) if log is None else log
        try:
            return cls(**{**variables, **given}, log=log)
        except ValidationError as error:
            raise wrong_setting(error, variables.keys() - given.keys()) from error

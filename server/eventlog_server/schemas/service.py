"""What the server says of itself and of its workspaces."""

from typing import Annotated

from pydantic import BaseModel, Field

from eventlog.model.ids import WORKSPACE_PATTERN

from .base import WHOLE, Absent, Query


class WorkspaceOut(BaseModel):
    """One workspace that has a log."""

    workspace: str
    last_offset: int
    last_activity: float = Field(description="Seconds since the Unix epoch.")
    length: int
    bytes: int | None
    epoch: str | None


class WorkspacesQuery(Query):
    """The query of a page of workspaces."""

    limit: Annotated[int, Field(ge=1, le=1000), WHOLE] = Field(default=1000, description="At most so many.")
    after: Annotated[str, Field(pattern=f"^{WORKSPACE_PATTERN}$")] | Absent = Field(
        default=None, description="Only workspaces whose names come after this one: the `cursor` of a page."
    )


class WorkspacesOut(BaseModel):
    """Workspaces that have a log, the latest active first. Pass `cursor` as `after` to go on."""

    workspaces: list[WorkspaceOut]
    cursor: str | None = Field(description="Up to which name this page goes.")
    at_end: bool


class Persistence(BaseModel):
    """What Redis keeps on disk. `fsync` is null without an append-only file, or where it may not be read."""

    aof: bool
    fsync: str | None
    rdb: str | None


class RedisOut(BaseModel):
    """The Redis under the logs."""

    name: str
    version: str
    role: str
    persistence: Persistence
    maxmemory_bytes: int
    maxmemory_policy: str
    used_memory_bytes: int


class Ready(BaseModel):
    """The server can append and read; `warnings` say what may cost events."""

    ready: bool
    backend: str
    redis: RedisOut | None
    warnings: list[str]


class Alive(BaseModel):
    """The server's process lives."""

    ok: bool
    version: str

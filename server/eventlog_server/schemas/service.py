"""What the server says of itself and of its workspaces."""

from typing import Literal

from pydantic import BaseModel, Field


class WorkspaceOut(BaseModel):
    """One workspace that has a log."""

    workspace: str
    last_offset: int
    last_activity: float = Field(description="Seconds since the Unix epoch.")
    length: int
    bytes: int | None
    epoch: str | None


class WorkspacesOut(BaseModel):
    """Every workspace that has a log, the latest active first."""

    workspaces: list[WorkspaceOut]


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

    ready: Literal[True]
    backend: str
    redis: RedisOut | None
    warnings: list[str]


class Alive(BaseModel):
    """The server's process lives."""

    ok: Literal[True]
    version: str

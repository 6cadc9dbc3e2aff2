"""Opens a log, or slot queues, of any backend: redis, memory, disabled, or http (through a server)."""

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, TypedDict, Unpack

from .config import EventLogConfig
from .embedded import EmbeddedRedis
from .errors import InvalidInput
from .log.awaited import AsyncDirectLog, AsyncEventLog
from .log.blocking import DirectLog, EventLog
from .log.disabled import DisabledBackend
from .log.limits import LogLimits
from .log.memory import MemoryBackend
from .log.protocol import Backend
from .log.redis import RedisBackend
from .slots.awaited import AsyncSlotQueue
from .slots.blocking import SlotQueue
from .store.keys import WorkspaceKeys
from .store.links import AsyncLink, SyncLink

_log = logging.getLogger("eventlog")

_BACKENDS = {
    "memory": "memory",
    "redis": "redis",
    "disabled": "disabled",
    "off": "disabled",
    "none": "disabled",
}
SERVER_SCHEMES = ("http://", "https://")
_CLIENT_OPTIONS = ("workspace", "deadline_seconds")


class LogOptions(TypedDict, total=False):
    """Settings of `create_event_log`, as `EventLogConfig` has them; what is not given comes from `EVENTLOG_*`."""

    workspace: str
    ttl_seconds: float
    max_entries: int
    idempotency_window_seconds: float
    payload_max_bytes: int
    deadline_seconds: float
    telemetry_samples: int
    telemetry_grace_seconds: float
    key_prefix: str
    data_dir: Path
    refused_fields: tuple[str, ...]
    redact: bool
    redact_fields: tuple[str, ...]
    redact_patterns: tuple[str, ...]


def create_event_log(
    backend: str | None = None,
    *,
    url: str | None = None,
    config: EventLogConfig | None = None,
    clock: Callable[[], float] = time.time,
    **options: Unpack[LogOptions],
) -> EventLog:
    """Open a workspace's log: `redis`, `memory` or `disabled` (also `off`, `none`), or `http`: through a server.

    Without a `backend` the `url` decides: `http://` and `https://` are a server, another one is a Redis, none is
    memory. An unknown name falls back to memory with a warning. `redis` without a `url`, here or in
    `EVENTLOG_REDIS_URL`, starts or shares the embedded Redis. `clock` (seconds since the Unix epoch) is for `memory`.

    Behind a server only `workspace` and `deadline_seconds` are the client's to choose; other options are refused.
    With `config`, that alone counts; beside the `url` of a server it gives these two.
    """
    server = _server(backend, url, config, options)
    if server is not None:
        from .client.blocking import EventLogClient

        return EventLogClient(**server)
    parts = _parts(_named(backend, url, "memory"), url, config, clock, options)
    return DirectLog(
        parts.backend,
        workspace=parts.config.workspace,
        limits=parts.limits,
        guard=parts.config.guard,
        connect=_sync_links(parts.url),
        on_close=parts.on_close,
    )


def create_async_event_log(
    backend: str | None = None,
    *,
    url: str | None = None,
    config: EventLogConfig | None = None,
    clock: Callable[[], float] = time.time,
    **options: Unpack[LogOptions],
) -> AsyncEventLog:
    """The asyncio twin of `create_event_log`. Starting the embedded Redis blocks for a moment; a `url` never does."""
    server = _server(backend, url, config, options)
    if server is not None:
        from .client.awaited import AsyncEventLogClient

        return AsyncEventLogClient(**server)
    parts = _parts(_named(backend, url, "memory"), url, config, clock, options)
    return AsyncDirectLog(
        parts.backend,
        workspace=parts.config.workspace,
        limits=parts.limits,
        guard=parts.config.guard,
        connect=_async_links(parts.url),
        on_close=parts.on_close,
    )


def create_slot_queue(
    backend: str | None = None,
    *,
    url: str | None = None,
    config: EventLogConfig | None = None,
    clock: Callable[[], float] = time.time,
    **options: Unpack[LogOptions],
) -> SlotQueue:
    """Open a workspace's slot queues, as `create_event_log` opens its log: same settings, same Redis, same server.

    Without a `backend` and a `url` they are on the embedded Redis. `memory` keeps a limit within this one object,
    `disabled` keeps none. Another name is no backend and raises `InvalidInput`: a limit that is not kept must not look
    like one. Beside a log that is open already, `log.slots()` shares its connections.
    """
    server = _server(backend, url, config, options)
    if server is not None:
        from .client.slots_blocking import RemoteSlots

        return RemoteSlots(**server)  # type: ignore[return-value]
    parts = _parts(_named(backend, url, "redis"), url, config, clock, options, fallback=False)
    return SlotQueue(
        parts.backend.slots(),
        workspace=parts.config.workspace,
        connect=_sync_links(parts.url),
        on_close=parts.on_close,
    )


def create_async_slot_queue(
    backend: str | None = None,
    *,
    url: str | None = None,
    config: EventLogConfig | None = None,
    clock: Callable[[], float] = time.time,
    **options: Unpack[LogOptions],
) -> AsyncSlotQueue:
    """The asyncio twin of `create_slot_queue`."""
    server = _server(backend, url, config, options)
    if server is not None:
        from .client.slots_awaited import AsyncRemoteSlots

        return AsyncRemoteSlots(**server)  # type: ignore[return-value]
    parts = _parts(_named(backend, url, "redis"), url, config, clock, options, fallback=False)
    return AsyncSlotQueue(
        parts.backend.slots(),
        workspace=parts.config.workspace,
        connect=_async_links(parts.url),
        on_close=parts.on_close,
    )


class _Server(TypedDict):
    url: str
    workspace: str
    deadline_s: float


class _Parts(NamedTuple):
    backend: Backend
    limits: LogLimits
    config: EventLogConfig
    url: str | None
    on_close: Callable[[], None] | None


def _named(backend: str | None, url: str | None, default: str) -> str:
    if backend is not None:
        return backend
    return default if url is None else "redis"


def _server(backend: str | None, url: str | None, config: EventLogConfig | None, options: LogOptions) -> _Server | None:
    """The server that is meant, None if none is; raises `InvalidInput` for what only a backend of one's own takes."""
    is_server = url is not None and url.lower().startswith(SERVER_SCHEMES)
    named = backend if config is None else config.backend
    if named is not None and named.lower() == "http" and not is_server:
        raise InvalidInput("url", f"the backend 'http' needs one that begins with {' or '.join(SERVER_SCHEMES)}")
    if backend is not None and backend.lower() != "http" and is_server:
        raise InvalidInput("url", f"is that of a server: with the backend {backend!r} it cannot be used")
    if url is None or not is_server:
        return None
    for name in options:
        if name not in _CLIENT_OPTIONS:
            raise InvalidInput(name, "is for the server to decide; a client has workspace and deadline_seconds")
    if config is None:
        config = EventLogConfig.load(**options)
    return {"url": url, "workspace": config.workspace, "deadline_s": config.deadline_seconds}


def _sync_links(url: str | None) -> Callable[[int], SyncLink] | None:
    return None if url is None else lambda size: SyncLink(url, size)


def _async_links(url: str | None) -> Callable[[int], AsyncLink] | None:
    return None if url is None else lambda size: AsyncLink(url, size)


def _parts(
    name: str,
    url: str | None,
    config: EventLogConfig | None,
    clock: Callable[[], float],
    options: LogOptions,
    *,
    fallback: bool = True,
) -> _Parts:
    if config is None:
        if "redis_url" in options:
            raise InvalidInput("redis_url", "is given as url")
        config = EventLogConfig.load(backend=name, redis_url=url, **options)
    kind = _BACKENDS.get(config.backend.lower())
    if kind is None:
        known = ", ".join((*_BACKENDS, "http"))
        if not fallback:
            raise InvalidInput("backend", f"{config.backend!r} is none of {known}")
        _log.warning("unknown backend %r; using memory (known: %s)", config.backend, known)
        kind = "memory"
    limits = LogLimits(
        payload_max_bytes=config.payload_max_bytes, deadline_s=config.deadline_seconds, telemetry=config.telemetry
    )
    if kind == "memory":
        return _Parts(MemoryBackend(config.retention, clock), limits, config, None, None)
    if kind == "disabled":
        return _Parts(DisabledBackend(config.retention), limits, config, None, None)
    on_close = None
    url = config.redis_url
    if url is None:
        embedded = EmbeddedRedis.start(config.data_dir)
        url, on_close = embedded.url, embedded.close
    return _Parts(redis_backend(config), limits, config, url, on_close)


def redis_backend(config: EventLogConfig, workspace: str | None = None) -> RedisBackend:
    """The plans of one workspace on Redis; the caller brings the link that carries them out."""
    keys = WorkspaceKeys.of(workspace or config.workspace, config.key_prefix)
    return RedisBackend(keys, config.retention, config.deadline_seconds)

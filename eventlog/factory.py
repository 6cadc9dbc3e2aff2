"""Making a log, or slot queues, from a name of a backend and a few settings."""

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, TypedDict, Unpack

from .config import EventLogConfig
from .embedded import EmbeddedRedis
from .errors import InvalidInput
from .log.awaited import AsyncEventLog
from .log.blocking import EventLog
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


def create_slot_queue(
    backend: str = "redis",
    *,
    url: str | None = None,
    config: EventLogConfig | None = None,
    clock: Callable[[], float] = time.time,
    **options: Unpack[LogOptions],
) -> SlotQueue:
    """Open a workspace's slot queues, as `create_event_log` opens its log: the same settings, the same Redis.

    `memory` keeps a limit within this one object, `disabled` keeps none. Another name is no backend and raises
    `InvalidInput`: a limit that nobody keeps must not look like one. Beside a log that is open already, `log.slots()`
    shares its connections.
    """
    _known(backend, config)
    parts = _parts(backend, url, config, clock, options)
    return SlotQueue(
        parts.backend.slots(),
        workspace=parts.config.workspace,
        connect=_sync_links(parts.url),
        on_close=parts.on_close,
    )


def create_async_slot_queue(
    backend: str = "redis",
    *,
    url: str | None = None,
    config: EventLogConfig | None = None,
    clock: Callable[[], float] = time.time,
    **options: Unpack[LogOptions],
) -> AsyncSlotQueue:
    """The asyncio twin of `create_slot_queue`."""
    _known(backend, config)
    parts = _parts(backend, url, config, clock, options)
    return AsyncSlotQueue(
        parts.backend.slots(),
        workspace=parts.config.workspace,
        connect=_async_links(parts.url),
        on_close=parts.on_close,
    )


class _Parts(NamedTuple):
    backend: Backend
    limits: LogLimits
    config: EventLogConfig
    url: str | None
    on_close: Callable[[], None] | None


def create_event_log(
    backend: str = "memory",
    *,
    url: str | None = None,
    config: EventLogConfig | None = None,
    clock: Callable[[], float] = time.time,
    **options: Unpack[LogOptions],
) -> EventLog:
    """Open a workspace's log: `redis`, `memory` or `disabled` (also `off`, `none`).

    An unknown name falls back to memory with a warning. `redis` without a `url`, here or in `EVENTLOG_REDIS_URL`,
    starts or shares the embedded Redis. `clock` (seconds since the Unix epoch) is for `memory` alone. With
    `config`, that alone counts.
    """
    parts = _parts(backend, url, config, clock, options)
    return EventLog(
        parts.backend,
        workspace=parts.config.workspace,
        limits=parts.limits,
        guard=parts.config.guard,
        connect=_sync_links(parts.url),
        on_close=parts.on_close,
    )


def create_async_event_log(
    backend: str = "memory",
    *,
    url: str | None = None,
    config: EventLogConfig | None = None,
    clock: Callable[[], float] = time.time,
    **options: Unpack[LogOptions],
) -> AsyncEventLog:
    """The asyncio twin of `create_event_log`. Starting the embedded Redis blocks for a moment; a `url` never does."""
    parts = _parts(backend, url, config, clock, options)
    return AsyncEventLog(
        parts.backend,
        workspace=parts.config.workspace,
        limits=parts.limits,
        guard=parts.config.guard,
        connect=_async_links(parts.url),
        on_close=parts.on_close,
    )


def _known(backend: str, config: EventLogConfig | None) -> None:
    name = backend if config is None else config.backend
    if name.lower() not in _BACKENDS:
        raise InvalidInput("backend", f"{name!r} is none of {', '.join(_BACKENDS)}")


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
) -> _Parts:
    if config is None:
        if "redis_url" in options:
            raise InvalidInput("redis_url", "is given as url")
        config = EventLogConfig.load(backend=name, redis_url=url, **options)
    kind = _BACKENDS.get(config.backend.lower())
    if kind is None:
        _log.warning("unknown backend %r; using memory (known: %s)", config.backend, ", ".join(_BACKENDS))
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

"""Opens a log, or slot queues, of any backend: redis, memory, disabled, or http (through a server)."""

import logging
import time
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any, NamedTuple, TypedDict, Unpack

from .config import SERVER_SCHEMES, EventLogConfig, ObservabilityConfig
from .embedded import EmbeddedRedis
from .errors import InvalidInput
from .log.awaited import AsyncDirectLog, AsyncEventLog
from .log.blocking import DirectLog, EventLog
from .log.disabled import DisabledBackend
from .log.limits import LogLimits
from .log.memory import MemoryBackend
from .log.protocol import Backend
from .log.redis import RedisBackend
from .model.guard import ContentGuard
from .slots.awaited import AsyncDirectSlots, AsyncSlotQueue
from .slots.blocking import DirectSlots, SlotQueue
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
_CLIENT_OPTIONS = ("workspace", "deadline_seconds")
_CLIENT_HAS = "a client has workspace and deadline_seconds"


class LogOptions(TypedDict, total=False):
    """What the four functions here take by name.

    `url` is that of a Redis or of a server. A `config` takes the place of all other settings, and none may contradict
    it; beside the `url` of a server it gives workspace and deadline, and may set nothing else. `clock` (seconds since
    the Unix epoch) is for `memory`. The others are settings as `EventLogConfig` has them; what is not given comes from
    `EVENTLOG_*`.
    """

    url: str | None
    config: EventLogConfig | None
    clock: Callable[[], float]
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
    redis_maxmemory: str | None
    refused_fields: tuple[str, ...]
    redact: bool
    redact_fields: tuple[str, ...]
    redact_patterns: tuple[str, ...]


def create_event_log(backend: str | None = None, **options: Unpack[LogOptions]) -> EventLog:
    """Open a workspace's log: `redis`, `memory` or `disabled` (also `off`, `none`), or `http`: through a server.

    Without a `backend` the `url` decides: `http://` and `https://` are a server, another one is a Redis. Without both
    it is `EVENTLOG_BACKEND`, else memory. An unknown name falls back to memory with a warning. `redis` without a `url`,
    here or in `EVENTLOG_REDIS_URL`, starts or shares the embedded Redis. Behind a server only `workspace` and
    `deadline_seconds` are the client's to choose; other options are refused. See `LogOptions`.
    """
    found = _found(backend, options, default="memory", fallback=True)
    if isinstance(found, _Server):
        from .client.blocking import EventLogClient

        return EventLogClient(found.url, workspace=found.workspace, deadline_s=found.deadline_s)
    return DirectLog(
        found.backend,
        workspace=found.workspace,
        limits=found.limits,
        guard=found.guard,
        connect=found.sync_links,
        on_close=found.on_close,
    )


def create_async_event_log(backend: str | None = None, **options: Unpack[LogOptions]) -> AsyncEventLog:
    """The asyncio twin of `create_event_log`. Starting the embedded Redis blocks for a moment; a `url` never does."""
    found = _found(backend, options, default="memory", fallback=True)
    if isinstance(found, _Server):
        from .client.awaited import AsyncEventLogClient

        return AsyncEventLogClient(found.url, workspace=found.workspace, deadline_s=found.deadline_s)
    return AsyncDirectLog(
        found.backend,
        workspace=found.workspace,
        limits=found.limits,
        guard=found.guard,
        connect=found.async_links,
        on_close=found.on_close,
    )


def create_slot_queue(backend: str | None = None, **options: Unpack[LogOptions]) -> SlotQueue:
    """Open a workspace's slot queues, as `create_event_log` opens its log: same settings, same Redis, same server.

    Without a `backend`, a `url` and `EVENTLOG_BACKEND` they are on Redis. `memory` keeps a limit within this one
    object, `disabled` keeps none. Another name is no backend and raises `InvalidInput`: a limit that is not kept must
    not look like one. Beside a log that is open already, `log.slots()` shares its connections.
    """
    found = _found(backend, options, default="redis", fallback=False)
    if isinstance(found, _Server):
        from .client.slots_blocking import RemoteSlots

        return RemoteSlots(found.url, workspace=found.workspace, deadline_s=found.deadline_s)
    return DirectSlots(
        found.backend.slots(), workspace=found.workspace, connect=found.sync_links, on_close=found.on_close
    )


def create_async_slot_queue(backend: str | None = None, **options: Unpack[LogOptions]) -> AsyncSlotQueue:
    """The asyncio twin of `create_slot_queue`."""
    found = _found(backend, options, default="redis", fallback=False)
    if isinstance(found, _Server):
        from .client.slots_awaited import AsyncRemoteSlots

        return AsyncRemoteSlots(found.url, workspace=found.workspace, deadline_s=found.deadline_s)
    return AsyncDirectSlots(
        found.backend.slots(), workspace=found.workspace, connect=found.async_links, on_close=found.on_close
    )


class _Server(NamedTuple):
    url: str
    workspace: str
    deadline_s: float


class _Direct(NamedTuple):
    backend: Backend
    workspace: str
    limits: LogLimits
    guard: ContentGuard
    url: str | None = None
    on_lost: Callable[[], None] | None = None
    on_close: Callable[[], None] | None = None

    @property
    def sync_links(self) -> Callable[[int], SyncLink] | None:
        url, on_lost = self.url, self.on_lost
        return None if url is None else lambda size: SyncLink(url, size, on_lost)

    @property
    def async_links(self) -> Callable[[int], AsyncLink] | None:
        url, on_lost = self.url, self.on_lost
        return None if url is None else lambda size: AsyncLink(url, size, on_lost)


def _found(backend: str | None, options: LogOptions, *, default: str, fallback: bool) -> _Server | _Direct:
    url, config, clock = options.pop("url", None), options.pop("config", None), options.pop("clock", None)
    if "redis_url" in options:
        raise InvalidInput("redis_url", "is given as url: pass it as url=…")
    if config is not None:
        _check_kind(config)
    if url is not None and url.lower().startswith(SERVER_SCHEMES):
        if backend is not None and backend.lower() != "http":
            raise InvalidInput("url", f"is that of a server: with the backend {backend!r} it cannot be used")
        _check_clock(clock, "http")
        if config is not None:
            _refuse_beside(config, None, None, options)
            _refuse_of_server(config)
        return _server(url, config, options)
    given = config
    if config is None:
        if backend is None and url is not None:
            backend = "redis"
        if url is not None and _BACKENDS.get((backend or "").lower()) == "memory":
            raise InvalidInput("url", f"is that of a Redis: with the backend {backend!r} it cannot be used")
        try:
            config = EventLogConfig.load(otherwise=default, backend=backend, redis_url=url, **options)
        except InvalidInput as error:
            if error.field != "redis_url":
                raise
            raise InvalidInput("url", error.problem) from error
    if config.backend.lower() == "http":
        raise InvalidInput("url", f"the backend 'http' needs one that begins with {' or '.join(SERVER_SCHEMES)}")
    if given is not None:
        _refuse_beside(given, backend, url, options)
    return _direct(config, clock, fallback=fallback)


def _check_clock(clock: Callable[[], float] | None, kind: str) -> None:
    if clock is not None and kind in ("redis", "http"):
        raise InvalidInput("clock", f"is for the backend memory: with {kind} it cannot be used")


def _check_kind(config: object) -> None:
    if not isinstance(config, EventLogConfig):
        right = "pass its .event_log" if isinstance(config, ObservabilityConfig) else "make one: EventLogConfig(…)"
        raise InvalidInput("config", f"must be an EventLogConfig, not {type(config).__name__}; {right}")


def _refuse_beside(config: EventLogConfig, backend: str | None, url: str | None, options: LogOptions) -> None:
    """A setting that contradicts the config: one of the two would be forgotten."""
    given: dict[str, Any] = {**options, "redis_url": url}
    if backend is not None and backend.lower() != config.backend.lower():
        given["backend"] = backend
    for name, value in given.items():
        if value is not None and not hasattr(config, name):
            raise InvalidInput(name, "there is no setting of this name")
        if value not in (None, getattr(config, name, None)):
            field = "url" if name == "redis_url" else name
            raise InvalidInput(field, f"contradicts config.{name}: give one of them, or dataclasses.replace(config, …)")


def _refuse_of_server(config: EventLogConfig) -> None:
    """A setting that a server decides: its value here would be forgotten. One that is as by default says nothing."""
    default = EventLogConfig()
    for name in (each.name for each in fields(config) if each.name not in _CLIENT_OPTIONS):
        value = getattr(config, name)
        if value != getattr(default, name) and (name, str(value).lower()) != ("backend", "http"):
            raise InvalidInput(name, f"config.{name} is for the server to decide; {_CLIENT_HAS}")


def _server(url: str, config: EventLogConfig | None, options: LogOptions) -> _Server:
    for name in options:
        if name not in _CLIENT_OPTIONS:
            raise InvalidInput(name, f"is for the server to decide; {_CLIENT_HAS}")
    config = EventLogConfig.load(**options) if config is None else config
    return _Server(url, config.workspace, config.deadline_seconds)


def known_backend(name: str) -> str:
    """`redis`, `memory` or `disabled`, by any of its names; raises `InvalidInput` for an unknown one."""
    kind = _BACKENDS.get(name.lower())
    if kind is None:
        raise InvalidInput("backend", f"{name!r} is none of {', '.join((*_BACKENDS, 'http'))}")
    return kind


def _direct(config: EventLogConfig, clock: Callable[[], float] | None, *, fallback: bool) -> _Direct:
    try:
        kind = known_backend(config.backend)
    except InvalidInput as error:
        if not fallback:
            raise
        _log.warning("backend: %s; using memory", error.problem)
        kind = "memory"
    _check_clock(clock, kind)
    limits = LogLimits(
        payload_max_bytes=config.payload_max_bytes, deadline_s=config.deadline_seconds, telemetry=config.telemetry
    )
    if kind == "memory":
        return _Direct(MemoryBackend(config.retention, clock or time.time), config.workspace, limits, config.guard)
    if kind == "disabled":
        return _Direct(DisabledBackend(config.retention), config.workspace, limits, config.guard)
    backend = redis_backend(config)
    if config.redis_url is not None:
        return _Direct(backend, config.workspace, limits, config.guard, config.redis_url)
    embedded = EmbeddedRedis.start(config.data_dir, maxmemory=config.redis_maxmemory)
    on_lost, on_close = embedded.revive, embedded.close
    return _Direct(backend, config.workspace, limits, config.guard, embedded.url, on_lost, on_close)


def redis_backend(config: EventLogConfig, workspace: str | None = None) -> RedisBackend:
    """The plans of one workspace on Redis; the caller brings the link that carries them out."""
    keys = WorkspaceKeys.of(workspace or config.workspace, config.key_prefix)
    return RedisBackend(keys, config.retention, config.deadline_seconds)

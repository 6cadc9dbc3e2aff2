"""Configuration: names, defaults, and where values come from. The environment is read here and nowhere else.

A value given in code wins over an `EVENTLOG_*` variable, that over a file, that over the default.
"""

import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import platformdirs

from .errors import InvalidInput
from .extras import imports_of
from .model.events import DEFAULT_PAYLOAD_MAX_BYTES
from .model.guard import (
    DEFAULT_REDACT_FIELDS,
    DEFAULT_REDACT_PATTERNS,
    DEFAULT_REFUSED_FIELDS,
    ContentGuard,
    checked_names,
    compiled_patterns,
)
from .model.ids import checked_workspace
from .model.retention import DEFAULT_MAX_ENTRIES, DEFAULT_TTL_S, DEFAULT_WINDOW_S, Report, Retention, warn
from .model.texts import shown_url
from .settings import ENV_PREFIX, Settings, setting
from .store.keys import DEFAULT_PREFIX
from .telemetry.terms import DEFAULT_GRACE_S, DEFAULT_SAMPLES, RingTerms

SERVER_SCHEMES = ("http://", "https://")
"""How the URL of a server begins, and not of a Redis."""
SIZE_PATTERN = r"\d+([kKmMgG][bB]?|[bB])?"
_PREFIX_PATTERN = r"[A-Za-z0-9_.:-]{1,64}"


def default_data_dir() -> Path:
    """Where the embedded Redis keeps its data where no `data_dir` is given."""
    try:
        return Path(platformdirs.user_data_dir("eventlog"))
    except RuntimeError:
        # No home directory, which matters only where the embedded server is started: it says so then.
        return Path("~/.local/share/eventlog")


def _checked_prefix(value: str) -> None:
    if re.fullmatch(_PREFIX_PATTERN, value) is None:
        raise InvalidInput("key_prefix", f"{value[:80]!r} does not match {_PREFIX_PATTERN}")


def _checked_size(value: str | None) -> None:
    if value is not None and re.fullmatch(SIZE_PATTERN, value) is None:
        raise InvalidInput("redis_maxmemory", 'must be a size such as "256mb"; "0" is no bound')


def _checked_redis(value: str | None) -> None:
    if value is not None:
        from .store.urls import check_url  # here, for it needs redis-py

        check_url(value)


def _checked_names(value: tuple[str, ...]) -> None:
    checked_names("names", value)


@dataclass(frozen=True, kw_only=True, repr=False)
class EventLogConfig(Settings):
    """One log: which backend, where, and how much it keeps. Seconds and bytes; `redis_url=None` is the embedded Redis.

    Retention and telemetry that make no sense (negative, absurd) fall back to the default with a warning.
    """

    backend: str = "redis"
    workspace: str = setting("default", check=checked_workspace)
    redis_url: str | None = setting(None, check=_checked_redis, shown=shown_url)
    data_dir: Path = field(default_factory=default_data_dir)
    redis_maxmemory: str | None = setting(None, check=_checked_size)
    key_prefix: str = setting(DEFAULT_PREFIX, check=_checked_prefix)
    ttl_seconds: float = DEFAULT_TTL_S
    max_entries: int = DEFAULT_MAX_ENTRIES
    idempotency_window_seconds: float = DEFAULT_WINDOW_S
    payload_max_bytes: int = setting(DEFAULT_PAYLOAD_MAX_BYTES, least=2, most=16 * 1024 * 1024)
    deadline_seconds: float = setting(5.0, least=0.001, most=300)
    telemetry_samples: int = DEFAULT_SAMPLES
    telemetry_grace_seconds: float = DEFAULT_GRACE_S
    refused_fields: tuple[str, ...] = setting(DEFAULT_REFUSED_FIELDS, check=_checked_names)
    redact: bool = False
    redact_fields: tuple[str, ...] = setting(DEFAULT_REDACT_FIELDS, check=_checked_names)
    redact_patterns: tuple[str, ...] = setting(DEFAULT_REDACT_PATTERNS, check=compiled_patterns)

    @property
    def guard(self) -> ContentGuard:
        """The content guard as it is configured."""
        return ContentGuard(
            refused_fields=self.refused_fields,
            redact=self.redact,
            redact_fields=self.redact_fields,
            redact_patterns=self.redact_patterns,
        )

    @property
    def retention(self) -> Retention:
        """Retention with nonsense replaced by the defaults, with a warning."""
        return self._retention(self._warn)

    @property
    def telemetry(self) -> RingTerms:
        """What runs keep of telemetry, with nonsense replaced by the defaults, with a warning."""
        return self._telemetry(self._warn)

    def fallbacks(self) -> list[tuple[str, str]]:
        """The settings that make no sense, each by its name, or its variable, with its problem."""
        found: list[tuple[str, str]] = []
        for terms in (self._retention, self._telemetry):
            terms(lambda name, problem: found.append((self.named(name), problem)))
        return found

    def _retention(self, report: Report) -> Retention:
        return Retention.of(self.ttl_seconds, self.max_entries, self.idempotency_window_seconds, report=report)

    def _telemetry(self, report: Report) -> RingTerms:
        return RingTerms.of(self.telemetry_samples, self.telemetry_grace_seconds, report=report)

    def _warn(self, name: str, problem: str) -> None:
        warn(self.named(name), problem)

    @classmethod
    def load(
        cls,
        file: Path | None = None,
        *,
        environ: Mapping[str, str] | None = None,
        otherwise: str = "redis",
        **given: Any,
    ) -> Self:
        """Read a file (section `observability.event_log`) and the environment; `given` wins over both.

        `otherwise` is the backend where none of them names one. A `data_dir` that is given means the embedded Redis,
        whatever URL a variable has. Raises `InvalidInput` naming the variable or key whose value is wrong.
        """
        environ = os.environ if environ is None else environ
        section = {} if file is None else _section(file)
        if given.get("data_dir") is not None:
            if given.get("redis_url") is not None:
                raise InvalidInput("data_dir", "is of the embedded Redis: give it or the URL of a Redis, not both")
            environ = {name: value for name, value in environ.items() if name != f"{ENV_PREFIX}REDIS_URL"}
        return cls.load_from(environ, given, {"backend": otherwise, **section})


@dataclass(frozen=True, kw_only=True)
class ObservabilityConfig:
    """The section `observability` of a configuration file."""

    event_log: EventLogConfig = field(default_factory=EventLogConfig)

    @classmethod
    def load(cls, file: Path | None = None, *, environ: Mapping[str, str] | None = None) -> Self:
        """See `EventLogConfig.load`."""
        return cls(event_log=EventLogConfig.load(file, environ=environ))


def _section(file: Path) -> dict[str, Any]:
    try:
        text = file.read_text("utf-8-sig")
        data = tomllib.loads(text) if file.suffix == ".toml" else _yaml(text)
    except (OSError, ValueError) as error:
        raise InvalidInput(str(file), f"cannot be read: {error}") from error
    for key in ("observability", "event_log"):
        data = data.get(key) if isinstance(data, dict) else None
        if data is None:
            return {}
    if not isinstance(data, dict):
        raise InvalidInput("observability.event_log", f"must be a table in {file}")
    return {str(key): value for key, value in data.items()}


def _yaml(text: str) -> Any:
    with imports_of("yaml", "a configuration file in YAML"):
        import yaml
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from error

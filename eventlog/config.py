"""Configuration: names, defaults, and where values come from. The environment is read here and nowhere else.

A value given in code wins over an `EVENTLOG_*` variable, that over a file, that over the default.
"""

import json
import os
import re
import tomllib
from collections.abc import Collection, Mapping
from itertools import chain
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator

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
from .model.retention import DEFAULT_MAX_ENTRIES, DEFAULT_TTL_S, DEFAULT_WINDOW_S, Retention
from .store.keys import DEFAULT_PREFIX
from .telemetry.terms import DEFAULT_GRACE_S, DEFAULT_SAMPLES, RingTerms

ENV_PREFIX = "EVENTLOG_"
_BUILT_IN = {
    "refused_fields": DEFAULT_REFUSED_FIELDS,
    "redact_fields": DEFAULT_REDACT_FIELDS,
    "redact_patterns": DEFAULT_REDACT_PATTERNS,
}


def default_data_dir() -> Path:
    """Where the embedded Redis keeps its data unless told otherwise."""
    import platformdirs

    return Path(platformdirs.user_data_dir("eventlog"))


class EventLogConfig(BaseModel):
    """One log: which backend, where, and how much it keeps. Seconds and bytes; `redis_url=None` is the embedded Redis.

    Retention and telemetry that make no sense (negative, absurd) fall back to the default with a warning.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    backend: str = "redis"
    workspace: str = "default"
    redis_url: str | None = None
    data_dir: Path = Field(default_factory=default_data_dir)
    key_prefix: str = Field(default=DEFAULT_PREFIX, pattern=r"^[A-Za-z0-9_.:-]{1,64}$")
    ttl_seconds: float = DEFAULT_TTL_S
    max_entries: int = DEFAULT_MAX_ENTRIES
    idempotency_window_seconds: float = DEFAULT_WINDOW_S
    payload_max_bytes: int = Field(default=DEFAULT_PAYLOAD_MAX_BYTES, ge=2, le=16 * 1024 * 1024)
    deadline_seconds: float = Field(default=5.0, gt=0, le=300)
    telemetry_samples: int = DEFAULT_SAMPLES
    telemetry_grace_seconds: float = DEFAULT_GRACE_S
    refused_fields: tuple[str, ...] = DEFAULT_REFUSED_FIELDS
    redact: bool = False
    redact_fields: tuple[str, ...] = DEFAULT_REDACT_FIELDS
    redact_patterns: tuple[str, ...] = DEFAULT_REDACT_PATTERNS

    @field_validator("workspace")
    @classmethod
    def _workspace(cls, value: str) -> str:
        return checked_workspace(value)

    @field_validator("redis_url")
    @classmethod
    def _no_empty_url(cls, value: str | None) -> str | None:
        return value or None

    @field_validator("refused_fields", "redact_fields", "redact_patterns", mode="before")
    @classmethod
    def _list(cls, value: object, info: ValidationInfo) -> object:
        return _listed(value, _BUILT_IN[str(info.field_name)])

    @field_validator("refused_fields", "redact_fields")
    @classmethod
    def _names(cls, value: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        return checked_names(str(info.field_name), value)

    @field_validator("redact_patterns")
    @classmethod
    def _patterns(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        compiled_patterns(value)
        return value

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
        """Retention with nonsense replaced by the defaults."""
        return Retention.of(self.ttl_seconds, self.max_entries, self.idempotency_window_seconds)

    @property
    def telemetry(self) -> RingTerms:
        """What runs keep of telemetry, with nonsense replaced by the defaults."""
        return RingTerms.of(self.telemetry_samples, self.telemetry_grace_seconds)

    @classmethod
    def load(cls, file: Path | None = None, *, environ: Mapping[str, str] | None = None, **given: Any) -> Self:
        """Read a file (section `observability.event_log`) and the environment; `given` wins over both.

        Raises `InvalidInput` naming the variable or key whose value is wrong.
        """
        environ = os.environ if environ is None else environ
        section = {} if file is None else _section(file)
        variables = {
            name: environ[ENV_PREFIX + name.upper()]
            for name in cls.model_fields
            if environ.get(ENV_PREFIX + name.upper())
        }
        given = {name: value for name, value in given.items() if value is not None}
        try:
            return cls(**{**section, **variables, **given})
        except ValidationError as error:
            raise wrong_setting(error, variables.keys() - given.keys()) from error


def wrong_setting(error: ValidationError, variables: Collection[str]) -> InvalidInput:
    """What is wrong with which setting; for one that came from a variable, by the name of that."""
    first = error.errors()[0]
    name = str(first["loc"][0]) if first["loc"] else "settings"
    cause = first.get("ctx", {}).get("error")
    if isinstance(cause, InvalidInput):
        problem = cause.problem
    elif first["type"] == "extra_forbidden":
        problem = "there is no setting of this name"
    else:
        problem = f"{first['input']!r}: {first['msg']}"
    return InvalidInput(ENV_PREFIX + name.upper() if name in variables else name, problem)


class ObservabilityConfig(BaseModel):
    """The section `observability` of a configuration file."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    event_log: EventLogConfig = Field(default_factory=EventLogConfig)

    @classmethod
    def load(cls, file: Path | None = None, *, environ: Mapping[str, str] | None = None) -> Self:
        """See `EventLogConfig.load`."""
        return cls(event_log=EventLogConfig.load(file, environ=environ))


def _listed(value: object, built_in: tuple[str, ...]) -> object:
    """A list as it is meant: a string is one with commas, or JSON; `none` is empty; `default` what is built in."""
    if isinstance(value, str):
        value = _split(value.strip())
    if not isinstance(value, list | tuple):
        return value
    return tuple(chain.from_iterable(built_in if part == "default" else (part,) for part in value))


def _split(text: str) -> list[object]:
    if text.lower() == "none":
        return []
    if re.match(r'\[\s*["\]]', text) is not None:
        return list(json.loads(text))
    parts = [part.strip() for part in text.split(",")]
    # A pattern such as `a{2,4}`, cut at its comma, would be two that compile and find nothing.
    if any(part.count("{") != part.count("}") for part in parts):
        raise ValueError("a list whose parts have commas must be written as JSON")
    return list(parts)


def _section(file: Path) -> dict[str, Any]:
    try:
        text = file.read_text("utf-8")
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

"""How settings are made: dataclasses whose values are converted and checked, and loaded from files and variables.

Which settings there are is written where they are used: in `config`, and in the server. Without pydantic, which would
cost every process that opens a log as much time as the import of redis does.
"""

import json
import logging
import re
from collections.abc import Callable, Mapping, Set
from dataclasses import Field, dataclass, field, fields
from itertools import chain
from pathlib import Path
from typing import Any, ClassVar, Self

from .errors import InvalidInput

ENV_PREFIX = "EVENTLOG_"
_TRUE = frozenset({"1", "true", "yes", "on"})
_FALSE = frozenset({"0", "false", "no", "off"})
# A number in a text, here as over HTTP: without exponent, blanks and underscores.
_DIGITS = re.compile(r"-?\d{1,16}", re.ASCII)
_DECIMAL = re.compile(r"-?\d{1,13}(\.\d{1,9})?", re.ASCII)
_log = logging.getLogger("eventlog")


def setting(
    default: Any,
    *,
    least: float | None = None,
    most: float | None = None,
    check: Callable[[Any], object] | None = None,
    shown: Callable[[Any], object] | None = None,
) -> Any:
    """A field of `Settings` with bounds, both allowed themselves, or a check that raises InvalidInput.

    `shown` is what `repr` shows of its value.
    """
    return field(default=default, metadata={"least": least, "most": most, "check": check, "shown": shown})


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Values that are converted from text where need be, and checked, when they are made.

    Raises `InvalidInput` naming the setting whose value is wrong.
    """

    _variables: ClassVar[Set[str]] = frozenset()

    def __post_init__(self) -> None:
        for each in fields(self):
            if each.type in _CONVERTERS:
                object.__setattr__(self, each.name, _checked(each, getattr(self, each.name)))

    def __repr__(self) -> str:
        """What is not as it is by default."""
        default = type(self)()
        values = ((each, getattr(self, each.name)) for each in fields(self))
        others = ((each, value) for each, value in values if value != getattr(default, each.name))
        shown = ((each.name, (each.metadata.get("shown") or (lambda value: value))(value)) for each, value in others)
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in shown)})"

    @classmethod
    def load_from(cls, environ: Mapping[str, str], given: Mapping[str, Any], section: Mapping[str, Any]) -> Self:
        """What is `given` (unless None) wins over `EVENTLOG_*` variables, and those over the `section` of a file.

        Raises `InvalidInput` naming the variable or key whose value is wrong.
        """
        warn_of_unknown(environ)
        variables = {
            each.name: value
            for each in fields(cls)
            if each.type in _CONVERTERS and (value := _variable(environ, ENV_PREFIX + each.name.upper()))
        }
        given = {name: value for name, value in given.items() if value is not None}
        values = {**section, **variables, **given}
        for name in values.keys() - {each.name for each in fields(cls)}:
            raise InvalidInput(name, "there is no setting of this name")
        try:
            made = cls(**values)
        except InvalidInput as error:
            if error.field not in variables.keys() - given.keys():
                raise
            raise InvalidInput(ENV_PREFIX + error.field.upper(), error.problem) from error
        object.__setattr__(made, "_variables", variables.keys() - given.keys())
        return made

    def named(self, name: str) -> str:
        """A setting as errors name it: by its variable where its value is from one."""
        return ENV_PREFIX + name.upper() if name in self._variables else name


# What the command line and the server read, and what `eventlog exec` gives to its command. A test holds the names here
# to those in the code.
OTHER_NAMES = frozenset(
    (
        *("URL", "DEBUG", "ACTION", "EXECUTION_ID", "FENCING_TOKEN", "LANE", "RUN_ID", "STAGE"),
        *("HOST", "PORT", "ALLOWED_HOSTS", "BODY_MAX_BYTES", "BATCH_MAX_EVENTS", "HEARTBEAT_S", "SEND_TIMEOUT_S"),
        *("RECEIVE_TIMEOUT_S", "FOLLOWER_BUFFER", "STREAMS_MAX", "WORKSPACES_MAX", "REQUEST_DEADLINE_S", "GRACE_S"),
        *("ACCESS_LOG", "COMPLETIONS", "HELD_MAX_BYTES", "CONNECTIONS_MAX"),
    )
)
# A Kubernetes service that is called `eventlog`, or `eventlog-redis`, puts such variables into every pod.
_OF_SERVICE = re.compile(rf"{ENV_PREFIX}(\w+_)?(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT_\d+_(TCP|UDP|SCTP)(_\w+)?)")
_warned: set[str] = set()


def _variable(environ: Mapping[str, str], name: str) -> str | None:
    value = environ.get(name)
    return None if value is not None and _is_of_service(name, value) else value


def _is_of_service(name: str, value: str) -> bool:
    return _OF_SERVICE.fullmatch(name) is not None or (name.endswith("_PORT") and "://" in value)


def warn_of_unknown(environ: Mapping[str, str]) -> None:
    """Log a warning for each `EVENTLOG_*` variable that nothing reads, once a process."""
    known = OTHER_NAMES | {each.name.upper() for kind in Settings.__subclasses__() for each in fields(kind)}
    for variable in environ:
        name = variable.removeprefix(ENV_PREFIX)
        if name == variable or name in known or name.startswith("TEST_") or variable in _warned:
            continue
        if not _is_of_service(variable, environ[variable]):
            from difflib import get_close_matches  # here, for hardly a process needs it

            _warned.add(variable)
            near = [f"; did you mean {ENV_PREFIX}{one}?" for one in get_close_matches(name, known, 1)]
            _log.warning("nothing reads the variable %s%s", variable, *(near or [""]))


def _checked(about: "Field[Any]", value: object) -> object:
    try:
        converted = _CONVERTERS[about.type](value, about.default)
    except (ValueError, RecursionError) as error:
        raise InvalidInput(about.name, f"{value!r}: {error}") from error
    least, most, check = (about.metadata.get(name) for name in ("least", "most", "check"))
    if least is not None and not least <= converted <= most:
        raise InvalidInput(about.name, f"{value!r}: must be from {least} to {most}")
    if check is not None:
        try:
            check(converted)
        except InvalidInput as error:
            raise InvalidInput(about.name, error.problem) from error
    return converted


def _text(value: object, _: object) -> str:
    if not isinstance(value, str):
        raise ValueError("must be text")
    return str.__str__(value)


def _text_or_none(value: object, default: object) -> str | None:
    return _text(value, default) or None if value is not None else None


def _path(value: object, default: object) -> Path:
    return value if isinstance(value, Path) else Path(_text(value, default))


def _flag(value: object, _: object) -> bool:
    word = str(value).lower()
    if word not in _TRUE | _FALSE:
        raise ValueError("must be true or false")
    return word in _TRUE


def _number(value: object, _: object) -> float:
    if isinstance(value, str) and _DECIMAL.fullmatch(value) is None:
        raise ValueError("must be a number in decimal digits, such as 30 or 0.5")
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError("must be a number")
    try:
        return float(value)
    except OverflowError as error:
        raise ValueError("must be a number") from error


def _whole_number(value: object, _: object) -> int:
    if isinstance(value, str) and _DIGITS.fullmatch(value) is None:
        raise ValueError("must be a whole number in decimal digits, such as 1000")
    try:
        if isinstance(value, str | int | float) and not isinstance(value, bool) and int(value) == float(value):
            return int(value)
    except (ValueError, OverflowError):
        pass
    raise ValueError("must be a whole number")


def _list(value: object, default: Any) -> tuple[str, ...]:
    """A string is a list with commas, or JSON; `none` is empty; `default` stands for what is built in."""
    if isinstance(value, str):
        value = _split(value.strip())
    if not isinstance(value, list | tuple) or not all(isinstance(part, str) for part in value):
        raise ValueError("must be a list of texts")
    return tuple(chain.from_iterable(default if part == "default" else (part,) for part in value))


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


_CONVERTERS: dict[Any, Callable[[object, Any], Any]] = {
    str: _text,
    str | None: _text_or_none,
    Path: _path,
    bool: _flag,
    float: _number,
    int: _whole_number,
    tuple[str, ...]: _list,
}

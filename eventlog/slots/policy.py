"""Policies: what limits a queue, and for which scope. Pure; the scripts take up the most specific word on each limit.

Scopes, most specific first: a queue's own limit, the action, the pack that the action belongs to, everything.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, NamedTuple, Self

from ..errors import InvalidInput
from ..model.numbers import checked_integer, checked_seconds, shown
from ..model.texts import plain

NAME_PATTERN = r"[A-Za-z0-9_.:-]{1,128}"
_NAME = re.compile(NAME_PATTERN, re.ASCII)
LARGEST_COUNT = 1_000_000
LONGEST_WINDOW_S = 366 * 86_400.0
LONGEST_WAIT_S = 86_400.0
_SCOPE_KINDS = ("pack", "action", "queue")


def checked_name(field: str, value: object) -> str:
    """A name of an action, group, pack or execution, by value; raises `InvalidInput`."""
    if not isinstance(value, str) or _NAME.fullmatch(value) is None:
        raise InvalidInput(field, f"{shown(value)} does not match {NAME_PATTERN}")
    return plain(value)


def checked_pack(value: object) -> str:
    """A pack's name, by value; raises `InvalidInput`. "-" alone stands for no pack."""
    if value == "-":
        raise InvalidInput("pack", "'-' means no pack")
    return checked_name("pack", value)


def queue_name(action: object, group_key: object = None) -> str:
    """The queue of an action, or of one of its groups."""
    name = checked_name("action", action)
    return name if group_key is None else f"{name}/{checked_name('group_key', group_key)}"


def checked_count(field: str, value: object) -> int:
    """A limit as it is; raises `InvalidInput` unless it is an integer from 1 on."""
    return checked_integer(field, value, 1, LARGEST_COUNT)


class Scope(NamedTuple):
    """What a policy is for: `global`, `pack/<pack>`, `action/<action>`, or `queue/<action>[/<group>]`."""

    kind: str
    name: str = ""

    @classmethod
    def parse(cls, text: object) -> Self:
        """Read a scope; raises `InvalidInput`."""
        if text == "global":
            return cls("global")
        kind, _, name = text.partition("/") if isinstance(text, str) else ("", "", "")
        if kind not in _SCOPE_KINDS:
            raise InvalidInput(
                "scope", f"{shown(text)} is none of global, pack/<pack>, action/<action>, queue/<action>[/<group>]"
            )
        action, _, group = name.partition("/")
        if kind == "queue" and group:
            return cls(kind, queue_name(action, group))
        return cls(kind, checked_pack(name) if kind == "pack" else checked_name(kind, name))

    def __str__(self) -> str:
        return self.kind if self.kind == "global" else f"{self.kind}/{self.name}"

    def covers(self, queue: str) -> bool:
        """False if the policy certainly does not bear on `queue`. Which pack a queue belongs to is not known here."""
        match self.kind:
            case "action":
                return queue.partition("/")[0] == self.name
            case "queue":
                return queue == self.name
        return True


@dataclass(frozen=True, slots=True)
class Rate:
    """At most `count` grants: as a rate limit in any stretch of `seconds`, as a quota in each window of that length.

    Windows begin at whole multiples of their length since the Unix epoch: a quota of a day begins anew at midnight UTC.
    """

    count: int
    seconds: float

    @classmethod
    def of(cls, field: str, value: object) -> "Rate":
        """Check `{"count": n, "seconds": s}` or a `Rate`; raises `InvalidInput`."""
        given = asdict(value) if isinstance(value, Rate) else value
        if not isinstance(given, Mapping) or set(given) != {"count", "seconds"}:
            raise InvalidInput(field, f"{shown(given)} is not {{'count': n, 'seconds': s}}")
        return cls(
            checked_count(f"{field}.count", given["count"]),
            checked_seconds(f"{field}.seconds", given["seconds"], 0.001, LONGEST_WINDOW_S),
        )


def _checked_wait(field: str, value: object) -> float:
    return checked_seconds(field, value, 0.001, LONGEST_WAIT_S)


def _checked_flag(field: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise InvalidInput(field, f"{shown(value)} is not true or false")
    return value


_CHECKS: Mapping[str, Callable[[str, object], Any]] = {
    "max_concurrent": checked_count,
    "rate_limit": Rate.of,
    "quota": Rate.of,
    "max_queue_length": checked_count,
    "queue_timeout_seconds": _checked_wait,
    "log_transitions": _checked_flag,
}


@dataclass(frozen=True, slots=True)
class Policy:
    """Limits; None leaves one to the next less specific scope, and in the end to the caller or the default.

    `log_transitions` False keeps the queue's comings and goings out of the log.
    """

    max_concurrent: int | None = None
    rate_limit: Rate | None = None
    quota: Rate | None = None
    max_queue_length: int | None = None
    queue_timeout_seconds: float | None = None
    log_transitions: bool | None = None

    @classmethod
    def of(cls, **given: Any) -> "Policy":
        """Check limits; raises `InvalidInput` naming the one that is wrong."""
        for name in given:
            if name not in _CHECKS:
                raise InvalidInput(name, f"is no limit; limits are {', '.join(_CHECKS)}")
        return cls(**{name: _CHECKS[name](name, value) for name, value in given.items() if value is not None})

    def to_dict(self) -> dict[str, Any]:
        """The wire form: every limit, None for those that are open."""
        return asdict(self)


def merged(*policies: Policy) -> Policy:
    """Each limit as the last of `policies` that says it has it: the most specific is given last."""
    said: dict[str, Any] = {}
    for policy in policies:
        for field in fields(Policy):
            value = getattr(policy, field.name)
            if value is not None:
                said[field.name] = value
    return Policy(**said)


def whole_ms(seconds: float) -> int:
    """Seconds as limits are kept: in milliseconds, at least one."""
    return max(1, round(seconds * 1000))


class StoredPolicy(NamedTuple):
    """A policy that is set, and its version."""

    version: int
    policy: Policy


def in_force(policies: Mapping[Scope, StoredPolicy], queue: str, pack: str = "-") -> Policy:
    """What policies say of a queue: its own limit, then the action's, the pack's, the global one."""
    action = queue.partition("/")[0]
    scopes = (Scope("global"), Scope("pack", pack), Scope("action", action), Scope("queue", queue))
    return merged(*(policies[scope].policy for scope in scopes if scope in policies))

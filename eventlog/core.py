"""Limits of a log, its state as operators see it, and checks of what callers give. Pure."""

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from .backends.base import Gap
from .commit.batch import Bounds
from .errors import InvalidInput, PayloadTooLarge
from .events import DEFAULT_PAYLOAD_MAX_BYTES, Body
from .filters import EventFilter
from .ids import MAX_COUNTER
from .reading import PageRequest
from .telemetry.terms import RingTerms

_log = logging.getLogger("eventlog")

EventInput = Mapping[str, Any] | Body
"""What `append_many` takes: a mapping with the names of `append`, or a checked `Body`."""


class LogLimits(NamedTuple):
    """Sizes and times that bound one log object. Bytes count encoded JSON."""

    payload_max_bytes: int = DEFAULT_PAYLOAD_MAX_BYTES
    batch_max_events: int = 10_000
    batch_max_bytes: int = 32 * 1024 * 1024
    deadline_s: float = 5.0
    commit: Bounds = Bounds()
    telemetry: RingTerms = RingTerms()


@dataclass(frozen=True, slots=True)
class LogInfo:
    """The state of a log as operators see it. Times are seconds since the Unix epoch."""

    workspace: str
    backend: str
    epoch: str | None
    length: int
    first_id: str | None
    last_id: str | None
    last_offset: int
    trimmed: int
    bytes: int | None
    ttl_seconds: float
    max_entries: int
    time: float

    def to_dict(self) -> dict[str, Any]:
        """The wire form."""
        return {
            "workspace": self.workspace,
            "backend": self.backend,
            "epoch": self.epoch,
            "length": self.length,
            "first_id": self.first_id,
            "last_id": self.last_id,
            "last_offset": self.last_offset,
            "trimmed": self.trimmed,
            "bytes": self.bytes,
            "retention": {"ttl_seconds": self.ttl_seconds, "max_entries": self.max_entries},
            "time": self.time,
        }


def warn_of_gap(gap: Gap) -> None:
    """The default for `on_gap`: a reader that does not care is told all the same."""
    _log.warning("events missed: %d (%d to %d, %s)", *gap)


def query_request(
    since: object, until: object, limit: int | None, wanted: EventFilter, order: str, since_time: float | None
) -> PageRequest:
    """`query`'s idea of a limit: None is no limit."""
    limit = MAX_COUNTER if limit is None else limit
    return PageRequest.of(since, until, limit, wanted, order=order, since_time=since_time, largest=MAX_COUNTER)


def checked_bodies(
    events: Iterable[EventInput], idempotency_key: str | None, payload_max_bytes: int, most: int
) -> list[Body]:
    """The events of a batch, checked; raises `InvalidInput` with the index of the one that is wrong."""
    if not isinstance(events, Iterable) or isinstance(events, str | bytes | Mapping):
        raise InvalidInput("events", f"must be a list of events, not a {type(events).__name__}")
    bodies: list[Body] = []
    for index, event in enumerate(events):
        if index >= most:
            raise PayloadTooLarge("events", f"more than {most} events in a batch")
        try:
            bodies.append(
                event.within(payload_max_bytes)
                if type(event) is Body
                else Body.from_mapping(event, payload_max_bytes=payload_max_bytes)
            )
        except InvalidInput as error:
            raise error.at(index) from None
        if idempotency_key is not None and bodies[-1].idempotency_key is not None:
            raise InvalidInput("idempotency_key", "give one for the batch or one an event", index=index)
    return bodies


def checked_offset(expected_offset: object) -> int | None:
    """An expected offset as it is; raises `InvalidInput` if it is none."""
    if expected_offset is None:
        return None
    if isinstance(expected_offset, bool) or not isinstance(expected_offset, int):
        raise InvalidInput("expected_offset", f"{expected_offset!r} is not an integer")
    if not 0 <= expected_offset <= MAX_COUNTER:
        raise InvalidInput("expected_offset", f"{expected_offset} is outside 0 to {MAX_COUNTER}")
    return expected_offset

"""Limits of a log, and checks of the batches that callers give. Pure."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from ..errors import InvalidInput, PayloadTooLarge
from ..model.events import DEFAULT_PAYLOAD_MAX_BYTES, Body, EventInput
from ..model.ids import MAX_COUNTER
from ..model.numbers import checked_integer
from ..telemetry.terms import RingTerms
from .commit import Bounds


class LogLimits(NamedTuple):
    """Sizes and times that bound one log object. Bytes count encoded JSON."""

    payload_max_bytes: int = DEFAULT_PAYLOAD_MAX_BYTES
    batch_max_events: int = 10_000
    batch_max_bytes: int = 32 * 1024 * 1024
    deadline_s: float = 5.0
    commit: Bounds = Bounds()
    telemetry: RingTerms = RingTerms()


def checked_batch(events: Iterable[EventInput]) -> Iterable[EventInput]:
    """The events of a batch, unchecked; raises `InvalidInput` for what is no batch."""
    if not isinstance(events, Iterable) or isinstance(events, str | bytes | Mapping):
        raise InvalidInput("events", f"must be a list of events, not a {type(events).__name__}")
    return events


def checked_bodies(
    events: Iterable[EventInput], idempotency_key: str | None, payload_max_bytes: int, most: int
) -> list[Body]:
    """The events of a batch, checked; raises `InvalidInput` with the index of the one that is wrong."""
    bodies: list[Body] = []
    for index, event in enumerate(checked_batch(events)):
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
    return checked_integer("expected_offset", expected_offset, 0, MAX_COUNTER)

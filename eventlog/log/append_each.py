"""Append a batch in which an event that is refused costs only itself. A plan over `LogOperations.append_many`."""

from collections.abc import Callable, Generator, Sequence
from typing import Any

from ..errors import EventLogError, InvalidInput
from ..model.events import Event, EventInput

AppendMany = Callable[..., Generator[Any, Any, list[Event]]]


def append_each(
    append_many: AppendMany, events: Sequence[EventInput], key: str | None
) -> Generator[Any, Any, list[Event | EventLogError]]:
    """The event or the error for each of `events`, in order.

    One append for all. If it is refused for one event, nothing was appended: the others go again without it, or in
    halves where the answer names no event (too much at once). At an outage nothing more is sent, to keep the order.
    """
    results: dict[int, Event | EventLogError] = {}
    parts = [list(range(len(events)))] if events else []
    while parts:
        part = parts.pop()
        part_key = key if key is None or len(part) == len(events) else f"{key}.{part[0]}-{len(part)}"
        try:
            appended = yield from append_many([events[at] for at in part], idempotency_key=part_key)
        except InvalidInput as error:
            parts += _without_refused(part, error, results)
        except EventLogError as error:
            results.update({at: error for unsent in (part, *parts) for at in unsent})
            break
        else:
            results.update(zip(part, appended, strict=False))
    # A key that was used before answers with its first batch, which may have been shorter.
    reused = InvalidInput("idempotency_key", "was used before, for another batch")
    return [results.get(at, reused) for at in range(len(events))]


def _without_refused(
    part: list[int], error: InvalidInput, results: dict[int, Event | EventLogError]
) -> list[list[int]]:
    """What is still to be appended of `part`, the last list first."""
    if len(part) > 1 and (error.index is None or error.index >= len(part)):
        half = len(part) // 2
        return [part[half:], part[:half]]
    # Without the index: the place among the results says which event it was.
    results[part.pop(error.index or 0)] = type(error)(error.field, error.problem)
    return [part] if part else []

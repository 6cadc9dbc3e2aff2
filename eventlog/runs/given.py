"""What callers hand to the functions of this room that take events or logs: checked, with an error that says how."""

import inspect
from collections.abc import Iterable, Iterator, Mapping
from typing import TypeVar

from ..errors import InvalidInput
from ..model.events import Event

T = TypeVar("T")


def checked_event(field: str, event: object) -> Event:
    """An event as it is; raises `InvalidInput` for what is none."""
    if isinstance(event, Event):
        return event
    how = ": read it with Event.from_dict" if isinstance(event, Mapping) else ""
    raise InvalidInput(field, f"holds a {type(event).__name__} where an Event must be{how}")


def checked_events(field: str, events: Iterable[Event]) -> Iterator[Event]:
    """The same events, one by one; raises `InvalidInput` at once for what is no series, and where one is no event."""
    if isinstance(events, Mapping | str | bytes) or not isinstance(events, Iterable):
        raise InvalidInput(field, f"must be a list of events, not a {type(events).__name__}")
    return (checked_event(field, event) for event in events)


def checked_by_name(field: str, given: Mapping[str, T], what: str) -> Mapping[str, T]:
    """A mapping as it is; raises `InvalidInput` for anything else."""
    if not isinstance(given, Mapping):
        raise InvalidInput(field, f"must be {what} by name, not a {type(given).__name__}")
    return given


def refuse_async_log(log: object, instead: str) -> None:
    """Raise `InvalidInput` for a log whose calls are awaited."""
    if inspect.iscoroutinefunction(getattr(log, "append_many", None)):
        raise InvalidInput("log", f"is for asyncio: use {instead}")


def refuse_blocking_log(log: object, instead: str) -> None:
    """Raise `InvalidInput` for a log whose calls block."""
    append_many = getattr(log, "append_many", None)
    if inspect.isroutine(append_many) and not inspect.iscoroutinefunction(inspect.unwrap(append_many)):
        raise InvalidInput("log", f"blocks: use {instead}")

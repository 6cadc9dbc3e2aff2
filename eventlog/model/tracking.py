"""The event that `track_event` appends for an event of an operation. Pure."""

import re
from collections.abc import Mapping
from typing import Any

from ..errors import InvalidInput
from .events import RUN_PATTERN, Body
from .ids import MAX_COUNTER
from .texts import plain

_RUN = re.compile(RUN_PATTERN, re.ASCII)


def tracked(
    event_name: str, data: Mapping[str, Any] | None, operation_id: object, *, payload_max_bytes: int = MAX_COUNTER
) -> Body:
    """The event of an operation: its name is the kind, its data the payload, and the operation is the run.

    An operation id that cannot name a run (one with blanks, for example) is kept in the payload as `operation_id`,
    unless the payload has one. Raises `InvalidInput`.
    """
    if data is not None and not isinstance(data, Mapping):
        raise InvalidInput("data", f"must be an object, not a {type(data).__name__}")
    if operation_id is None:
        return Body.of(event_name, data, payload_max_bytes=payload_max_bytes)
    name = plain(operation_id)
    if _RUN.fullmatch(name):
        return Body.of(event_name, data, run_id=name, payload_max_bytes=payload_max_bytes)
    return Body.of(event_name, {"operation_id": name, **(data or {})}, payload_max_bytes=payload_max_bytes)

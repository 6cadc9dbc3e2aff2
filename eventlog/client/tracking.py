"""What `track_event` makes of an event of somebody's operation. Pure."""

import re
from collections.abc import Mapping
from typing import Any

from ..errors import InvalidInput
from ..model.events import RUN_PATTERN, Body
from ..model.ids import MAX_COUNTER

_RUN = re.compile(RUN_PATTERN, re.ASCII)


def tracked(event_name: str, data: Mapping[str, Any] | None, operation_id: object) -> Body:
    """The event of an operation: its name is the kind, its data the payload, and the operation is the run.

    An operation id that cannot name a run (it has blanks, say) is kept in the payload as `operation_id`, unless there
    is one. Raises `InvalidInput`.
    """
    if data is not None and not isinstance(data, Mapping):
        raise InvalidInput("data", f"must be an object, not a {type(data).__name__}")
    if operation_id is None:
        return Body.of(event_name, data, payload_max_bytes=MAX_COUNTER)
    name = str(operation_id)
    if _RUN.fullmatch(name):
        return Body.of(event_name, data, run_id=name, payload_max_bytes=MAX_COUNTER)
    return Body.of(event_name, {"operation_id": name, **(data or {})}, payload_max_bytes=MAX_COUNTER)

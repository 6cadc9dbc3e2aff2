"""What `track_event`, and so a dispatcher, makes of an event of somebody's operation in our own log. Pure."""

import re
from typing import Any

from ..events import RUN_PATTERN, Body
from ..ids import MAX_COUNTER

_RUN = re.compile(RUN_PATTERN, re.ASCII)


def tracked(event_name: str, data: Any, operation_id: object) -> Body:
    """The event of an operation: its name is the kind, its data the payload, and the operation is the run.

    An operation id that cannot name a run (it has blanks, say) is kept in the payload as `operation_id`, unless there
    is one. How large the payload may be is for the log to say. Raises `InvalidInput`.
    """
    if operation_id is None:
        return Body.of(event_name, data, payload_max_bytes=MAX_COUNTER)
    name = str(operation_id)
    if _RUN.fullmatch(name):
        return Body.of(event_name, data, run_id=name, payload_max_bytes=MAX_COUNTER)
    return Body.of(event_name, {"operation_id": name, **(data or {})}, payload_max_bytes=MAX_COUNTER)

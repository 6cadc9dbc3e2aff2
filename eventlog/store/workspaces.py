"""Which workspaces have a log, or slots in use, in this Redis. A plan."""

from typing import Literal

from ..errors import InvalidInput
from ..model.ids import checked_workspace
from ..plan.effects import Plan
from .calls import call_command
from .keys import workspace_of, workspaces_pattern

_SCAN_COUNT = 1000


def list_workspaces(prefix: str, *, deadline_s: float, having: Literal["log", "slots"] = "log") -> Plan[list[str]]:
    """All names in alphabetical order: of those with a log, or with `slots` that are in use.

    Reads the key space in bounded steps.
    """
    # The sorted sets among a queue's keys are there only while somebody has a slot or waits for one.
    wanted = ("MATCH", workspaces_pattern(prefix, having), *(("TYPE", "zset") if having == "slots" else ()))
    found: set[str] = set()
    cursor = b"0"
    while True:
        cursor, keys = yield from call_command("SCAN", cursor, *wanted, "COUNT", _SCAN_COUNT, deadline_s=deadline_s)
        found.update(name for key in keys if (name := _name(key)) is not None)
        if cursor == b"0":
            return sorted(found)


def _name(key: bytes) -> str | None:
    try:
        return checked_workspace(workspace_of(key.decode()))
    except (InvalidInput, UnicodeDecodeError):
        return None  # a key of somebody else that looks like ours

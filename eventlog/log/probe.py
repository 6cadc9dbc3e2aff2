"""Whether an append would be taken. A plan; nothing is appended, and nothing stays."""

from ..plan.effects import Plan
from ..store.calls import call_script
from ..store.keys import WorkspaceKeys
from ..store.scripts import script


def probe_append(keys: WorkspaceKeys, *, deadline_s: float) -> Plan[None]:
    """Raises what an append to this workspace would raise: `BackendFull`, `BackendRefused`, `BackendUnavailable`."""
    yield from call_script(script("log/log_probe"), (scratch_key(keys),), (), deadline_s=deadline_s)


def scratch_key(keys: WorkspaceKeys) -> str:
    """A key that no writer has, for commands that change nothing."""
    return f"{keys.writer}probe"

"""The one place that spells a Redis key. All keys of a workspace share the hash tag `{workspace}`."""

from typing import NamedTuple

DEFAULT_PREFIX = "eventlog"


class WorkspaceKeys(NamedTuple):
    """The keys of one workspace; `run`, `run_index`, `idem` and `writer` are prefixes, to be followed by a name."""

    log: str
    meta: str
    runs: str
    run: str
    run_index: str
    idem: str
    writer: str

    @classmethod
    def of(cls, workspace: str, prefix: str = DEFAULT_PREFIX) -> "WorkspaceKeys":
        """Spell the keys of `workspace` under `prefix`."""
        base = f"{prefix}:{{{workspace}}}:"
        return cls(
            log=base + "log",
            meta=base + "meta",
            runs=base + "runs",
            run=base + "run:",
            run_index=base + "index:",
            idem=base + "idem:",
            writer=base + "writer:",
        )


def workspaces_pattern(prefix: str = DEFAULT_PREFIX) -> str:
    """A `SCAN MATCH` pattern for the meta keys of all workspaces."""
    return f"{prefix}:{{*}}:meta"


def workspace_of(meta_key: str) -> str:
    """The workspace that a meta key belongs to."""
    return meta_key[meta_key.index("{") + 1 : meta_key.rindex("}")]

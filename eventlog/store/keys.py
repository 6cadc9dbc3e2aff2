"""The one place that spells a Redis key. All keys of a workspace share the hash tag `{workspace}`."""

from typing import Literal, NamedTuple

DEFAULT_PREFIX = "eventlog"


class WorkspaceKeys(NamedTuple):
    """The keys of one workspace; those whose value ends in a colon are prefixes, to be followed by a name."""

    log: str
    meta: str
    runs: str
    run: str
    run_index: str
    idem: str
    writer: str
    policies: str
    queues: str
    slots: str
    bell: str
    tomb: str
    group: str

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
            policies=base + "policies",
            queues=base + "queues",
            slots=base + "slots:",
            bell=base + "bell:",
            tomb=base + "tomb:",
            group=base + "group:",
        )

    def queue(self, name: str) -> "QueueKeys":
        """Spell the keys of the slot queue `name`, `action` or `action/group`."""
        return QueueKeys(*(f"{self.slots}{name}:{part}" for part in QueueKeys._fields))

    def telemetry(self, run_id: str) -> "TelemetryKeys":
        """Spell the keys of a run's telemetry. No run id has a slash, so they are no other run's."""
        base = f"{self.run}{run_id}/"
        return TelemetryKeys(ring=base + "ring", samples=base + "samples", push=base + "push:")


class TelemetryKeys(NamedTuple):
    """The keys of one run's telemetry; `push:` is a prefix, to be followed by the key of a push."""

    ring: str
    samples: str
    push: str


class QueueKeys(NamedTuple):
    """The keys of one slot queue, in the order in which the scripts take them."""

    held: str
    line: str
    waits: str
    book: str
    state: str
    rate: str


def workspaces_pattern(prefix: str = DEFAULT_PREFIX, having: Literal["log", "slots"] = "log") -> str:
    """A `SCAN MATCH` pattern for the counters of all logs, or for the keys of all slot queues."""
    return f"{prefix}:{{*}}:{'meta' if having == 'log' else 'slots:*'}"


def workspace_of(key: str) -> str:
    """The workspace that a key belongs to."""
    return key[key.index("{") + 1 : key.rindex("}")]

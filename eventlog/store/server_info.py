"""What the Redis under a log says of itself, and what of that an operator should know. Plans and pure decisions."""

from dataclasses import dataclass
from typing import Any

from ..errors import BackendRefused
from ..plan.effects import Command, Plan
from .calls import call_command
from .links import LinkLost, Refused
from .restarts import may_hold_half, parsed_info

_NEARLY_FULL = 0.8
NEARLY_FULL = (
    "Redis uses over 80 % of its maxmemory, and refuses appends when it is full. Raise maxmemory, or keep less."
)


@dataclass(frozen=True, slots=True)
class RedisInfo:
    """`fsync` is None where the configuration may not be read; `save` is the snapshot schedule, "" for none."""

    name: str
    version: str
    role: str
    aof: bool
    fsync: str | None
    aof_failing: bool
    may_hold_half: bool
    save: str | None
    snapshot_failing: bool
    maxmemory_bytes: int
    maxmemory_policy: str
    used_memory_bytes: int

    def to_dict(self) -> dict[str, Any]:
        """The wire form."""
        return {
            "name": self.name,
            "version": self.version,
            "role": self.role,
            "persistence": {"aof": self.aof, "fsync": self.fsync if self.aof else None, "rdb": self.save or None},
            "maxmemory_bytes": self.maxmemory_bytes,
            "maxmemory_policy": self.maxmemory_policy,
            "used_memory_bytes": self.used_memory_bytes,
        }

    @property
    def nearly_full(self) -> bool:
        """Whether little of `maxmemory` is left."""
        return self.used_memory_bytes > _NEARLY_FULL * self.maxmemory_bytes > 0

    def warnings(self) -> list[str]:
        """One sentence for each thing that may cost events."""
        found: list[str] = []
        if not self.aof and self.save is None:
            found.append("No append-only file: a crash loses events. Set appendonly yes.")
        elif not self.aof and not self.save:
            found.append("Redis keeps nothing on disk: a restart loses the log. Set appendonly yes.")
        elif not self.aof:
            found.append("No append-only file: a crash loses all events since the last snapshot. Set appendonly yes.")
        elif self.fsync == "no":
            found.append("appendfsync is no: a power failure may lose many seconds of events.")
        if self.may_hold_half:
            found.append(
                "Redis has not rewritten its append-only file since it started: if a crash has torn that, half of a "
                "transaction comes back at the next start. Run BGREWRITEAOF."
            )
        if self.nearly_full:
            found.append(NEARLY_FULL)
        if self.maxmemory_policy != "noeviction":
            found.append(
                f"maxmemory-policy is {self.maxmemory_policy}: a full Redis may silently drop a log. Set noeviction."
            )
        if self.role != "master":
            found.append("This Redis is a replica: appends are refused.")
        if self.aof_failing or self.snapshot_failing:
            found.append("Redis cannot write to its disk: appends may be refused.")
        return found


def inspect_redis(*, deadline_s: float) -> Plan[RedisInfo | None]:
    """Ask Redis; None where it does not let its user run `INFO`. Raises `BackendUnavailable`."""
    try:
        raw = yield from call_command("INFO", deadline_s=deadline_s)
    except BackendRefused as error:
        if error.lacks is None:
            raise
        return None
    said = parsed_info(raw)
    fsync = yield from _setting("appendfsync", deadline_s)
    save = yield from _setting("save", deadline_s)
    return RedisInfo(
        name=said.get("server_name", "redis"),
        version=said.get("valkey_version") or said.get("redis_version", "unknown"),
        role=said.get("role", "master"),
        aof=said.get("aof_enabled") == "1",
        fsync=fsync,
        may_hold_half=may_hold_half(said),
        aof_failing=said.get("aof_last_write_status", "ok") != "ok",
        save=save,
        snapshot_failing=said.get("rdb_last_bgsave_status", "ok") != "ok",
        maxmemory_bytes=int(said.get("maxmemory", "0")),
        maxmemory_policy=said.get("maxmemory_policy", "unknown"),
        used_memory_bytes=int(said.get("used_memory", "0")),
    )


def _setting(name: str, deadline_s: float) -> Plan[str | None]:
    """A setting, or None: hosted Redis often forbids looking."""
    try:
        reply = yield Command(("CONFIG", "GET", name), deadline_s)
    except (LinkLost, Refused):
        return None
    return reply[1].decode() if len(reply) == 2 else None


def lacking_commands(scratch: str, *, deadline_s: float) -> Plan[list[str]]:
    """One sentence for each command that is done without, as Redis does not have it or its user no right to it.

    `scratch` is a key that nobody uses. Raises `BackendUnavailable`.
    """
    found: list[str] = []
    for args, without in (
        (("INFO", "server"), "what it keeps on disk, and how full it is, is not known"),
        (("CONFIG", "GET", "save"), "appendfsync and the schedule of snapshots are not known"),
        (("SCAN", 0, "COUNT", 1), "workspaces are not listed, and slots are tended only where this server is asked"),
        (("CLIENT", "UNBLOCK", 0), "new followers wait a tenth of a second"),
        (("XREAD", "COUNT", 1, "STREAMS", scratch, "0-0"), "followers look every quarter of a second"),
        (("BLPOP", scratch, "0.001"), "waiters for slots look every quarter of a second"),
        (("MEMORY", "USAGE", scratch), "the size of a log is not known"),
    ):
        try:
            yield from call_command(*args, deadline_s=deadline_s)
        except BackendRefused as error:
            if error.lacks is None:
                raise
            found.append(f"{error}: {without}.")
    return found

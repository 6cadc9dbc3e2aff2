"""Slots in Redis: acts are script calls, so they are atomic and see Redis' clock."""

import uuid
from collections.abc import Sequence
from functools import partial

from ..errors import VersionConflict
from ..model.retention import Retention
from ..plan.effects import Command, Plan
from ..store.calls import call_command, call_script, failed_wait
from ..store.keys import WorkspaceKeys
from ..store.links import LinkLost, Refused
from ..store.scripts import script
from .acts import Act, Performed, Poke, Ring
from .encoding import Arg, decode_answer, decode_policy, decode_ring, decode_stats, encode_act, encode_policy
from .policy import Policy, Scope, StoredPolicy
from .protocol import Cleared, QueueStats

_BLOCK_MARGIN_S = 2.0
_CALL_MEMORY_MS = 600_000
_QUEUES_A_CALL = 64
_KNOWN_QUEUES = 1000


class RedisSlots:
    """See `SlotBackend` for what is guaranteed."""

    name = "redis"

    def __init__(self, keys: WorkspaceKeys, retention: Retention, deadline_s: float) -> None:
        self._keys = keys
        self._deadline_s = deadline_s
        self._log_keys = (keys.log, keys.meta, f"{keys.runs} {keys.run} {keys.run_index}")
        self._shared_keys = (*self._log_keys, keys.policies, keys.queues, keys.bell, keys.tomb)
        self._known: dict[str, Sequence[str]] = {}
        self._new_log = (f"{retention.ttl_ms} {retention.max_entries}", uuid.uuid4().hex[:16])

    def perform(self, acts: Sequence[Act], inbox: str = "", deadline_s: float | None = None) -> Plan[Performed]:
        """One call of `slot_calls.lua`."""
        if len(acts) == 1:
            queue = acts[0].queue
            keys: Sequence[str] = self._keys_of_one(queue)
            args = (*self._new_log, inbox, 1, queue, *encode_act(acts[0], 1))
        else:
            keys, args = self._many(acts, inbox)
        repeats: list[None] = []
        now_ms, rings, *answers = yield from call_script(
            script("slots/slot_calls"),
            keys,
            args,
            deadline_s=self._deadline_s if deadline_s is None else deadline_s,
            writes=True,
            on_repeat=partial(repeats.append, None),
        )
        return Performed(
            now_ms, [decode_answer(answer) for answer in answers], bool(repeats), [decode_ring(raw) for raw in rings]
        )

    def _keys_of_one(self, queue: str) -> Sequence[str]:
        keys = self._known.get(queue)
        if keys is None:
            if len(self._known) >= _KNOWN_QUEUES:
                self._known.clear()
            keys = self._known[queue] = (*self._shared_keys, *self._keys.queue(queue))
        return keys

    def _many(self, acts: Sequence[Act], inbox: str) -> tuple[Sequence[str], tuple[Arg, ...]]:
        numbers: dict[str, int] = {}
        args: list[Arg] = []
        for act in acts:
            args += encode_act(act, numbers.setdefault(act.queue, len(numbers) + 1))
        keys = [*self._shared_keys, *(key for queue in numbers for key in self._keys.queue(queue))]
        return keys, (*self._new_log, inbox, len(numbers), *numbers, *args)

    def listen(self, bell: str, timeout_s: float, most: int = 1) -> Plan[list[Ring]]:
        """A blocking pop from the bell's list: a hint, for another call finds the same grant."""
        key = self._keys.bell + bell
        timeout = f"{max(timeout_s, 0.001):.3f}"
        command: tuple[str, ...] = ("BLPOP", key, timeout)
        if most > 1:
            command = ("BLMPOP", timeout, "1", key, "LEFT", "COUNT", str(most))
        try:
            reply = yield Command(command, timeout_s + _BLOCK_MARGIN_S)
        except (LinkLost, Refused) as error:
            yield from failed_wait(error, command, timeout_s)
            return []
        if not reply:
            return []
        return [decode_ring(raw) for raw in (reply[1:] if most == 1 else reply[1])]

    def stats(self, queues: Sequence[str], most: int) -> Plan[list[QueueStats]]:
        """`slot_stats.lua`, a call for some queues at a time."""
        found: list[QueueStats] = []
        for some in _portions(queues):
            now_ms, *raws = yield from call_script(
                script("slots/slot_stats"),
                (self._keys.policies, *(key for queue in some for key in self._keys.queue(queue))),
                (most, len(some), *some),
                deadline_s=self._deadline_s,
            )
            found += (decode_stats(raw, now_ms) for raw in raws)
        return found

    def queues(self) -> Plan[list[str]]:
        """The members of the workspace's set of queues."""
        names = yield from call_command("ZRANGE", self._keys.queues, 0, -1, deadline_s=self._deadline_s)
        return sorted(name.decode() for name in names)

    def due(self, passed_over: int, most: int) -> Plan[tuple[int, list[str]]]:
        """One call of `slot_due.lua`."""
        keys = (self._keys.queues, self._keys.slots)
        looked, *names = yield from call_script(
            script("slots/slot_due"), keys, (passed_over, most), deadline_s=self._deadline_s
        )
        return looked, [name.decode() for name in names]

    def find(self, execution: str, queues: Sequence[str]) -> Plan[list[str]]:
        """`slot_find.lua`, a call for some queues at a time."""
        found: list[str] = []
        for some in _portions(queues, 500):
            books = [self._keys.queue(queue).book for queue in some]
            numbers = yield from call_script(
                script("slots/slot_find"), books, (execution,), deadline_s=self._deadline_s
            )
            found += (some[number - 1] for number in numbers)
        return found

    def clear(self, queues: Sequence[str]) -> Plan[Cleared]:
        """`slot_clear.lua`, a call for some queues at a time."""
        holders = waiters = 0
        for some in _portions(queues):
            _, held, waited = yield from call_script(
                script("slots/slot_clear"),
                (
                    *self._log_keys,
                    self._keys.tomb + uuid.uuid4().hex,
                    self._keys.bell,
                    *(key for queue in some for key in self._keys.queue(queue)),
                ),
                (*self._new_log, _CALL_MEMORY_MS, len(some), *some),
                deadline_s=self._deadline_s,
                writes=True,
            )
            holders, waiters = holders + held, waiters + waited
        return Cleared(holders, waiters)

    def policies(self) -> Plan[dict[Scope, StoredPolicy]]:
        """The fields of the workspace's hash of policies."""
        raw = yield from call_command("HGETALL", self._keys.policies, deadline_s=self._deadline_s)
        fields = {raw[i].decode(): raw[i + 1] for i in range(0, len(raw), 2)}
        fields.pop("version", None)
        return {Scope.parse(name): decode_policy(value) for name, value in sorted(fields.items())}

    def put_policy(self, scope: Scope, policy: Policy | None, expected_version: int | None) -> Plan[int]:
        """`policy_put.lua`, then the queues that it bears on hand out what it frees."""
        word, version = yield from call_script(
            script("slots/policy_put"),
            (self._keys.policies,),
            (
                str(scope),
                "" if policy is None else encode_policy(policy),
                "" if expected_version is None else expected_version,
            ),
            deadline_s=self._deadline_s,
            writes=True,
        )
        if word == b"conflict":
            raise VersionConflict(expected_version or 0, version)
        affected = [queue for queue in (yield from self.queues()) if scope.covers(queue)]
        for some in _portions(affected):
            yield from self.perform([Poke(queue) for queue in some])
        return int(version)


def _portions(queues: Sequence[str], size: int = _QUEUES_A_CALL) -> list[Sequence[str]]:
    return [queues[i : i + size] for i in range(0, len(queues), size)]

"""Telemetry in Redis: a push and a look are a script call each, so they are atomic and see Redis' clock."""

import time
import uuid
from collections.abc import Sequence
from typing import Any

from ..model.retention import Retention
from ..plan.effects import Plan
from ..store.calls import call_script
from ..store.keys import WorkspaceKeys
from ..store.scripts import script
from .protocol import CALL_MEMORY_MS, Added, Look, Push, Refusal, Stretch
from .sample import Kept, let_go, placed
from .terms import RingTerms

_LOOKED_AT = 2000


class RedisTelemetry:
    """See `TelemetryBackend` for what is guaranteed."""

    name = "redis"

    def __init__(self, keys: WorkspaceKeys, retention: Retention, deadline_s: float, terms: RingTerms) -> None:
        self.capacity = terms.capacity
        self._keys = keys
        self._window_ms = retention.window_ms
        self._retention = f"{retention.ttl_ms} {retention.max_entries}"
        self._deadline_s = deadline_s
        self._terms = terms

    def push(self, push: Push) -> Plan[Added | Refusal]:
        """One call of `telemetry_push.lua`, which is repeated under the same name until the outcome is known."""
        keys = self._keys.telemetry(push.run_id)
        call, began_s = uuid.uuid4().hex, time.monotonic()
        samples = [part for one in push.samples for part in (one.age_ms, one.stage_name or "", one.data)]
        word, *answer = yield from call_script(
            script("telemetry/telemetry_push"),
            (
                keys.ring,
                keys.samples,
                self._keys.run + push.run_id,
                self._keys.meta,
                # A caller's key is not mistaken for a name of ours, whatever it is.
                f"{keys.push}{call}" if push.key is None else f"{keys.push}key:{push.key}",
            ),
            (
                CALL_MEMORY_MS if push.key is None else self._window_ms,
                "" if push.capacity is None else push.capacity,
                self._terms.capacity,
                self._terms.grace_ms,
                self._retention,
                call,
                *samples,
            ),
            deadline_s=self._deadline_s,
            writes=True,
            last=lambda: round((time.monotonic() - began_s) * 1000),
        )
        if not answer:
            return _REFUSALS[word]
        first, count, at_ms = map(int, answer[:3])
        if len(answer) == 3:
            return Added(placed(push.samples, first, at_ms))
        return Added(let_go(first, count, at_ms, map(_kept, answer[3])), duplicate=word == b"replayed")

    def look(self, look: Look) -> Plan[Stretch | None]:
        """One call of `telemetry_read.lua`."""
        keys = self._keys.telemetry(look.run_id)
        word, *answer = yield from call_script(
            script("telemetry/telemetry_read"),
            (keys.ring, keys.samples, self._keys.run + look.run_id, self._keys.meta),
            (look.from_seq, look.stage_name or "", look.most, _LOOKED_AT, self._retention),
            deadline_s=self._deadline_s,
        )
        if word == b"unknown":
            return None
        next_seq, missed, capacity, complete, entries = answer
        return Stretch(
            list(map(_kept, entries)),
            int(next_seq),
            int(missed),
            int(capacity) if capacity else None,
            complete == b"1",
        )


_REFUSALS: dict[bytes, Refusal] = {b"unknown": "unknown", b"disabled": "disabled", b"over": "over"}


def _kept(entry: Sequence[Any]) -> Kept:
    """Read an entry `[<seq>-<ms>, [field, value, …]]` as XRANGE gives it."""
    raw_id, fields = entry
    seq, _, ms = raw_id.partition(b"-")
    stage_name = fields[1].decode() if fields[0] == b"stage_name" else None
    return Kept(int(seq), int(ms), stage_name, fields[-1])

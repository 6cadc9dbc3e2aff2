"""A consumer group on a log's stream: several readers share the events of one kind. Plans."""

import uuid
from collections.abc import Iterable, Sequence

from ..model.events import Event
from ..plan.effects import Command, Plan
from ..store.calls import call_script, failed_wait
from ..store.keys import WorkspaceKeys
from ..store.links import LinkLost, Refused
from ..store.scripts import script
from .encoding import decode_entry
from .protocol import Consumer, Delivery

_LOOKED_AT_ONCE = 200
_BLOCK_MARGIN_S = 2.0
_FORGET_CONSUMER_MS = 600_000


class GroupConsumer:
    """One consumer of the group `name` on a stream. What dead consumers left is taken over after `take_over_s` seconds.

    The group is made when it is first needed, and again where it was lost with the stream.
    """

    def __init__(self, keys: WorkspaceKeys, name: str, kind: str, *, take_over_s: float, deadline_s: float) -> None:
        self._log, self._meta, self._standing = keys.log, keys.meta, keys.group + name
        self._name = name
        self._consumer = uuid.uuid4().hex
        self._kind = kind
        # At least one: what was given to somebody within this very call is not taken over.
        self._take_over_ms = max(1, round(take_over_s * 1000))
        self._deadline_s = deadline_s
        self._done: list[str] = []
        self._epoch = ""
        self._present = False
        self._position = "0-0"

    def take(self) -> Plan[Delivery]:
        """One call of `group_take.lua`; it acknowledges what is done by then."""
        acknowledged = tuple(self._done)
        epoch, how, missed, lost, lag, position, looked_at, entries = yield from call_script(
            script("log/group_take"),
            (self._log, self._meta, self._standing),
            (self._name, self._consumer, self._kind, _LOOKED_AT_ONCE, self._take_over_ms, *acknowledged),
            deadline_s=self._deadline_s,
            writes=True,
        )
        del self._done[: len(acknowledged)]
        self._position = position.decode()
        began_anew = how == b"reset" or (self._epoch not in ("", epoch.decode()) and epoch != b"")
        self._epoch = epoch.decode() or self._epoch
        if how == b"new" and not began_anew and not self._present:
            missed = 0  # what went before the group was not for it
        self._present = True
        events = [decode_entry(entry) for entry in entries]
        return Delivery(events, missed + lost, began_anew, lag, looked_at, looked_at >= _LOOKED_AT_ONCE or bool(events))

    def done(self, events: Iterable[Event]) -> None:
        """See `Consumer.done`; the next `take` or `leave` acknowledges them."""
        self._done += (event.id for event in events)

    def wait(self, timeout_s: float, others: Sequence[Consumer] = ()) -> Plan[list[Consumer]]:
        """See `Consumer.wait`. A blocking `XREAD` that is only a wake-up: it keeps its connection for as long."""
        block_ms = max(1, round(timeout_s * 1000))
        logs = {one._log.encode(): one for one in (self, *others) if isinstance(one, GroupConsumer)}
        positions = (one._position for one in logs.values())
        args: tuple[bytes | str, ...] = ("XREAD", "COUNT", "1", "BLOCK", str(block_ms), "STREAMS", *logs, *positions)
        try:
            reply = yield Command(args, timeout_s + _BLOCK_MARGIN_S)
        except (LinkLost, Refused) as error:
            yield from failed_wait(error, args, timeout_s)
            return []
        return [logs[key] for key, _ in reply or ()]

    def leave(self) -> Plan[None]:
        """See `Consumer.leave`."""
        yield from self._leave(self._consumer)

    def sweep(self) -> Plan[None]:
        """Remove consumers that have left nothing behind and were not heard of for ten minutes."""
        yield from self._leave("")

    def _leave(self, consumer: str) -> Plan[None]:
        acknowledged = tuple(self._done)
        yield from call_script(
            script("log/group_leave"),
            (self._log,),
            (self._name, consumer, _FORGET_CONSUMER_MS, *acknowledged),
            deadline_s=self._deadline_s,
            writes=True,
        )
        del self._done[: len(acknowledged)]

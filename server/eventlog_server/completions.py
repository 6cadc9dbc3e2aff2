"""Slots are given back when executions complete, and handed on when leases end though nobody looks, in every workspace
where somebody has a slot or waits for one: on Redis by one loop over one connection, however many workspaces there
are; in memory by a listener each.
"""

import asyncio
import logging
import time

from eventlog.enforcement.completed import CompletionLoop, CompletionStats, CompletionWork
from eventlog.enforcement.completion import AsyncCompletionListener
from eventlog.errors import BackendRefused
from eventlog.factory import redis_backend
from eventlog.log.awaited import AsyncEventLog
from eventlog.plan.drive import arun
from eventlog.plan.effects import Plan
from eventlog.slots.core import SlotCore
from eventlog.store.links import AsyncLink
from eventlog.store.server_info import inspect_redis
from eventlog.store.workspaces import list_workspaces

from .logs import Logs

_log = logging.getLogger("eventlog.server")
_DISCOVER_S = 10.0
_WORKSPACES = 10_000
# How often a workspace is looked at where nothing is heard of it: for what dead listeners of elsewhere have left.
_LOOK_S = 10.0
_TEND_S = 1.0
_FAREWELL_S = 1.0


class _Loop(CompletionLoop):
    """The workspaces of one Redis: those that are noted, and others as they are discovered there."""

    def __init__(self, logs: Logs) -> None:
        super().__init__()
        self._logs = logs
        self._config = logs.config
        self._slots: dict[str, SlotCore] = {}
        self._noted_at: dict[str, float] = {}
        self._discover_at = 0.0
        self._undiscovered = False
        self._tend_at = 0.0
        self._most_found = 0

    def note(self, workspace: str) -> None:
        """The slots of this workspace are in use."""
        self._noted_at[workspace] = time.monotonic()
        if workspace not in self.works:
            log = redis_backend(self._config, workspace)
            slots = log.slots()
            self._slots[workspace] = SlotCore(slots)
            self.works[workspace] = CompletionWork(workspace, log, slots, look_s=_LOOK_S)

    def upkeep(self) -> Plan[None]:
        now = time.monotonic()
        if now >= self._discover_at:
            self._logs.note((yield from inspect_redis(deadline_s=self._config.deadline_seconds)))
            yield from self._discover()
            self._discover_at = now + _DISCOVER_S
        if now >= self._tend_at:
            # Waiters in `acquire` look after their queues themselves; but places may be unattended.
            for slots in list(self._slots.values()):
                yield from slots.tend()
            self._tend_at = now + _TEND_S

    def _discover(self) -> Plan[None]:
        prefix, deadline_s = self._config.key_prefix, self._config.deadline_seconds
        try:
            found = yield from list_workspaces(prefix, deadline_s=deadline_s, having="slots")
        except BackendRefused as error:
            if error.lacks is None:
                raise
            if not self._undiscovered:
                _log.warning("%s; slots are tended only where this server was asked for them", error)
            self._undiscovered = True
            return
        self._undiscovered = False
        if len(found) > max(_WORKSPACES, self._most_found):
            _log.warning("slots of %d workspaces are served, of %d that have some", _WORKSPACES, len(found))
        self._most_found = max(len(found), self._most_found)
        for workspace in found[:_WORKSPACES]:
            self.note(workspace)
        long_ago = time.monotonic() - 2 * _DISCOVER_S
        for workspace, noted_at in list(self._noted_at.items()):
            if noted_at < long_ago:
                del self._noted_at[workspace], self._slots[workspace]
                yield from self.works.pop(workspace).consumer.leave()


class Completions:
    """Open and close it within the event loop that serves. `note` every workspace whose slots are used.

    Other workspaces of the same Redis are found within about ten seconds, so that executions whose slots were taken
    without this server are served too. Any number of servers share the work, with the listeners of the library.
    """

    def __init__(self, logs: Logs) -> None:
        self._logs = logs
        self._loop = _Loop(logs)
        self._listeners: dict[str, AsyncCompletionListener] = {}
        self._link: AsyncLink | None = None
        self._task: asyncio.Task[None] | None = None
        self._open = False

    def open(self) -> None:
        """Begin, once the logs are open."""
        self._open = True
        self._logs.on_slots = self.note
        if self._logs.connect is not None:
            self._link = self._logs.connect(1)
            work = arun(self._loop.run(), self._link.execute)
        else:
            work = self._tend_in_memory()
        self._task = asyncio.create_task(work, name="eventlog-completions")

    def note(self, log: AsyncEventLog) -> None:
        """The slots of this log's workspace are in use."""
        if not self._open:
            return
        if self._link is not None:
            self._loop.note(log.workspace)
        elif log.workspace not in self._listeners:
            self._listeners[log.workspace] = AsyncCompletionListener(log).start()

    def stats(self) -> CompletionStats:
        """The sums of all workspaces that are served now."""
        return sum((listener.stats() for listener in self._listeners.values()), self._loop.stats())

    async def _tend_in_memory(self) -> None:
        while True:
            await asyncio.sleep(_TEND_S)
            for workspace in list(self._listeners):
                await self._logs.slots(workspace).tend()

    async def close(self) -> None:
        """Stop, acknowledge what was done and leave, bounded. What was not done others take over. Idempotent."""
        self._open = False
        self._loop.end()
        if self._task is not None:
            if self._link is not None:
                await asyncio.wait([self._task], timeout=_FAREWELL_S)
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None
        if self._link is not None:
            await self._link.close()
            self._link = None
        await asyncio.gather(*(listener.stop() for listener in self._listeners.values()))
        self._listeners.clear()

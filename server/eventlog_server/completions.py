"""Slots are given back when executions complete, and handed on when leases end though nobody looks, in every workspace
that has slot queues: on Redis over two links, however many workspaces there are; in memory by a listener each.
"""

import asyncio
import contextlib
import logging
import time
from dataclasses import asdict
from typing import Any

from eventlog.enforcement.completed import COMPLETED, CompletionStats, CompletionWork
from eventlog.enforcement.completion import GROUP, TAKE_OVER_S, AsyncCompletionListener
from eventlog.errors import EventLogError
from eventlog.factory import redis_backend
from eventlog.log.awaited import AsyncEventLog
from eventlog.log.consumer import LogGroup, wait_for_any
from eventlog.plan.drive import arun
from eventlog.slots.operations import SlotService
from eventlog.store.links import AsyncLink
from eventlog.store.workspaces import list_workspaces

from .logs import Logs

_log = logging.getLogger("eventlog.server")

_WORKING_AT_ONCE = 4
_BLOCK_S = 1.0
_PAUSE_S = 0.5
_DISCOVER_S = 10.0
_WORKSPACES = 10_000
# How often a workspace is looked at where nothing is heard of it: for what dead listeners of elsewhere have left.
_LOOK_S = 10.0
_SWEEP_S = 300.0
_TEND_S = 1.0
_STEPS_A_ROUND = 20
_FAREWELL_S = 1.0


class _Served:
    """One workspace on Redis."""

    def __init__(self, slots: SlotService, work: CompletionWork, group: LogGroup) -> None:
        self.slots = slots
        self.work = work
        self.group = group
        self.look_at = 0.0
        self.sweep_at = time.monotonic() + _SWEEP_S
        self.noted_at = time.monotonic()


class Completions:
    """Open and close it within the event loop that serves. `note` every workspace whose slots are used.

    Other workspaces of the same Redis are found within about ten seconds, so that executions whose slots were taken
    without this server are served too. Any number of servers share the work, with the listeners of the library.
    """

    def __init__(self, logs: Logs) -> None:
        self._logs = logs
        self._served: dict[str, _Served] = {}
        self._listeners: dict[str, AsyncCompletionListener] = {}
        self._links: tuple[AsyncLink, AsyncLink] | None = None
        self._task: asyncio.Task[None] | None = None
        self._discover_at = 0.0
        self._tend_at = 0.0
        self._scope: asyncio.Timeout | None = None
        self._open = False

    def open(self) -> None:
        """Begin, once the logs are open."""
        self._open = True
        self._logs.on_slots = self.note
        if self._logs.connect is not None:
            self._links = (self._logs.connect(1), self._logs.connect(_WORKING_AT_ONCE))
            self._task = asyncio.create_task(self._run(*self._links), name="eventlog-completions")
        else:
            self._task = asyncio.create_task(self._tend_in_memory(), name="eventlog-completions")

    def note(self, log: AsyncEventLog) -> None:
        """The slots of this log's workspace are in use."""
        if not self._open:
            return
        if self._links is None:
            if log.workspace not in self._listeners:
                self._listeners[log.workspace] = AsyncCompletionListener(log).start()
        else:
            self._serve(log.workspace).noted_at = time.monotonic()

    def stats(self) -> CompletionStats:
        """The sums of all workspaces that are served now."""
        all_of_them: list[CompletionStats] = [served.work.stats for served in self._served.values()]
        all_of_them += (listener.stats() for listener in self._listeners.values())
        total: dict[str, Any] = asdict(CompletionStats())
        for one in all_of_them:
            for name, value in asdict(one).items():
                total[name] += value
        return CompletionStats(**total)

    def _serve(self, workspace: str) -> _Served:
        served = self._served.get(workspace)
        if served is None:
            log = redis_backend(self._logs.config, workspace)
            group = LogGroup(log.keys, GROUP, COMPLETED, take_over_s=TAKE_OVER_S, deadline_s=log.deadline_s)
            slots = SlotService(log.slots())
            work = CompletionWork(workspace, slots, group)
            served = self._served[workspace] = _Served(slots, work, group)
            if self._scope is not None:
                self._scope.reschedule(asyncio.get_running_loop().time())
        return served

    async def _run(self, waiting: AsyncLink, working: AsyncLink) -> None:
        while True:
            try:
                await self._discover(working)
                await self._wait(waiting)
                await self._look(working)
                await self._tend(working)
            except EventLogError as error:
                _log.warning("completions wait for Redis: %s", error)
                await asyncio.sleep(_PAUSE_S)
            except Exception:
                _log.exception("completions failed, and go on")
                await asyncio.sleep(_PAUSE_S)

    async def _wait(self, waiting: AsyncLink) -> None:
        """Until one of the logs has something new, a workspace is noted, or it is time to look."""
        if self._due():
            return
        groups = {served.group: served for served in self._served.values()}
        self._scope = asyncio.timeout(_BLOCK_S if not groups else None)
        try:
            async with self._scope:
                if not groups:
                    await asyncio.Event().wait()
                for group in await arun(wait_for_any(list(groups), _BLOCK_S), waiting.execute):
                    groups[group].look_at = 0.0
        except TimeoutError:
            pass
        finally:
            self._scope = None

    async def _discover(self, working: AsyncLink) -> None:
        now = time.monotonic()
        if now < self._discover_at:
            return
        config = self._logs.config
        plan = list_workspaces(config.key_prefix, most=_WORKSPACES, deadline_s=config.deadline_seconds, having="queues")
        found = set(await arun(plan, working.execute))
        self._discover_at = now + _DISCOVER_S
        for workspace in found:
            self._serve(workspace).noted_at = now
        for workspace, served in list(self._served.items()):
            if now - served.noted_at > 2 * _DISCOVER_S:
                del self._served[workspace]
                await arun(served.group.leave(), working.execute)

    def _due(self) -> list[_Served]:
        now = time.monotonic()
        return [served for served in self._served.values() if served.look_at <= now]

    async def _look(self, working: AsyncLink) -> None:
        """Look at those that are due, a few at a time; where Redis is away the first of them tell."""
        due = self._due()
        for first in range(0, len(due), _WORKING_AT_ONCE):
            steps = (self._step(served, working) for served in due[first : first + _WORKING_AT_ONCE])
            # All of them end before anything goes on: a workspace takes one step at a time.
            for outcome in await asyncio.gather(*steps, return_exceptions=True):
                if outcome is not None:
                    raise outcome

    async def _tend(self, working: AsyncLink) -> None:
        """Those who wait attend to their queues themselves; but places may be unattended, and events are to be told."""
        if time.monotonic() < self._tend_at:
            return
        for served in list(self._served.values()):
            await arun(served.slots.tend(), working.execute)
        self._tend_at = time.monotonic() + _TEND_S

    async def _tend_in_memory(self) -> None:
        while True:
            await asyncio.sleep(_TEND_S)
            for workspace in list(self._listeners):
                await self._logs.slots(workspace).tend()

    async def _step(self, served: _Served, working: AsyncLink) -> None:
        for _ in range(_STEPS_A_ROUND):
            if not await arun(served.work.step(), working.execute):
                served.look_at = time.monotonic() + _LOOK_S
                break
        if served.sweep_at <= time.monotonic():
            served.sweep_at = time.monotonic() + _SWEEP_S
            await arun(served.group.sweep(), working.execute)

    async def close(self) -> None:
        """Stop, acknowledge what was done and leave, bounded. What was not done others take over. Idempotent."""
        self._open = False
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None
        if self._links is not None:
            waiting, working = self._links
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_FAREWELL_S):
                    leaving = (arun(served.group.leave(), working.execute) for served in self._served.values())
                    await asyncio.gather(*leaving, return_exceptions=True)
            self._links = None
            await waiting.close()
            await working.close()
        await asyncio.gather(*(listener.stop() for listener in self._listeners.values()))
        self._listeners.clear()

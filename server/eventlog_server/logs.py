"""The logs of all workspaces in one server: made on demand over one shared link, bounded, forgotten when unused.

`Logs` also owns the hub that all streams follow, and the embedded Redis where no other is named.
"""

import asyncio
import logging
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any, TypeVar

from eventlog.embedded import EmbeddedRedis
from eventlog.errors import BackendUnavailable, Overloaded
from eventlog.factory import create_async_event_log, known_backend, redis_backend
from eventlog.log.awaited import AsyncDirectLog, AsyncEventLog
from eventlog.log.limits import LogLimits
from eventlog.log.probe import probe_append, scratch_key
from eventlog.log.protocol import Backend
from eventlog.model.ids import checked_workspace
from eventlog.model.log_values import ReadRequest
from eventlog.plan.drive import ano_transport, arun
from eventlog.plan.effects import Command, Plan
from eventlog.slots.awaited import AsyncSlotQueue
from eventlog.store.keys import WorkspaceKeys
from eventlog.store.links import AsyncLink
from eventlog.store.server_info import NEARLY_FULL, RedisInfo, inspect_redis, lacking_commands
from eventlog.store.workspaces import list_workspaces
from eventlog.tail.hub import Hub

from .deadlines import Deadlines
from .room import Room
from .settings import ServerSettings

_log = logging.getLogger("eventlog.server")

T = TypeVar("T")
CONNECTIONS = 8
# Each workspace in which somebody waits for a slot reads its inbox on one of them. Where more do, they take turns, and
# those that wait look for themselves every two seconds.
INBOXES = 64
# A call's deadline, and a little for what surrounds it. An append may have to wait for the call before its own.
_MARGIN_S = 0.2
_NOT_SHARED = "The backend is {}: nothing is kept on disk or shared with other processes."


class Logs:
    """Open it with `open`, in the event loop that will use it; close it there too."""

    def __init__(self, settings: ServerSettings) -> None:
        self.settings = settings
        self.answer_s = settings.request_deadline_s + _MARGIN_S
        self.config = replace(settings.log, deadline_seconds=settings.request_deadline_s)
        # A library falls back to memory and says so; a server that is up would keep nothing, and nobody would look.
        self.backend = known_backend(self.config.backend)
        self.limits = LogLimits(
            payload_max_bytes=self.config.payload_max_bytes,
            batch_max_events=settings.batch_max_events,
            batch_max_bytes=max(settings.body_max_bytes, self.config.payload_max_bytes),
            deadline_s=settings.request_deadline_s,
            telemetry=self.config.telemetry,
        )
        self.guard = self.config.guard
        self.deadlines = Deadlines()
        self.room = Room(settings.held_max_bytes)
        self._known: OrderedDict[str, AsyncEventLog] = OrderedDict()
        self._link: AsyncLink | None = None
        self._inboxes: _SharedLink | None = None
        self._embedded: EmbeddedRedis | None = None
        self.connect: Callable[[int], AsyncLink] | None = None
        self.on_slots: Callable[[AsyncEventLog], None] | None = None
        self.hub = Hub(None, None)
        self._nearly_full = False

    async def open(self) -> None:
        """Start the embedded Redis if it is the one to use; raises `EmbeddedRedisError`. Idempotent.

        A Redis that is away is no error: requests are answered 503 until it is back.
        """
        if not self._on_redis or self._link is not None:
            return
        url, on_lost = self.config.redis_url, None
        if url is None:
            self._embedded = await asyncio.to_thread(
                EmbeddedRedis.start, self.config.data_dir, maxmemory=self.config.redis_maxmemory
            )
            url, on_lost = self._embedded.url, self._embedded.revive
        connect: Callable[[int], AsyncLink] = lambda size: AsyncLink(url, size, on_lost)  # noqa: E731
        self.connect = connect
        self._link = connect(CONNECTIONS)
        self._inboxes = _SharedLink(connect(INBOXES))
        self.hub = Hub(self._link, lambda: connect(1), buffer_events=self.settings.follower_buffer)

    @property
    def _on_redis(self) -> bool:
        return self.backend == "redis"

    def of(self, workspace: str) -> AsyncEventLog:
        """The log of a workspace; raises `InvalidInput` for a name that is none."""
        log = self._known.get(workspace)
        if log is None:
            log = self._make(checked_workspace(workspace))
        self._known.move_to_end(workspace)
        return log

    def _make(self, workspace: str) -> AsyncEventLog:
        if len(self._known) >= self.settings.workspaces_max:
            if self._link is None:
                # What only this process holds is not dropped for the sake of another.
                raise Overloaded(f"{len(self._known)} workspaces are open already")
            # It is only forgotten: appends and waits under way end on the shared links.
            self._known.popitem(last=False)
        inboxes = self._inboxes
        log = AsyncDirectLog(
            self._backend(workspace),
            workspace=workspace,
            limits=self.limits,
            guard=self.guard,
            link=self._link,
            connect=None if inboxes is None else lambda _: inboxes,
        )
        self._known[workspace] = log
        return log

    def slots(self, workspace: str) -> AsyncSlotQueue:
        """The slot queues of a workspace; raises `InvalidInput` for a name that is none."""
        log = self.of(workspace)
        if self.on_slots is not None:
            self.on_slots(log)
        return log.slots()

    def _backend(self, workspace: str) -> Backend:
        if self._on_redis:
            return redis_backend(self.config, workspace)
        config = replace(self.config, workspace=workspace)
        return create_async_event_log(config=config).core.backend

    async def in_time(self, work: Awaitable[T], *, writes: bool = True) -> T:
        """What comes of `work`; raises `BackendUnavailable` if it takes longer than an answer may take."""
        try:
            with self.deadlines.within(self.answer_s):
                return await work
        except TimeoutError:
            raise BackendUnavailable(f"no answer within {self.answer_s:g} s", outcome_unknown=writes) from None

    async def _drive(self, plan: Plan[T]) -> T:
        return await arun(plan, ano_transport if self._link is None else self._link.execute)

    async def workspaces(self, after: str | None, limit: int) -> dict[str, Any]:
        """At most `limit` workspaces with a log, by name, after `after`; of these the latest active first."""
        listed = list_workspaces(self.config.key_prefix, deadline_s=self.settings.request_deadline_s)
        names = sorted(self._known) if self._link is None else await self._drive(listed)
        names = names[bisect_right(names, after or "") :]
        some = names[:limit]
        found = [one for name in some if (one := await self._described(name))["last_offset"]]
        return {
            "workspaces": sorted(found, key=lambda one: -one["last_activity"]),
            "cursor": some[-1] if some else after,
            "at_end": len(some) == len(names),
        }

    async def _described(self, workspace: str) -> dict[str, Any]:
        # Not through `of`: looking at many must not push out those in use.
        known = self._known.get(workspace)
        backend = self._backend(workspace) if known is None else known.core.backend
        state = (await self._drive(backend.read(ReadRequest()))).state
        return {
            "workspace": workspace,
            "last_offset": state.last.offset,
            "last_activity": state.last.ms / 1000,
            "length": state.length,
            "bytes": await self._drive(backend.memory_bytes()),
            "epoch": state.epoch or None,
        }

    async def readiness(self) -> tuple[RedisInfo | None, list[str]]:
        """What Redis says of itself (None where the backend is another, or it does not), and what is to be warned of.

        Raises what an append would raise; it is tried on the workspace of the settings.
        """
        if self._link is None:
            return None, [_NOT_SHARED.format(self.backend)]
        return await self._drive(self._readiness())

    def _readiness(self) -> Plan[tuple[RedisInfo | None, list[str]]]:
        keys = WorkspaceKeys.of(self.config.workspace, self.config.key_prefix)
        deadline_s = self.settings.request_deadline_s
        yield from probe_append(keys, deadline_s=deadline_s)
        info = yield from inspect_redis(deadline_s=deadline_s)
        self.note(info)
        warnings = [] if info is None else info.warnings()
        warnings += yield from lacking_commands(scratch_key(keys), deadline_s=deadline_s)
        if self.hub.trouble is not None:
            warnings.append(f"Streams are not live: {self.hub.trouble}.")
        return info, warnings

    def note(self, info: RedisInfo | None) -> None:
        """Log it once when the memory of Redis runs short: that comes while nobody looks."""
        nearly_full = info is not None and info.nearly_full
        if nearly_full and not self._nearly_full:
            _log.warning("%s", NEARLY_FULL)
        self._nearly_full = nearly_full

    async def close(self) -> None:
        """Wait, bounded, for appends under way; close all connections and our share of the embedded Redis."""
        await self.hub.close()
        for log in self._known.values():
            await log.close()
        if self._link is not None:
            await self._link.close()
        if self._inboxes is not None:
            await self._inboxes.close_all()
        if self._embedded is not None:
            await asyncio.to_thread(self._embedded.close)


class _SharedLink:
    """Connections that many use and none of them closes."""

    def __init__(self, link: AsyncLink) -> None:
        self._link = link

    async def execute(self, command: Command) -> Any:
        return await self._link.execute(command)

    async def close(self) -> None:
        """Of one user: there are others."""

    async def close_all(self) -> None:
        await self._link.close()

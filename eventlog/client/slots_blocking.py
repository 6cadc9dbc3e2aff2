"""`RemoteSlots`: slot queues through a server, for blocking callers. `slots_aio.py` has the asyncio twin."""

import os
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack

from ..errors import EventLogError, LogClosed
from ..plan.drive import run
from ..slots.acts import ANY, Act, Answer, Release, Released, fence_key
from ..slots.blocking import Slot
from ..slots.holding import Holding
from ..slots.keeper import Keeper
from ..slots.operations import LISTED, Left, SlotState
from ..slots.policy import Policy, Scope, StoredPolicy, queue_name
from ..slots.protocol import Cleared, QueueStats
from ..slots.request import Acquisition, SlotOptions
from ..slots.waiting import Grant
from .asking import Asking, Effect, Exchange
from .connection import Connection, Place
from .slot_operations import SlotCalls, is_left_behind

T = TypeVar("T")
_ABANDON_S = 1.0
_LEAVING_S = 2.0


def release_of(holding: Holding) -> Release:
    """The act that gives back this slot, which the server knows by its fencing token, and no other of the execution."""
    return Release(holding.acquisition.queue, holding.execution_id, fence_key(holding.fencing_token))


class RemoteSlot(Slot):
    """A slot that is held through a server: see `Slot`."""

    def release_act(self) -> Release:
        """See `release_of`."""
        return release_of(self)


class RemoteSlots:
    """A workspace's slot queues behind the server at `url`. Safe under threads. Close it, or use it in a `with`.

    The calls are those of `SlotQueue`, with the same results; each is bounded by `deadline_s` seconds. One thing is
    different: places are nobody's to attend to. Who waits and dies without a word keeps its place until its time-out,
    and a slot that comes to it until the end of its lease.
    """

    backend = "http"

    def __init__(self, url: str, *, workspace: str = "default", deadline_s: float = 5.0) -> None:
        self._begin(Connection(Place.of(url, workspace, deadline_s)), owns=True)

    @classmethod
    def beside(cls, connection: Connection) -> Self:
        """The same queues over connections that somebody else opened, and closes."""
        slots = cls.__new__(cls)
        slots._begin(connection, owns=False)
        return slots

    def _begin(self, connection: Connection, *, owns: bool) -> None:
        place = connection.place
        self.workspace = place.workspace
        self._connection = connection
        self._owns_connection = owns
        # Who waits has connections of its own, which can be cut without hurting those who work.
        self._waits = Connection(place)
        self._calls = SlotCalls(place.origin, place.deadline_s)
        self._closed = False
        self.keeper = Keeper(self.perform)
        self.reset()
        _queues.add(self)

    def reset(self) -> None:
        """Forget what is held and waited for, as a forked child must: it is its parent's."""
        self._changed = threading.Condition()
        self._acquiring = 0
        self.keeper.reset()

    def _execute(self, effect: Effect) -> Any:
        waits = isinstance(effect, Exchange) and effect.waits
        return (self._waits if waits else self._connection).execute(effect)

    def _run(self, plan: Asking[T]) -> T:
        if self._closed:
            raise LogClosed("the slot queue was closed")
        return run(plan, self._execute)

    def perform(self, acts: Sequence[Act], deadline_s: float | None = None) -> list[Answer]:
        """Carry out renewals and releases, one request each."""
        return self._run(self._calls.perform_all(acts, deadline_s))

    def give_back(self, release: Release) -> bool:
        """Release a slot that was held until now. True if it is given back by this call."""
        answer, repeated = self._run(self._calls.release(release))
        # Where the answer was lost, the first request did it.
        return isinstance(answer, Released) or repeated

    def acquire(
        self,
        action: str,
        execution_id: str | None = None,
        *,
        timeout_s: float | None = None,
        on_lost: Callable[[Slot], None] | None = None,
        **options: Unpack[SlotOptions],
    ) -> Slot:
        """Wait for a slot; see `SlotQueue.acquire`. There is no `adopt` through a server."""
        acquisition = Acquisition.of(action, execution_id, timeout_s, **options)
        with self._abandoned_on_failure(acquisition):
            return self._kept(acquisition, self._run(self._calls.acquire(acquisition)), on_lost)

    def try_acquire(
        self,
        action: str,
        execution_id: str | None = None,
        *,
        on_lost: Callable[[Slot], None] | None = None,
        **options: Unpack[SlotOptions],
    ) -> Slot | None:
        """A slot if one is free and nobody waits, else None; see `SlotQueue.try_acquire`."""
        acquisition = Acquisition.of(action, execution_id, 0, **options)
        with self._abandoned_on_failure(acquisition):
            grant = self._run(self._calls.try_acquire(acquisition))
            return None if grant is None else self._kept(acquisition, grant, on_lost)

    @contextmanager
    def _abandoned_on_failure(self, acquisition: Acquisition) -> Iterator[None]:
        with self._changed:
            if self._closed:
                raise LogClosed("the slot queue was closed")
            self._acquiring += 1
        try:
            yield
        except BaseException as error:
            if is_left_behind(acquisition, error):
                self._abandon(acquisition)
            raise
        finally:
            with self._changed:
                self._acquiring -= 1
                self._changed.notify_all()

    def _abandon(self, acquisition: Acquisition) -> None:
        """Nobody waits any more, and what became of the last request is not known."""
        release = Release(acquisition.queue, acquisition.execution_id, ANY)
        try:
            run(self._calls.perform(release, _ABANDON_S), self._connection.execute)
        except EventLogError:
            self.keeper.owe(release)

    def _kept(self, acquisition: Acquisition, grant: Grant, on_lost: Callable[[Slot], None] | None) -> Slot:
        slot = RemoteSlot(self, acquisition, grant, on_lost)
        try:
            self.keeper.keep(slot)
            return slot
        except BaseException:
            # A signal: nobody will ever release what nobody got.
            self.keeper.drop(slot)
            raise

    def enqueue(
        self,
        action: str,
        execution_id: str,
        *,
        queue_timeout_s: float | None = None,
        **options: Unpack[SlotOptions],
    ) -> SlotState:
        """Take a place in the line, or a free slot, and do not wait; see `SlotQueue.enqueue`.

        If the answer was lost, and it was asked again under the hood, it says `already` of its own place.
        """
        return self._run(self._calls.enqueue(action, execution_id, queue_timeout_s, options))

    def state(self, action: str, execution_id: str, *, group_key: str | None = None, wait_s: float = 0.0) -> SlotState:
        """Where an execution stands; while it is queued, wait at most `wait_s` for that to change."""
        return self._run(self._calls.state(action, execution_id, group_key, wait_s))

    def renew(
        self,
        action: str,
        execution_id: str,
        *,
        fencing_token: int | None = None,
        lease_s: float | None = None,
        group_key: str | None = None,
    ) -> SlotState:
        """Renew a lease, with a new length if one is given; raises `LeaseLost`."""
        return self._run(self._calls.renew(action, execution_id, fencing_token, lease_s, group_key))

    def release(
        self, action: str, execution_id: str, *, fencing_token: int | None = None, group_key: str | None = None
    ) -> bool:
        """Give an execution's slot back, or take it out of the line. True if it held a slot; see `SlotQueue.release`.

        If the answer was lost, and it was asked again under the hood, it is False for what the first request released.
        """
        return self.leave(action, execution_id, fencing_token=fencing_token, group_key=group_key) == "released"

    def leave(
        self, action: str, execution_id: str, *, fencing_token: int | None = None, group_key: str | None = None
    ) -> Left:
        """As `release`; says what was given up."""
        return self._run(self._calls.leave(action, execution_id, fencing_token, group_key))

    def cancel(self, action: str, execution_id: str, *, group_key: str | None = None) -> bool:
        """Take an execution out of the line. True if it waited; if it holds a slot it keeps it."""
        return self._run(self._calls.cancel(action, execution_id, group_key))

    def stats(self, action: str, *, group_key: str | None = None, listed: int = LISTED) -> QueueStats:
        """Who holds and who waits, with counts and limits; at most `listed` of each are named."""
        return self._run(self._calls.stats(action, group_key, listed))

    def queues(self, *, listed: int = LISTED) -> list[QueueStats]:
        """All queues that were used within the last week, by name."""
        return self._run(self._calls.queues(listed))

    def set_limit(self, action: str, max_concurrent: int | None, *, group_key: str | None = None) -> int:
        """Set (None: remove) the queue's own limit; see `SlotQueue.set_limit`."""
        return self._run(self._calls.set_limit(action, max_concurrent, group_key))

    def clear(self, action: str, *, group_key: str | None = None) -> Cleared:
        """Emergency: take everybody out of a queue."""
        return self._run(self._calls.clear(queue_name(action, group_key)))

    def clear_all(self) -> Cleared:
        """Emergency: `clear` every queue of the workspace."""
        return self._run(self._calls.clear(None))

    def policies(self) -> dict[Scope, StoredPolicy]:
        """All policies that are set, by scope."""
        return self._run(self._calls.policies())

    def get_policy(self, scope: str) -> StoredPolicy | None:
        """The policy of a scope, None if it is not set."""
        return self._run(self._calls.get_policy(scope))

    def put_policy(self, scope: str, policy: Policy, *, expected_version: int | None = None) -> int:
        """Set a policy; returns its version. Raises `VersionConflict`; `InvalidInput` for the scope of a queue."""
        return self._run(self._calls.put_policy(scope, policy, expected_version))

    def delete_policy(self, scope: str, *, expected_version: int | None = None) -> int:
        """Remove a policy, if it is set; raises `VersionConflict`."""
        return self._run(self._calls.put_policy(scope, None, expected_version))

    def close(self) -> None:
        """Renew nothing any more and close all connections; who waits leaves the line, within two seconds. Idempotent.

        What is still held ends with its lease.
        """
        with self._changed:
            if self._closed:
                return
            self._closed = True
        self.keeper.close()
        self._waits.close(patience_s=0)
        with self._changed:
            self._changed.wait_for(lambda: not self._acquiring, _LEAVING_S)
        if self._owns_connection:
            self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


_queues: "weakref.WeakSet[RemoteSlots]" = weakref.WeakSet()


def _reset_all() -> None:
    for queue in list(_queues):
        queue.reset()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_reset_all)

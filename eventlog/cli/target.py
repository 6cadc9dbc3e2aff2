"""Finding the log and the slots that a command works on: through a server, straight on a Redis, or the embedded one."""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeAlias, Unpack

from ..config import EventLogConfig
from ..errors import InvalidInput
from ..log.blocking import EventLog, Follower
from ..slots.blocking import Slot
from ..slots.operations import SlotState
from ..slots.policy import Policy, Scope, StoredPolicy
from ..slots.protocol import Cleared, QueueStats
from ..slots.request import SlotOptions

if TYPE_CHECKING:
    from ..client import EventLogClient

SERVER_SCHEMES = ("http://", "https://")
REDIS_SCHEMES = ("redis://", "rediss://", "unix://")
_URL_VARIABLE = "EVENTLOG_URL"
_REDIS_VARIABLE = "EVENTLOG_REDIS_URL"


SharedLog: TypeAlias = EventLog
SharedFollower: TypeAlias = Follower


class SharedSlots(Protocol):
    """What `SlotQueue` and `RemoteSlots` have in common, and all that commands use."""

    def acquire(
        self,
        action: str,
        execution_id: str | None = None,
        *,
        timeout_s: float | None = None,
        on_lost: Callable[[Slot], None] | None = None,
        **options: Unpack[SlotOptions],
    ) -> Slot: ...

    def state(
        self, action: str, execution_id: str, *, group_key: str | None = None, wait_s: float = 0.0
    ) -> SlotState: ...

    def renew(
        self,
        action: str,
        execution_id: str,
        *,
        fencing_token: int | None = None,
        lease_s: float | None = None,
        group_key: str | None = None,
    ) -> SlotState: ...

    def release(
        self, action: str, execution_id: str, *, fencing_token: int | None = None, group_key: str | None = None
    ) -> bool: ...

    def cancel(self, action: str, execution_id: str, *, group_key: str | None = None) -> bool: ...

    def stats(self, action: str, *, group_key: str | None = None, listed: int = ...) -> QueueStats: ...

    def queues(self, *, listed: int = ...) -> list[QueueStats]: ...

    def set_limit(self, action: str, max_concurrent: int | None, *, group_key: str | None = None) -> int: ...

    def clear(self, action: str, *, group_key: str | None = None) -> Cleared: ...

    def clear_all(self) -> Cleared: ...

    def policies(self) -> dict[Scope, StoredPolicy]: ...

    def put_policy(self, scope: str, policy: Policy, *, expected_version: int | None = None) -> int: ...

    def delete_policy(self, scope: str, *, expected_version: int | None = None) -> int: ...


class Target(NamedTuple):
    """Where a log is: `server` is the URL of an HTTP server, None for straight on Redis."""

    server: str | None
    config: EventLogConfig


def find_target(
    url: str | None, workspace: str | None, data_dir: Path | None, environ: Mapping[str, str] | None = None
) -> Target:
    """What was asked for wins over the environment; raises `InvalidInput` naming what is wrong."""
    environ = os.environ if environ is None else environ
    if url is not None and data_dir is not None:
        raise InvalidInput("data_dir", "is of the embedded Redis: give it or a URL, not both")
    if url is None and data_dir is None:
        url = environ.get(_URL_VARIABLE) or None
        named = _URL_VARIABLE
    else:
        named = "url"
    if data_dir is not None:
        # A directory that was asked for is not overruled by a variable.
        environ = {name: value for name, value in environ.items() if name != _REDIS_VARIABLE}
    server = None
    if url is not None and url.lower().startswith(SERVER_SCHEMES):
        server, url = url, None
    elif url is not None and not url.lower().startswith(REDIS_SCHEMES):
        known = ", ".join((*SERVER_SCHEMES, *REDIS_SCHEMES))
        raise InvalidInput(named, f"{url[:60]!r} does not begin with one of {known}")
    config = EventLogConfig.load(
        environ=environ, backend="redis", workspace=workspace, redis_url=url, data_dir=data_dir
    )
    return Target(server, config)


def open_log(url: str | None, workspace: str | None, data_dir: Path | None) -> SharedLog:
    """Open the log that the options and the environment name. Close it."""
    target = find_target(url, workspace, data_dir)
    return open_direct(target) if target.server is None else _open_remote(target.server, target.config)


def open_direct(target: Target) -> EventLog:
    """Open the log straight on its Redis, starting the embedded one where that is meant."""
    from ..factory import create_event_log

    return create_event_log("redis", config=target.config)


def open_slots(url: str | None, workspace: str | None, data_dir: Path | None) -> AbstractContextManager[SharedSlots]:
    """Open the slot queues that the options and the environment name, in a `with`."""
    target = find_target(url, workspace, data_dir)
    if target.server is not None:
        return _open_remote_slots(target.server, target.config)
    from ..factory import create_slot_queue

    return create_slot_queue("redis", config=target.config)


@contextmanager
def open_log_and_slots(
    url: str | None, workspace: str | None, data_dir: Path | None
) -> Iterator[tuple[SharedLog, SharedSlots]]:
    """Open both, in a `with`."""
    target = find_target(url, workspace, data_dir)
    if target.server is None:
        with open_direct(target) as log, log.slots() as slots:
            yield log, slots
    else:
        with _open_remote(target.server, target.config) as client, client.slots() as remote_slots:
            yield client, remote_slots


def _open_remote_slots(server: str, config: EventLogConfig) -> AbstractContextManager[SharedSlots]:
    from ..client import RemoteSlots

    return RemoteSlots(server, workspace=config.workspace, deadline_s=config.deadline_seconds)


def _open_remote(server: str, config: EventLogConfig) -> "EventLogClient":
    from ..client import EventLogClient

    return EventLogClient(server, workspace=config.workspace, deadline_s=config.deadline_seconds)

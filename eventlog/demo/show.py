"""The demo from start to end: Redis, the server, the fleet, the view; then all of it stopped, in reverse."""

import contextlib
import os
import shlex
import shutil
import signal
import socket
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import httpx

from ..config import EventLogConfig
from ..embedded import EmbeddedRedis
from ..errors import BackendUnavailable
from ..factory import create_event_log
from ..log.blocking import EventLog
from ..model.log_values import Gap
from ..model.texts import shown_url
from ..printing.output import put
from .fleet import Process, stop
from .view import View, open_view

_HOST = "127.0.0.1"
_READY_S = 20.0
_STEP_S = 0.25
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class DemoOptions(NamedTuple):
    """How the demo runs: `port` 0 takes any, `duration_s` None lasts until it is interrupted."""

    config: EventLogConfig
    port: int
    duration_s: float | None
    pace_s: float


def show(options: DemoOptions) -> None:
    """Run the demo until Ctrl-C, SIGTERM or the end of its time. Leaves no process and no socket behind."""
    with contextlib.suppress(KeyboardInterrupt), ExitStack() as stack:
        # The first to begin is the last to end: stopping is bounded, so it is never interrupted.
        stack.callback(_restore_signals, {number: signal.signal(number, _interrupt) for number in _SIGNALS})
        try:
            _run(options, stack)
        finally:
            _ignore_signals()


def _run(options: DemoOptions, stack: ExitStack) -> None:
    began = time.monotonic()
    redis_url, where = _redis(stack, options.config)
    log = stack.enter_context(create_event_log("redis", url=redis_url, workspace=options.config.workspace))
    port = _free_port(options.port)
    server = _server(stack, port, redis_url)
    base = f"http://{_HOST}:{port}"
    _await_ready(server, base)
    state = log.info()
    put(_introduction(options, base, redis_url, where, state.last_offset))
    fleet = _fleet(stack, options, redis_url, base)
    view = open_view()
    stack.callback(view.close)
    _watch(log, state.last_id or "0", [server, *fleet], view, options.duration_s, began)


def _interrupt(*_: object) -> None:
    _ignore_signals()
    raise KeyboardInterrupt


def _ignore_signals() -> None:
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def _restore_signals(before: dict[signal.Signals, object]) -> None:
    for number, handler in before.items():
        signal.signal(number, handler)  # type: ignore[arg-type]


def _redis(stack: ExitStack, config: EventLogConfig) -> tuple[str, str]:
    """The URL of the Redis, and its description. The embedded one lives as long as the demo."""
    if config.redis_url is not None:
        return config.redis_url, "the Redis of EVENTLOG_REDIS_URL"
    embedded = stack.enter_context(EmbeddedRedis.start(config.data_dir, maxmemory=config.redis_maxmemory))
    return embedded.url, f"{embedded.server_name} {embedded.server_version} in {embedded.data_dir}"


def _free_port(wanted: int) -> int:
    """`wanted` if it is free, else any free one."""
    for port in (wanted, 0):
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((_HOST, port))
            except OSError:
                continue
            taken = int(probe.getsockname()[1])
            if wanted not in (0, taken):
                put(f"Port {wanted} is taken; using {taken}.")
            return taken
    raise BackendUnavailable(f"no port is free on {_HOST}")


def _server(stack: ExitStack, port: int, redis_url: str) -> Process:
    args = ["serve", "--host", _HOST, "--port", str(port), "--redis-url", redis_url, "--quiet"]
    server = Process("server", "eventlog", args)
    stack.callback(stop, [server])
    return server


def _await_ready(server: Process, base: str) -> None:
    deadline = time.monotonic() + _READY_S
    with httpx.Client(trust_env=False, timeout=1.0) as client:
        while True:
            if server.exit_code is not None:
                raise BackendUnavailable(f"the server ended at once, with exit code {server.exit_code}")
            with contextlib.suppress(httpx.HTTPError):
                if client.get(f"{base}/readyz").status_code == 200:
                    return
            if time.monotonic() > deadline:
                raise BackendUnavailable(f"the server was not ready within {_READY_S:g} s")
            time.sleep(0.05)


def _fleet(stack: ExitStack, options: DemoOptions, redis_url: str, base: str) -> list[Process]:
    """Three agents, three builders and a reader; one agent and the reader go through the server."""
    fleet: list[Process] = []
    stack.callback(stop, fleet)
    for name, module, url in (
        ("counter", "counter", base),
        ("atlas", "agent", redis_url),
        ("boreas", "agent", redis_url),
        ("comet", "agent", base),
        ("builder", "builder", redis_url),
        ("mason", "builder", redis_url),
        ("joiner", "builder", redis_url),
    ):
        args = ["--name", name, "--url", url, "--workspace", options.config.workspace, "--pace", str(options.pace_s)]
        fleet.append(Process(name, f"eventlog.demo.{module}", args))
    return fleet


def _introduction(options: DemoOptions, base: str, redis_url: str, where: str, last_offset: int) -> str:
    workspace = options.config.workspace
    program = _program()
    stands = f"continues at offset {last_offset + 1}" if last_offset else "begins at offset 1"
    of = "" if workspace == "default" else f" -w {shlex.quote(workspace)}"
    return "\n".join(
        (
            f"The server:  {base}",
            f"Its Redis:   {where}",
            f"The log:     workspace {workspace}, {stands}",
            "The fleet:   atlas, boreas (through the library); comet, counter (through HTTP);",
            "             builder, mason, joiner (compete for one slot of the action build, with eventlog exec)",
            "",
            "Try, in another terminal:",
            f"  {program} follow --url {base}{of}",
            f"  {program} runs ls --url {base}{of}, then {program} runs show RUN --url {base}{of}",
            f"  {program} slots show build --url {shown_url(redis_url)}{of}",
            f"  curl -N {base}/v1/workspaces/{workspace}/events/stream",
            f'  {program} append hello.world \'{{"from": "me"}}\' --url {base}{of}',
            "",
            "Ctrl-C ends it all.",
            "",
        )
    )


def _program() -> str:
    """How this program is started, for a person to type."""
    started = Path(sys.argv[0])
    if started.name == "eventlog":
        on_path = shutil.which(started.name)
        if on_path is not None and os.path.realpath(on_path) == os.path.realpath(started):
            return started.name
        with contextlib.suppress(ValueError):
            started = started.absolute().relative_to(Path.cwd())
        return shlex.quote(str(started))
    return f"{shlex.quote(sys.executable)} -m eventlog"


def _watch(
    log: EventLog, since: str, processes: list[Process], view: View, duration_s: float | None, began: float
) -> None:
    """Show the log as it grows, and what becomes of the processes."""
    follower = log.follow(since, patience_s=float("inf"))
    expired = _never if duration_s is None else lambda: time.monotonic() - began > duration_s
    try:
        while not expired():
            for item in follower.step(_STEP_S):
                if isinstance(item, Gap):
                    view.gap(item)
                else:
                    view.event(item)
            for process in processes:
                if process.ended_unexpectedly():
                    view.note(f"{process.name} ended with exit code {process.exit_code}")
            view.tick()
    finally:
        follower.close()


def _never() -> bool:
    return False

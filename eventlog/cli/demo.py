"""`eventlog demo`: the server and a small fleet of real processes on one log. The work is done in `eventlog/demo`."""

import os
from pathlib import Path
from typing import Annotated

import typer

from ..config import EventLogConfig
from ..errors import InvalidInput
from .options import DataDir, Workspace
from .target import find_target

_DEFAULT_PORT = 8707


def demo(
    port: Annotated[
        int | None,
        typer.Option(help="Of the server; any free one if it is taken, or 0. [env: EVENTLOG_PORT; default: 8707]"),
    ] = None,
    duration: Annotated[float | None, typer.Option(help="End after so many seconds. [default: at Ctrl-C]")] = None,
    pace: Annotated[float, typer.Option(help="Seconds between the events of one process, about.")] = 0.5,
    workspace: Workspace = None,
    data_dir: DataDir = None,
) -> None:
    """Start Redis, the server and a few real processes that share a log, and show it until Ctrl-C."""
    from ..demo.show import DemoOptions, show

    if pace < 0:
        raise InvalidInput("pace", f"{pace} is not 0 or more seconds")
    show(DemoOptions(_config(workspace, data_dir), _port(port), duration, pace))


def _config(workspace: str | None, data_dir: Path | None) -> EventLogConfig:
    """The demo brings its own server, so the URL of another does not concern it."""
    environ = {name: value for name, value in os.environ.items() if name != "EVENTLOG_URL"}
    return find_target(None, workspace, data_dir, environ).config


def _port(given: int | None) -> int:
    if given is not None:
        return given
    said = os.environ.get("EVENTLOG_PORT") or str(_DEFAULT_PORT)
    if not (said.isascii() and said.isdecimal() and int(said) < 65536):
        raise InvalidInput("EVENTLOG_PORT", f"{said[:20]!r} is not a port from 0 to 65535")
    return int(said)

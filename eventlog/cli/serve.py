"""`eventlog serve`: the HTTP server, in this process."""

from ipaddress import ip_address
from typing import Annotated

import typer

from .options import DataDir
from .output import note


def serve(
    host: Annotated[str | None, typer.Option(help="[env: EVENTLOG_HOST; default: 127.0.0.1]")] = None,
    port: Annotated[int | None, typer.Option(help="0 takes any free one. [env: EVENTLOG_PORT; default: 8707]")] = None,
    redis_url: Annotated[
        str | None, typer.Option(metavar="URL", help="[env: EVENTLOG_REDIS_URL; default: the embedded Redis]")
    ] = None,
    data_dir: DataDir = None,
) -> None:
    """Serve the logs of all workspaces over HTTP until Ctrl-C. On loopback only, unless told otherwise."""
    raise NotImplementedError(host, port, redis_url, data_dir, ip_address, note)

"""`eventlog serve`: the HTTP server, in this process."""

from typing import Annotated

import typer

from ..config import EventLogConfig
from ..printing.output import note
from .options import DataDir


def serve(
    host: Annotated[
        str | None, typer.Option(help="The address to listen on. [env: EVENTLOG_HOST; default: 127.0.0.1]")
    ] = None,
    port: Annotated[int | None, typer.Option(help="0 takes any free one. [env: EVENTLOG_PORT; default: 8707]")] = None,
    redis_url: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="redis://, rediss:// or unix://. [env: EVENTLOG_REDIS_URL; default: the embedded Redis]",
        ),
    ] = None,
    data_dir: DataDir = None,
    access_log: Annotated[bool | None, typer.Option("--access-log", help="Log every request.")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Do not say where it listens.")] = False,
) -> None:
    """Serve the logs of all workspaces over HTTP until Ctrl-C. On loopback only, unless --host is given."""
    from eventlog_server import ServerSettings, run
    from eventlog_server.serving import Address

    def report(address: Address) -> None:
        note(f"eventlog serves on {address.url} (its API: {address.url}/docs); Ctrl-C ends it")

    log = EventLogConfig.load(redis_url=redis_url, data_dir=data_dir)
    settings = ServerSettings.load(log=log, host=host, port=port, access_log=access_log)
    # The server itself warns where others than this machine can reach it.
    run(settings, on_ready=None if quiet else report)

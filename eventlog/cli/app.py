"""The commands, put together."""

from typing import Annotated

import typer

from . import append, demo, doctor, follow, log, query, runs, serve, slots, verify
from .exec import SETTINGS, execute
from .options import APP_SETTINGS

app = typer.Typer(
    name="eventlog",
    help="A shared event log on Redis: append to it, read it, follow it, serve it.",
    add_completion=False,
    pretty_exceptions_enable=False,
    **APP_SETTINGS,
)

for module in (serve, demo, append, query, follow, verify, doctor):
    name = module.__name__.rpartition(".")[2]
    app.command(name)(getattr(module, name))
app.command("exec", context_settings=SETTINGS)(execute)
app.add_typer(log.app, name="log")
app.add_typer(runs.app, name="runs")
app.add_typer(slots.app, name="slots")


def _print_version(wanted: bool) -> None:
    if wanted:
        from .. import __version__

        typer.echo(f"eventlog {__version__}")
        raise typer.Exit


@app.callback()
def _common(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """A shared event log on Redis: append to it, read it, follow it, serve it."""

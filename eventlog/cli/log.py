"""`eventlog log`: what a log keeps."""

from typing import Annotated

import typer

from ..printing.output import Format, put_json
from .options import APP_SETTINGS, Output, with_options
from .tables import put_table
from .target import Target

app = typer.Typer(help="Show and change what a log keeps.", **APP_SETTINGS)


@app.callback()
def _group() -> None:
    """Show and change what a log keeps."""


@app.command("retention")
@with_options
def retention(
    target: Target,
    ttl_seconds: Annotated[
        float | None, typer.Option("--ttl-seconds", help="Keep events for so long.", show_default="as it is")
    ] = None,
    max_entries: Annotated[
        int | None, typer.Option("--max-entries", help="Keep at most so many events.", show_default="as it is")
    ] = None,
    output: Output = Format.text,
) -> None:
    """Print how long and how many events the log keeps, after changing it if a number is given.

    It holds for every process that has the log open. Less than before is out of sight at once.
    """
    with target.open_log() as log:
        if ttl_seconds is None and max_entries is None:
            info = log.info()
        else:
            info = log.set_retention(ttl_seconds=ttl_seconds, max_entries=max_entries)
    facts = info.to_dict()["retention"]
    if output is Format.json:
        put_json(facts)
    else:
        put_table([], [[name, f"{value:g}" if name == "ttl_seconds" else str(value)] for name, value in facts.items()])

"""The options that several commands share, each spelt once."""

from pathlib import Path
from typing import Annotated

import typer

from ..model.filters import Filters
from ..printing.output import Format

_WHERE = "Which log"
_WHICH = "Which events"

Workspace = Annotated[
    str | None,
    typer.Option(
        "--workspace",
        "-w",
        help="The workspace whose log it is. [env: EVENTLOG_WORKSPACE; default: default]",
        rich_help_panel=_WHERE,
    ),
]
Url = Annotated[
    str | None,
    typer.Option(
        "--url",
        metavar="URL",
        help="http:// or https:// goes through a server; redis://, rediss:// or unix:// straight to that Redis. "
        "[env: EVENTLOG_URL, else EVENTLOG_REDIS_URL; default: the embedded Redis]",
        rich_help_panel=_WHERE,
    ),
]
DataDir = Annotated[
    Path | None,
    typer.Option(
        "--data-dir",
        help="Where the embedded Redis keeps its data. [env: EVENTLOG_DATA_DIR]",
        rich_help_panel=_WHERE,
    ),
]
Kinds = Annotated[
    list[str] | None,
    typer.Option("--kind", "-k", help="A kind, or a prefix such as 'tool.*'; repeatable.", rich_help_panel=_WHICH),
]
Run = Annotated[str | None, typer.Option("--run", help="Of this run.", rich_help_panel=_WHICH)]
Lane = Annotated[str | None, typer.Option("--lane", help="Of this lane of runs.", rich_help_panel=_WHICH)]
Stage = Annotated[str | None, typer.Option("--stage", help="Of this stage.", rich_help_panel=_WHICH)]
Visibility = Annotated[
    str | None,
    typer.Option(
        "--visibility",
        help="public, internal or private: that level and all before it. [default: all]",
        rich_help_panel=_WHICH,
    ),
]
Output = Annotated[Format, typer.Option("--output", "-o", help="Lines of text, or one JSON object a line.")]


def filters(
    kind: list[str] | None, run: str | None, lane: str | None, stage: str | None, visibility: str | None
) -> Filters:
    """The filters under the library's names."""
    return Filters(kind=kind or None, run_id=run, lane_id=lane, stage_name=stage, visibility=visibility)

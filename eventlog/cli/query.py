"""`eventlog query`: what the log holds, page by page."""

import os
from typing import Annotated

import typer

from ..errors import InvalidInput
from ..model.filters import Filters
from ..model.pages import MAX_PAGE
from ..printing.output import EventPrinter, Format, note, wants_colour
from .options import DataDir, Kinds, Lane, Output, Run, Stage, Url, Visibility, Workspace, filters
from .target import SharedLog, open_log
from .times import parse_time


def query(
    since: Annotated[str | None, typer.Option(help="After this event id or offset; 0 is the start.")] = None,
    until: Annotated[str | None, typer.Option(help="Before this event id or offset.")] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", help="At most so many events.")] = 100,
    everything: Annotated[bool, typer.Option("--all", help="No limit.")] = False,
    kind: Kinds = None,
    run: Run = None,
    lane: Lane = None,
    stage: Stage = None,
    visibility: Visibility = None,
    order: Annotated[str, typer.Option(help="asc or desc.")] = "asc",
    desc: Annotated[bool, typer.Option("--desc", help="Newest first: --order desc.")] = False,
    since_time: Annotated[
        str | None, typer.Option(help="Not before: 5m ago, 2025-11-21T12:00, or seconds since the Unix epoch.")
    ] = None,
    output: Output = Format.text,
    workspace: Workspace = None,
    url: Url = None,
    data_dir: DataDir = None,
) -> None:
    """Print the events that the log holds. What was missed, and whether there is more, is told on stderr."""
    if limit < 0:
        raise InvalidInput("limit", f"{limit} is not 0 or more")
    wanted = filters(kind, run, lane, stage, visibility)
    log = open_log(url, workspace, data_dir)
    try:
        moment = None if since_time is None else parse_time(since_time, lambda: log.info().time)
        reading = _Reading(log, EventPrinter(output, colour=wants_colour(os.environ)), wanted, moment)
        reading.pages(since, until, None if everything else limit, "desc" if desc else order)
    finally:
        log.close()


class _Reading:
    """Prints pages until the limit or the end."""

    def __init__(self, log: SharedLog, printer: EventPrinter, wanted: Filters, since_time: float | None) -> None:
        self._log = log
        self._printer = printer
        self._filters = wanted
        self._since_time = since_time

    def pages(self, since: str | None, until: str | None, limit: int | None, order: str) -> None:
        left = limit
        while True:
            size = MAX_PAGE if left is None else min(left, MAX_PAGE)
            page = self._log.page(since, size, until=until, order=order, since_time=self._since_time, **self._filters)
            if page.gap is not None:
                self._printer.gap(page.gap)
            for event in page.events:
                self._printer.event(event)
            if left is not None:
                left -= len(page.events)
            if page.at_end or left == 0:
                break
            if order == "desc":
                until = page.cursor
            else:
                since = page.cursor
        if page.at_end and limit != 0:
            self._printer.end("events")
        elif limit:
            note(f"--- more: --{'until' if order == 'desc' else 'since'} {page.cursor} ---")

"""`eventlog query`: what the log holds, page by page."""

import os
from typing import Annotated

import typer

from ..model.filters import Filters
from ..model.pages import MAX_PAGE, Page
from ..printing.output import EventPrinter, Format, note, wants_colour
from .options import Output, with_options
from .tables import at_least, pages
from .target import Target
from .times import parse_time


@with_options
def query(
    target: Target,
    wanted: Filters,
    since: Annotated[str | None, typer.Option(help="After this event id or offset; 0 is the start.")] = None,
    until: Annotated[str | None, typer.Option(help="Before this event id or offset.")] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", help="At most so many events.")] = 100,
    everything: Annotated[bool, typer.Option("--all", help="No limit.")] = False,
    order: Annotated[str, typer.Option(help="asc or desc.")] = "asc",
    desc: Annotated[bool, typer.Option("--desc", help="Newest first: --order desc.")] = False,
    since_time: Annotated[
        str | None, typer.Option(help="Not before: 5m (ago), 2025-11-21T12:00, or seconds since the Unix epoch.")
    ] = None,
    output: Output = Format.text,
) -> None:
    """Print the events that the log holds. Gaps, and whether there is more, are reported on stderr."""
    at_least(0, "limit", limit)
    order = "desc" if desc else order
    printer = EventPrinter(output, colour=wants_colour(os.environ))
    with target.open_log() as log:
        moment = None if since_time is None else parse_time(since_time, lambda: log.info().time)

        def fetch(cursor: str | None, size: int) -> Page:
            after, before = (since, cursor) if order == "desc" else (cursor, until)
            return log.page(after, size, until=before, order=order, since_time=moment, **wanted)

        start = until if order == "desc" else since
        for page in pages(fetch, start, None if everything else limit, MAX_PAGE, lambda page: page.events):
            printer.page(page.events, page.gap)
    if not page.at_end and (everything or limit):
        note(f"--- more: --{'until' if order == 'desc' else 'since'} {page.cursor} ---")
    elif everything or limit:
        printer.end("events")

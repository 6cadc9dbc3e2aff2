"""`eventlog verify`: the log held against its own counters, order and run index."""

from typing import Annotated

import typer

from ..errors import InvalidInput
from ..model.log_values import Audit
from ..printing.escape import escaped
from ..printing.output import Format, put, put_json
from .failures import REFUSED
from .options import Output, with_options
from .target import Target


@with_options
def verify(
    target: Target,
    output: Output = Format.text,
    repair: Annotated[
        bool, typer.Option("--repair", help="First take out the events that a torn append-only file brought back.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print problems only.")] = False,
) -> None:
    """Audit the log: length, offsets, order, counters, index. Exits 1 if anything is wrong. Straight on Redis only."""
    if target.server is not None:
        raise InvalidInput("url", "verify looks into Redis itself: give a redis:// or unix:// URL")
    with target.open_log() as log:
        audit = log.verify(repair=repair)
    if output is Format.json:
        put_json(_facts(target.config.workspace, audit))
    else:
        _report(target.config.workspace, audit, quiet)
    if not audit.clean:
        raise typer.Exit(REFUSED)


def _facts(workspace: str, audit: Audit) -> dict[str, object]:
    state = audit.state
    return {
        "workspace": workspace,
        "clean": audit.clean,
        "events": audit.events,
        "runs": audit.runs,
        "removed": audit.removed,
        "first_offset": state.base_offset if audit.events else None,
        "last_offset": state.last.offset,
        "epoch": state.epoch or None,
        "problems": audit.problems,
    }


def _report(workspace: str, audit: Audit, quiet: bool) -> None:
    state = audit.state
    if not quiet:
        span = f", offsets {state.base_offset} to {state.last.offset}" if audit.events else ""
        put(f"{workspace}: {audit.events} events{span}, {audit.runs} runs, last offset {state.last.offset}")
    if audit.removed:
        put(f"repaired: {audit.removed} events that had come back are taken out")
    for problem in audit.problems:
        put(escaped(f"problem: {problem}"))
    if any("already given out" in problem for problem in audit.problems):
        put("a torn append-only file brought events back: `eventlog verify --repair` takes them out")
    if not quiet and audit.clean:
        put("sound: offsets dense, times in order, counters and run index agree")

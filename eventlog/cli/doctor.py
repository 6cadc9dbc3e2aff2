"""`eventlog doctor`: is everything here that the log needs, and is it set up as it should be?"""

import os
from collections.abc import Sequence

import typer

from ..printing.escape import escaped
from ..printing.output import Format, painted, put, put_json, wants_colour
from .checks import Check, all_checks
from .failures import REFUSED
from .options import Output, with_options
from .target import Target

_COLOURS = {"ok": "32", "warn": "33", "fail": "1;31"}


@with_options
def doctor(target: Target, output: Output = Format.text) -> None:
    """Check this machine, the embedded Redis, the configured Redis and the server. Exits 1 if anything fails."""
    checks = list(all_checks(target))
    if output is Format.json:
        for check in checks:
            put_json(check._asdict())
    else:
        for line in _table(checks, colour=wants_colour(os.environ)):
            put(line)
    if any(check.status == "fail" for check in checks):
        raise typer.Exit(REFUSED)


def _table(checks: Sequence[Check], *, colour: bool) -> list[str]:
    """A line a check; what to do stands below what needs it."""
    widest = max(len(check.name) for check in checks)
    lines: list[str] = []
    for check in checks:
        status = f"{check.status:4}"
        if colour:
            status = painted(status, _COLOURS[check.status])
        lines.append(f"{status}  {check.name:{widest}}  {escaped(check.found)}")
        if check.advice:
            lines.append(f"{'':4}  {'':{widest}}  → {escaped(check.advice)}")
    failed = sum(check.status == "fail" for check in checks)
    warned = sum(check.status == "warn" for check in checks)
    lines.append(f"{len(checks)} checks: {failed} failed, {warned} warnings")
    return lines

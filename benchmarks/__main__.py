"""The command line: `python -m benchmarks [--quick] [--only PART|CONTEST] [--rounds N] [--json PATH]`."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from . import machine, report
from .arena import open_arena
from .cases import CONTESTS
from .contest import hold

_ROUNDS = 7
_QUICK_ROUNDS = 5
_QUICK_SCALE = 0.25


def main(arguments: Sequence[str] | None = None) -> None:
    """Hold the contests, print the table, write the JSON."""
    options = _parser().parse_args(arguments)
    rounds = options.rounds or (_QUICK_ROUNDS if options.quick else _ROUNDS)
    scale = options.scale or (_QUICK_SCALE if options.quick else 1.0)
    chosen = [c for c in CONTESTS if not options.only or not {c.name, c.part}.isdisjoint(options.only)]
    console = Console()
    figures = []
    with open_arena(scale) as arena:
        described = machine.describe(arena.redis_version)
        for contest in chosen:
            console.print(f"{contest.name}: {rounds} rounds …", style="dim")
            figures += hold(contest, arena, rounds)
    report.show(figures, described, console)
    console.print(f"written to {report.write(figures, described, rounds, scale, options.json)}", soft_wrap=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m benchmarks", description="Ours against the obvious, in one run.")
    parser.add_argument("--quick", action="store_true", help="fewer operations and rounds")
    parser.add_argument(
        "--only",
        action="append",
        choices=[*dict.fromkeys(c.part for c in CONTESTS), *(c.name for c in CONTESTS)],
        help="a part or a contest, may be repeated",
    )
    parser.add_argument("--rounds", type=_positive_int, help=f"ours, theirs, so many times at most (default {_ROUNDS})")
    parser.add_argument("--scale", type=_positive, help="operations a lap, 1 is the full number")
    parser.add_argument("--json", type=Path, metavar="PATH", help="default: benchmarks/results/<date>.json")
    return parser


def _positive_int(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is not positive")
    return number


def _positive(text: str) -> float:
    number = float(text)
    if not 0 < number < 1000:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and 1000")
    return number


if __name__ == "__main__":
    main()

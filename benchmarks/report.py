"""Figures as a table for people and as JSON for comparison."""

import math
import statistics
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path
from typing import Any

import orjson
from rich.console import Console
from rich.table import Table

from .contest import THEIRS, Figure, Metric

RESULTS = Path(__file__).parent / "results"
_COLOURS = {True: "green", False: "red", None: "default"}


def show(figures: list[Figure], machine: dict[str, Any], console: Console) -> None:
    """Print the table, and below it what was measured on."""
    table = Table(title="ours against the others, medians over interleaved rounds")
    table.add_column("contest", min_width=24)
    for column in ("ours", "theirs", "ratio", "spread", "aim"):
        table.add_column(column, justify="right", no_wrap=True)
    for _, same in groupby(figures, key=lambda figure: (figure.contest, figure.metric)):
        for row in _rows(list(same)):
            table.add_row(*row)
    console.print(table)
    packages = machine["packages"]
    console.print(
        f"{machine['cpu']}, {machine['cores']} cores, load {machine['load_average_1min']}; {machine['python']}; "
        f"{machine['server']}; redis-py {packages['redis']} with hiredis {packages['hiredis']}",
        highlight=False,
    )


def _rows(figures: list[Figure]) -> list[tuple[str, ...]]:
    """One row where there is one rival that the title names; else one for ours and one for each rival."""
    first = figures[0]
    title = first.title if first.metric.more_is_better else f"{first.title}, {first.metric.name}"
    ours = _median(first.ours, first.metric)
    if first.rival is THEIRS:
        return [(title, ours, *_comparison(first))]
    bound = "" if first.metric.bound is None else f"≤ {first.metric.bound:g}"
    head = (title, _coloured(ours, first.aim_met if bound else None), "", "", "", bound)
    return [head, *((f" / {each.rival.name}", "", *_comparison(each)) for each in figures if each.rival)]


def _comparison(figure: Figure) -> tuple[str, ...]:
    sign = "≥" if figure.metric.more_is_better else "≤"
    return (
        _median(figure.theirs, figure.metric) if figure.theirs else "not installed",
        "" if figure.ratio is None else _coloured(f"{figure.ratio:.2f}", figure.aim_met),
        f"{min(figure.ratios):.2f} … {max(figure.ratios):.2f}" if figure.ratios else "",
        "" if figure.aim is None else f"{sign} {figure.aim:g}",
    )


def _coloured(text: str, aim_met: bool | None) -> str:
    return f"[{_COLOURS[aim_met]}]{text}[/]"


def _median(values: list[float], metric: Metric) -> str:
    median = statistics.median(values)
    if math.isinf(median):
        return f"never in {metric.stopped_after:g}{metric.unit}"
    return f"{median:,.{metric.decimals}f}{metric.unit}"


def write(figures: list[Figure], machine: dict[str, Any], rounds: int, scale: float, path: Path | None) -> Path:
    """Write all rounds of all figures; by default to `benchmarks/results/<date>.json`."""
    now = datetime.now(UTC)
    path = RESULTS / f"{now:%Y-%m-%d}.json" if path is None else path
    path.parent.mkdir(parents=True, exist_ok=True)
    document = {
        "measured_at": now.isoformat(timespec="seconds"),
        "machine": machine,
        "rounds": rounds,
        "scale": scale,
        "figures": [figure.to_dict() for figure in figures],
    }
    path.write_bytes(orjson.dumps(document, option=orjson.OPT_INDENT_2) + b"\n")
    return path

"""Figures as a table for people and as JSON for comparison."""

import statistics
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
from rich.console import Console
from rich.table import Table

from .contest import Figure

RESULTS = Path(__file__).parent / "results"


def show(figures: list[Figure], machine: dict[str, Any], console: Console) -> None:
    """Print the table, and below it what was measured on."""
    table = Table(title="ours against redis-py and FastAPI, medians over interleaved rounds")
    table.add_column("contest", min_width=24)
    for column in ("ours", "theirs", "ratio", "spread", "aim"):
        table.add_column(column, justify="right", no_wrap=True)
    for figure in figures:
        table.add_row(*_row(figure))
    console.print(table)
    packages = machine["packages"]
    console.print(
        f"{machine['cpu']}, {machine['cores']} cores, load {machine['load_average_1min']}; {machine['python']}; "
        f"{machine['server']}; redis-py {packages['redis']} with hiredis {packages['hiredis']}",
        highlight=False,
    )


def _row(figure: Figure) -> tuple[str, ...]:
    metric = figure.metric
    title = figure.title if metric.more_is_better else f"{figure.title}, {metric.name}"
    sign = "≥" if metric.more_is_better else "≤"
    colour = {True: "green", False: "red", None: "default"}[figure.aim_met]
    return (
        title,
        f"{statistics.median(figure.ours):,.0f}{metric.unit}",
        f"{statistics.median(figure.theirs):,.0f}{metric.unit}",
        f"[{colour}]{figure.ratio:.2f}[/]",
        f"{min(figure.ratios):.2f} … {max(figure.ratios):.2f}",
        "" if metric.aim is None else f"{sign} {metric.aim:g}",
    )


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

"""Every contest runs, at a tiny size, and the results can be read. No figure is held against an aim here."""

from pathlib import Path
from typing import Any

import orjson
import pytest

from benchmarks.__main__ import main
from benchmarks.cases import CONTESTS
from benchmarks.contest import Figure, Metric

pytestmark = pytest.mark.xdist_group("bench")


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    path = tmp_path_factory.mktemp("bench") / "results.json"
    main(["--rounds", "2", "--scale", "0.01", "--json", str(path)])
    document: dict[str, Any] = orjson.loads(path.read_bytes())
    return document


def test_every_metric_of_every_contest_is_reported(results: dict[str, Any]) -> None:
    reported = [(figure["contest"], figure["metric"]["name"]) for figure in results["figures"]]
    assert reported == [(contest.name, metric.name) for contest in CONTESTS for metric in contest.metrics]


@pytest.mark.parametrize("side", ["ours", "theirs", "ratio"])
def test_each_figure_has_a_value_a_round_and_their_median_and_spread(results: dict[str, Any], side: str) -> None:
    for figure in results["figures"]:
        summary = figure[side]
        assert len(summary["rounds"]) == 2
        assert 0 < summary["min"] <= summary["median"] <= summary["max"]


def test_the_machine_and_the_versions_are_told(results: dict[str, Any]) -> None:
    machine = results["machine"]
    assert machine["cpu"]
    assert machine["cores"] >= 1
    assert machine["packages"]["redis"]
    assert "fsync every second" in machine["server"]


def test_one_contest_can_be_chosen(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "one.json"
    main(["--only", "batches", "--rounds", "1", "--scale", "0.01", "--json", str(path)])
    assert {figure["contest"] for figure in orjson.loads(path.read_bytes())["figures"]} == {"batches"}
    assert str(path) in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [["--rounds", "0"], ["--scale", "-1"], ["--scale", "nan"], ["--only", "nothing"]])
def test_a_bad_option_is_refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(arguments)
    assert arguments[0] in capsys.readouterr().err


@pytest.mark.parametrize(
    ("metric", "ours", "met"),
    [
        (Metric("appends", "/s", 2.0), [200.0, 250.0], True),
        (Metric("appends", "/s", 2.0), [190.0, 150.0], False),
        (Metric("p50", " µs", 1.5, more_is_better=False), [140.0, 150.0], True),
        (Metric("p50", " µs", 1.5, more_is_better=False), [160.0, 170.0], False),
        (Metric("appends", "/s"), [1.0, 1.0], None),
    ],
)
def test_an_aim_is_met_by_the_median_of_the_rounds_ratios(metric: Metric, ours: list[float], met: bool | None) -> None:
    assert Figure("c", "title", metric, ours, [100.0, 100.0]).aim_met is met

"""Every contest runs, at a tiny size, and the results can be read. No figure is held against an aim here."""

import importlib.metadata
from pathlib import Path
from typing import Any

import orjson
import pytest

from benchmarks.__main__ import main
from benchmarks.cases import CONTESTS, slot_killed

pytestmark = pytest.mark.xdist_group("bench")

PEERS = {"steindamm", "python-redis-lock"}


def is_installed(package: str) -> bool:
    return any(importlib.metadata.distributions(name=package))


def run(path: Path, *arguments: str) -> dict[str, Any]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(slot_killed, "_LEASE_S", 1)
        main([*arguments, "--scale", "0.01", "--json", str(path)])
    document: dict[str, Any] = orjson.loads(path.read_bytes())
    return document


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Both parts in one document; the slots have one round, as they wait for leases."""
    folder = tmp_path_factory.mktemp("bench")
    log = run(folder / "log.json", "--only", "log", "--rounds", "2")
    slots = run(folder / "slots.json", "--only", "slots", "--rounds", "1")
    return {"machine": slots["machine"], "figures": [*log["figures"], *slots["figures"]]}


def test_every_metric_of_every_contest_is_reported_against_every_rival(results: dict[str, Any]) -> None:
    reported = [(figure["contest"], figure["metric"]["name"], figure["rival"]) for figure in results["figures"]]
    assert reported == [
        (contest.name, metric.name, rival)
        for contest in CONTESTS
        for metric in contest.metrics
        for rival in ([each.name for each in contest.rivals] or [None])
    ]


@pytest.mark.parametrize("side", ["ours", "theirs"])
def test_what_is_measured_has_a_value_a_round_and_their_median_and_spread(results: dict[str, Any], side: str) -> None:
    part = {contest.name: contest.part for contest in CONTESTS}
    measured = [(part[figure["contest"]], figure[side]) for figure in results["figures"] if figure[side] is not None]
    assert {each for each, _ in measured} == {"log", "slots"}
    for each, summary in measured:
        assert len(summary["rounds"]) == {"log": 2, "slots": 1}[each]
        if None not in summary["rounds"]:
            assert 0 <= summary["min"] <= summary["median"] <= summary["max"]


def test_only_a_rival_that_is_not_installed_is_not_measured(results: dict[str, Any]) -> None:
    for figure in results["figures"]:
        missing = figure["rival"] is None or (figure["rival"] in PEERS and not is_installed(figure["rival"]))
        assert (figure["theirs"] is None) is missing
        compared = not missing and figure["metric"]["bound"] is None
        assert (figure["ratio"] is not None and figure["ratio"]["min"] > 0) is compared


def test_the_machine_and_the_versions_are_told(results: dict[str, Any]) -> None:
    machine = results["machine"]
    assert machine["cpu"]
    assert machine["cores"] >= 1
    assert machine["packages"]["redis"]
    assert {name: bool(machine["packages"][name]) for name in PEERS} == {name: is_installed(name) for name in PEERS}
    assert "fsync every second" in machine["server"]


@pytest.mark.parametrize(
    ("contest", "metric"),
    [("slot-overtakes", "served once"), ("slot-overtakes", "coming again"), ("slot-drain", "inversions")],
)
def test_our_slots_are_granted_in_the_order_of_asking(results: dict[str, Any], contest: str, metric: str) -> None:
    rounds = {
        tuple(figure["ours"]["rounds"])
        for figure in results["figures"]
        if (figure["contest"], figure["metric"]["name"]) == (contest, metric)
    }
    assert rounds == {(0,)}


def test_a_killed_holder_of_ours_is_followed_by_the_next(results: dict[str, Any]) -> None:
    (seconds,) = {
        tuple(figure["ours"]["rounds"]) for figure in results["figures"] if figure["contest"] == "slot-killed"
    }
    assert all(0 < each < 3 for each in seconds), "it had a lease of 1 s, and was watched for 3"


def test_one_contest_can_be_chosen(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "one.json"
    document = run(path, "--only", "batches", "--rounds", "1")
    assert {figure["contest"] for figure in document["figures"]} == {"batches"}
    assert str(path) in capsys.readouterr().out


def test_the_parts_that_can_be_chosen_are_the_log_and_the_slots() -> None:
    parts = {part: {each.name for each in CONTESTS if each.part == part} for part in ("log", "slots")}
    assert {each.name for each in CONTESTS} == parts["log"] | parts["slots"]
    assert all(name.startswith("slot-") for name in parts["slots"])
    assert not any(name.startswith("slot") for name in parts["log"])


@pytest.mark.parametrize("arguments", [["--rounds", "0"], ["--scale", "-1"], ["--scale", "nan"], ["--only", "nothing"]])
def test_a_bad_option_is_refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(arguments)
    assert arguments[0] in capsys.readouterr().err

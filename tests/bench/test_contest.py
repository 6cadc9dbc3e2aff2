"""What comes out of the rounds of a contest, and how it is told."""

import math
from collections.abc import Iterator
from contextlib import contextmanager

import orjson
import pytest
from rich.console import Console

from benchmarks import machine, report
from benchmarks.arena import Arena
from benchmarks.contest import THEIRS, Contest, Figure, Lap, Metric, Rival, Side, Sides, hold

ARENA = Arena("unix://nowhere", "redis 0", 1.0)
MORE = Metric("appends", "/s", 2.0)
LESS = Metric("p50", " µs", 1.5, more_is_better=False)
BOUND = Metric("next", " s", more_is_better=False, bound=5.2, stopped_after=15.0, decimals=2)


def contest(metric: Metric, sides: Sides, rivals: tuple[Rival, ...], most_rounds: int | None = None) -> Contest:
    @contextmanager
    def opened(arena: Arena) -> Iterator[Sides]:
        yield sides

    return Contest("c", "title", (metric,), opened, rivals, most_rounds=most_rounds)


def side(metric: Metric, *values: float) -> Side:
    laps: Iterator[Lap] = iter({metric.name: value} for value in values)
    return lambda: next(laps)


def shown(figures: list[Figure]) -> list[str]:
    console = Console(width=120)
    with console.capture() as captured:
        report.show(figures, machine.describe("redis 0"), console)
    return captured.get().splitlines()


@pytest.mark.parametrize(
    ("metric", "ours", "met"),
    [
        (MORE, [200.0, 250.0], True),
        (MORE, [190.0, 150.0], False),
        (LESS, [140.0, 150.0], True),
        (LESS, [160.0, 170.0], False),
        (Metric("appends", "/s"), [1.0, 1.0], None),
    ],
)
def test_an_aim_is_met_by_the_median_of_the_rounds_ratios(metric: Metric, ours: list[float], met: bool | None) -> None:
    assert Figure("c", "title", metric, ours, [100.0, 100.0]).aim_met is met


@pytest.mark.parametrize(("ours", "met"), [([5.2, 4.0], True), ([4.0, 5.3], False), ([math.inf, 4.0], False)])
def test_a_bound_is_kept_by_every_round_whatever_the_rival_does(ours: list[float], met: bool) -> None:
    figure = Figure("c", "title", BOUND, ours, [math.inf, math.inf], Rival("peer"))
    assert figure.aim_met is met
    assert figure.ratio is None


def test_each_round_holds_ours_against_every_rival() -> None:
    rivals = (Rival("strong", {"appends": 0.85}), Rival("weak"))
    sides = (side(MORE, 100, 200), side(MORE, 110, 190), side(MORE, 50, 50))
    strong, weak = hold(contest(MORE, sides, rivals), ARENA, 2)
    assert (strong.rival, strong.aim, strong.ratios) == (rivals[0], 0.85, [100 / 110, 200 / 190])
    assert (weak.rival, weak.aim, weak.ratios) == (rivals[1], 2.0, [2.0, 4.0])


def test_a_contest_may_want_fewer_rounds() -> None:
    (figure,) = hold(contest(MORE, (side(MORE, 1, 1), side(MORE, 1, 1)), (THEIRS,), most_rounds=2), ARENA, 7)
    assert figure.ours == [1, 1]


def test_a_rival_that_is_not_installed_is_said_to_be_so() -> None:
    figures = hold(contest(MORE, (side(MORE, 1), side(MORE, 4), None), (Rival("here"), Rival("absent"))), ARENA, 1)
    assert [figure.to_dict()["theirs"] is None for figure in figures] == [False, True]
    assert figures[1].aim_met is None
    here, absent = (next(line for line in shown(figures) if name in line) for name in ("/ here", "/ absent"))
    assert "not installed" in absent
    assert "not installed" not in here


def test_ours_can_stand_alone() -> None:
    (figure,) = hold(contest(BOUND, (side(BOUND, 4.05),), ()), ARENA, 1)
    assert (figure.rival, figure.theirs, figure.aim_met) == (None, [], True)
    (line,) = (line for line in shown([figure]) if "title" in line)
    assert "4.05 s" in line
    assert "≤ 5.2" in line


def test_what_never_came_is_told_with_how_long_it_was_waited_for() -> None:
    (figure,) = hold(contest(BOUND, (side(BOUND, 4), side(BOUND, math.inf)), (Rival("peer"),)), ARENA, 1)
    (line,) = (line for line in shown([figure]) if "/ peer" in line)
    assert "never in 15 s" in line
    told = orjson.loads(orjson.dumps(figure.to_dict()))
    assert told["theirs"]["rounds"] == [None]
    assert told["metric"]["stopped_after"] == 15

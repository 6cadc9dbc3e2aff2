"""What a contest is, how its rounds are run, and what comes out of them. Knows nothing of Redis."""

import statistics
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from typing import Any

from .arena import Arena

Lap = Mapping[str, float]
"""One measurement: a figure for each metric of the contest, by name."""

Sides = tuple[Callable[[], Lap], Callable[[], Lap]]
"""Ours and theirs; each call does the whole work once and says what it measured."""


@dataclass(frozen=True, slots=True)
class Metric:
    """A figure that a lap yields. `aim` is the ratio ours/theirs to reach: at least, or at most for times."""

    name: str
    unit: str
    aim: float | None = None
    more_is_better: bool = True


@dataclass(frozen=True, slots=True)
class Contest:
    """Two ways to do the same work. `open` sets both up, warm, and takes them down afterwards."""

    name: str
    title: str
    metrics: tuple[Metric, ...]
    open: Callable[[Arena], AbstractContextManager[Sides]]


@dataclass(frozen=True, slots=True)
class Figure:
    """One metric of one contest over all rounds. Lists have one entry a round."""

    contest: str
    title: str
    metric: Metric
    ours: list[float]
    theirs: list[float]

    @property
    def ratios(self) -> list[float]:
        """Ours over theirs, round by round."""
        return [mine / other for mine, other in zip(self.ours, self.theirs, strict=True)]

    @property
    def ratio(self) -> float:
        """The median of the rounds' ratios."""
        return statistics.median(self.ratios)

    @property
    def aim_met(self) -> bool | None:
        """None where there is no aim."""
        if self.metric.aim is None:
            return None
        return self.ratio >= self.metric.aim if self.metric.more_is_better else self.ratio <= self.metric.aim

    def to_dict(self) -> dict[str, Any]:
        """The JSON form, with medians and spread."""
        return {
            "contest": self.contest,
            "title": self.title,
            "metric": asdict(self.metric),
            "ours": _summary(self.ours),
            "theirs": _summary(self.theirs),
            "ratio": _summary(self.ratios),
            "aim_met": self.aim_met,
        }


def hold(contest: Contest, arena: Arena, rounds: int) -> list[Figure]:
    """Run `rounds` rounds, ours then theirs in each; one figure for each metric."""
    with contest.open(arena) as (ours, theirs):
        laps = [(ours(), theirs()) for _ in range(rounds)]
    return [
        Figure(
            contest.name,
            contest.title,
            metric,
            [mine[metric.name] for mine, _ in laps],
            [other[metric.name] for _, other in laps],
        )
        for metric in contest.metrics
    ]


def _summary(values: list[float]) -> dict[str, Any]:
    return {
        "median": statistics.median(values),
        "min": min(values),
        "max": max(values),
        "rounds": values,
    }

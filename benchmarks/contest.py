"""What a contest is, how its rounds are run, and what comes out of them. Knows nothing of Redis."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field
from typing import Any

from .arena import Arena

Lap = Mapping[str, float]
"""One measurement: a figure for each metric of the contest, by name. Infinite: it had not happened when we stopped."""

Side = Callable[[], Lap]
"""Does the whole work once and says what it measured."""

Sides = Sequence[Side | None]
"""Ours, then each rival of the contest in order; None for one that is not installed."""


@dataclass(frozen=True, slots=True)
class Metric:
    """A figure that a lap yields. `aim` is the ratio ours/theirs to reach: at least, or at most for times.

    A metric with a `bound` is not compared: each of our rounds has to be at most that. `stopped_after`, in the metric's
    unit, is how long the lap waits for what may never come.
    """

    name: str
    unit: str
    aim: float | None = None
    more_is_better: bool = True
    bound: float | None = None
    stopped_after: float | None = None
    decimals: int = 0


@dataclass(frozen=True, slots=True)
class Rival:
    """One that ours is held against. `aims`, by the metric's name, go before the metrics' own."""

    name: str
    aims: Mapping[str, float] = field(default_factory=dict)


THEIRS = Rival("theirs")


@dataclass(frozen=True, slots=True)
class Contest:
    """Ways to do the same work. `open` sets them up, warm, and takes them down afterwards."""

    name: str
    title: str
    metrics: tuple[Metric, ...]
    open: Callable[[Arena], AbstractContextManager[Sides]]
    rivals: tuple[Rival, ...] = (THEIRS,)
    part: str = "log"
    most_rounds: int | None = None


@dataclass(frozen=True, slots=True)
class Figure:
    """One metric of one contest against one rival, over all rounds. Lists have one entry a round.

    `theirs` is empty where the rival is not installed, or ours stands alone and `rival` is None.
    """

    contest: str
    title: str
    metric: Metric
    ours: list[float]
    theirs: list[float]
    rival: Rival | None = THEIRS

    @property
    def aim(self) -> float | None:
        """The ratio to reach against this rival."""
        return None if self.rival is None else self.rival.aims.get(self.metric.name, self.metric.aim)

    @property
    def ratios(self) -> list[float]:
        """Ours over theirs, round by round; empty where there is nothing to compare."""
        if self.metric.bound is not None or not self.theirs:
            return []
        return [mine / other for mine, other in zip(self.ours, self.theirs, strict=True)]

    @property
    def ratio(self) -> float | None:
        """The median of the rounds' ratios."""
        return statistics.median(self.ratios) if self.ratios else None

    @property
    def aim_met(self) -> bool | None:
        """None where there is no aim, or no rival to measure it by."""
        if self.metric.bound is not None:
            return max(self.ours) <= self.metric.bound
        if self.aim is None or self.ratio is None:
            return None
        return self.ratio >= self.aim if self.metric.more_is_better else self.ratio <= self.aim

    def to_dict(self) -> dict[str, Any]:
        """The JSON form, with medians and spread. What was not measured is null, and so is an infinite figure."""
        return {
            "contest": self.contest,
            "title": self.title,
            "metric": asdict(self.metric),
            "rival": None if self.rival is None else self.rival.name,
            "aim": self.aim,
            "ours": _summary(self.ours),
            "theirs": _summary(self.theirs),
            "ratio": _summary(self.ratios),
            "aim_met": self.aim_met,
        }


def hold(contest: Contest, arena: Arena, rounds: int) -> list[Figure]:
    """Run `rounds` rounds, ours then theirs in each; one figure for each metric and rival."""
    rounds = min(rounds, contest.most_rounds or rounds)
    with contest.open(arena) as sides:
        laps = [[side() if side else None for side in sides] for _ in range(rounds)]
    ours, *others = (list(side) for side in zip(*laps, strict=True))
    against = list(zip(contest.rivals, others, strict=True)) or [(None, [])]
    return [
        Figure(contest.name, contest.title, metric, _of(metric, ours), _of(metric, theirs), rival)
        for metric in contest.metrics
        for rival, theirs in against
    ]


def _of(metric: Metric, laps: Sequence[Lap | None]) -> list[float]:
    return [lap[metric.name] for lap in laps if lap is not None]


def _summary(values: list[float]) -> dict[str, Any] | None:
    if not values:
        return None
    return {
        "median": statistics.median(values),
        "min": min(values),
        "max": max(values),
        "rounds": values,
    }

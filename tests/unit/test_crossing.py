"""What crosses to another process does so whole; what cannot cross says so."""

import copy
import inspect
import pickle
from collections.abc import Callable
from typing import Any

import pytest

from eventlog import (
    EventBus,
    EventDispatcher,
    HostMetrics,
    Policy,
    PolicyEnforcer,
    Rate,
    create_async_event_log,
    create_async_slot_queue,
    create_event_log,
    create_slot_queue,
    errors,
    stage,
)
from eventlog.config import EventLogConfig
from eventlog.enforcement import CompletionListener
from eventlog.model import Cursor, EventFilter

WAYS: dict[str, Callable[[Any], Any]] = {
    **{f"pickle {n}": lambda it, n=n: pickle.loads(pickle.dumps(it, n)) for n in range(pickle.HIGHEST_PROTOCOL + 1)},
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
}
# A value for each parameter of a constructor, by how it is annotated.
VALUES: dict[Any, object] = {
    str: "some text",
    int: 3,
    float: 1.5,
    bool: True,
    str | None: "some",
    int | None: 7,
    float | None: 2.5,
}
ERRORS = [
    kind
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, errors.EventLogError) and kind.__module__ == errors.__name__
]


def made(kind: type[Exception]) -> Exception:
    if "__init__" not in {name for base in kind.__mro__ if base.__module__ == errors.__name__ for name in vars(base)}:
        return kind("some text")
    parameters = inspect.signature(kind).parameters.values()
    named = {one.name: VALUES[one.annotation] for one in parameters if one.kind is one.KEYWORD_ONLY}
    return kind(*(VALUES[one.annotation] for one in parameters if one.name not in named), **named)


@pytest.mark.parametrize("way", WAYS)
def test_every_error_crosses_with_message_and_attributes(way: str) -> None:
    assert len(ERRORS) > 20
    for kind in ERRORS:
        error = made(kind)
        error.add_note("a note")
        again = WAYS[way](error)
        assert type(again) is kind
        assert (str(again), again.args, vars(again)) == (str(error), error.args, vars(error))
        if isinstance(error, ImportError):
            assert again.msg == error.msg


def test_an_error_of_ones_own_crosses_too() -> None:
    again = pickle.loads(pickle.dumps(Mine(5)))
    assert (type(again), str(again), again.number) == (Mine, "my own 5", 5)


class Mine(errors.EventLogError):
    def __init__(self, number: int) -> None:
        self.number = number
        super().__init__(f"my own {number}")


@pytest.mark.parametrize("way", WAYS)
def test_values_cross(way: str) -> None:
    with create_event_log("memory") as log, log.slots() as slots:
        log.append("a", {"x": [1]}, run_id="r", idempotency_key="k")
        with stage(log, "build", run_id="r"), slots.acquire("build", "e1", max_concurrent=1):
            values = [
                *log.query(),
                log.append("a", {"x": [1]}, run_id="r", idempotency_key="k"),
                *(log.page(limit=1), log.info(), log.run("r"), log.runs(), log.stages("r"), log.telemetry("r")),
                *(slots.stats("build"), slots.state("build", "e1"), log.replay_page("r")),
                *(Policy(max_concurrent=1, rate_limit=Rate(1, 2.0)), Cursor(1, 2), EventFilter.of(kind="a")),
                EventLogConfig(workspace="w", redact=True),
            ]
    for value in values:
        again = WAYS[way](value)
        assert (type(again), again) == (type(value), value)
        assert getattr(again, "duplicate", None) == getattr(value, "duplicate", None)


@pytest.mark.parametrize("way", ["pickle 5", "deepcopy"])
def test_what_cannot_cross_says_so(way: str) -> None:
    log, slots, bus = create_event_log("memory"), create_slot_queue("memory"), EventBus()
    with log, slots, bus, slots.acquire("build") as slot:
        held = [
            *(log, log.follow(), slots, slot, PolicyEnforcer(slots), CompletionListener(log), bus, bus.subscribe()),
            *(EventDispatcher(log), HostMetrics(), create_async_event_log("memory"), create_async_slot_queue("memory")),
        ]
        for one in held:
            with pytest.raises(TypeError, match="cannot be pickled or copied: they belong to the process"):
                WAYS[way](one)

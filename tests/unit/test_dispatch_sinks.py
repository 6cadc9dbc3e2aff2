"""How a batch is brought to a log, and how much room there is before each kind of sink. The log is a fake."""

import asyncio
import threading
from collections.abc import Callable
from typing import Any, cast

import pytest

from eventlog.dispatch.backlog import Batch
from eventlog.dispatch.sinks import Errors, Sink, is_terminal_kind
from eventlog.errors import BackendUnavailable, InvalidInput
from eventlog.model import Body, Event
from eventlog.plan.effects import Pause
from tests.support.dispatchers import Gate, Tasks, Threads
from tests.support.redis_process import eventually

Results = list[Event | Exception]
EVENT = Event.from_dict({"id": "1-1", "kind": "a", "payload": {}})


class FakeLog:
    """Answers as it is told to; then with an event for each."""

    def __init__(self, *answers: Results) -> None:
        self.answers = list(answers)
        self.sizes: list[int] = []
        self.keys: list[str] = []
        self.kinds: list[str] = []

    def append_each(self, bodies: list[Body], *, idempotency_key: str) -> Results:
        self.sizes.append(len(bodies))
        self.keys.append(idempotency_key)
        if self.answers:
            return self.answers.pop(0)
        self.kinds += [body.kind for body in bodies]
        return [EVENT] * len(bodies)


def deliver(log: FakeLog, names: str, until: float = float("inf")) -> Errors:
    """Drive the plan without a clock: a pause passes at once."""
    sink = Sink(log, is_terminal_kind)
    plan = sink.deliver(Batch([sink.call_of(name, None, None) for name in names], until))
    reply: Any = None
    while True:
        try:
            effect = plan.send(reply)
        except StopIteration as done:
            return cast("Errors", done.value)
        reply = None if isinstance(effect, Pause) else effect()  # type: ignore[operator]


def test_all_that_waits_goes_in_one_append_under_a_key() -> None:
    log = FakeLog()
    assert deliver(log, "abc") == [None] * 3
    assert log.kinds == ["a", "b", "c"]
    assert len(log.keys) == 1
    assert log.keys[0]


def test_a_log_that_is_away_for_some_of_them_is_asked_for_all_again_under_the_same_key() -> None:
    refusal, away = InvalidInput("kind", "is bad"), BackendUnavailable("away", outcome_unknown=True)
    log = FakeLog([EVENT, refusal, away], [away] * 3, [EVENT, refusal, EVENT])
    assert deliver(log, "abc") == [None, refusal, None]
    assert len(log.keys) == 3
    assert len(set(log.keys)) == 1


def test_a_log_that_is_away_until_the_time_is_up_fails_only_what_it_did_not_take() -> None:
    away = BackendUnavailable("away")
    log = FakeLog([EVENT, away])
    assert deliver(log, "ab", until=0.0) == [None, away]
    assert len(log.keys) == 1


class SlowLog(FakeLog):
    """Answers when it is opened."""

    def __init__(self) -> None:
        super().__init__()
        self.opened = threading.Event()

    def append_each(self, bodies: list[Body], *, idempotency_key: str) -> Results:
        results = super().append_each(bodies, idempotency_key=idempotency_key)
        assert self.opened.wait(20)
        return results


class SlowAsyncLog:
    """Answers nothing."""

    async def append_each(self, bodies: list[Body], *, idempotency_key: str) -> None:
        await asyncio.Event().wait()


def test_what_gathers_while_a_batch_is_under_way_goes_in_the_next_bounded_ones() -> None:
    log = SlowLog()
    dispatching = Threads(log, inflight_oversubscription=10_000)
    dispatching.dispatch("first")
    eventually(lambda: log.sizes, "the first is under way")
    for n in range(1_200):
        dispatching.dispatch(f"k{n}")
    log.opened.set()
    assert dispatching.shutdown()
    assert log.sizes == [1, 500, 500, 200]
    assert log.kinds == ["first", *(f"k{n}" for n in range(1_200))]


def flooded(dispatching: Threads | Tasks, most: int) -> None:
    for _ in range(most + 7):
        dispatching.dispatch("a")
    stats = dispatching.stats()
    assert (stats.in_flight, stats.dropped["full"]) == (most, 7)


@pytest.mark.parametrize(
    ("options", "most"), [({}, 4_000), ({"max_workers": 2}, 800), ({"inflight_oversubscription": 4}, 40)]
)
def test_before_a_log_there_is_room_for_batches_unless_the_user_says_how_much(options: Any, most: int) -> None:
    log = SlowLog()
    dispatching = Threads(log, **options)
    flooded(dispatching, most)
    log.opened.set()
    assert dispatching.shutdown()
    adispatching = Tasks(SlowAsyncLog(), **options)
    flooded(adispatching, most)
    adispatching.end()


@pytest.mark.parametrize("make", [Threads, Tasks])
def test_before_a_callable_there_is_room_for_four_events_a_worker(make: Callable[..., Threads | Tasks]) -> None:
    gate = Gate()
    dispatching = make(gate.track if make is Threads else gate.atrack)
    flooded(dispatching, 40)
    gate.open()
    dispatching.end()


def test_terminal_kinds_are_those_that_end_a_run() -> None:
    sink = Sink(lambda **given: None, is_terminal_kind)
    names = ("run.finished", "run.failed", "run.error", "run.cancelled", "run.started", "stage.failed")
    assert [sink.call_of(name, None, None).is_terminal for name in names] == [True] * 4 + [False] * 2

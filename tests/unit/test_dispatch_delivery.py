"""How a batch is brought to a log: once, in order, and what is refused costs only itself. The log is a fake."""

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eventlog.dispatch.delivery import Send, Sink, Verdict, is_terminal_kind, sink_of
from eventlog.dispatch.inflight import Call
from eventlog.errors import BackendUnavailable, InvalidInput, LogClosed, PayloadTooLarge
from eventlog.model import Body
from eventlog.plan.effects import Pause
from tests.support.dispatchers import Gate, Tasks, Threads
from tests.support.extent import examples
from tests.support.redis_process import eventually


class FakeLog:
    """Appends all or none, once a key, and refuses what it is told to."""

    def __init__(self) -> None:
        self.kinds: list[str] = []
        self.sends: list[Send] = []
        self.bad: set[str] = set()
        self.tells_index = True
        self.most = 10_000
        self.away: list[BackendUnavailable] = []
        self.closed = False
        self._answered: set[str] = set()

    def append(self) -> None:
        raise AssertionError("one by one is not how a batch is brought")

    def append_many(self, bodies: list[Body], *, idempotency_key: str) -> None:
        self.sends.append(Send(bodies, idempotency_key))
        if self.closed:
            raise LogClosed("closed")
        if idempotency_key in self._answered:
            return
        away = self.away.pop(0) if self.away else None
        if away is not None and not away.outcome_unknown:
            raise away
        if len(bodies) > self.most:
            raise PayloadTooLarge("events", "too much")
        for index, body in enumerate(bodies):
            if body.kind in self.bad:
                raise InvalidInput("kind", "is bad", index=index if self.tells_index else None)
        self.kinds += [body.kind for body in bodies]
        self._answered.add(idempotency_key)
        if away is not None:
            raise away


def deliver(log: FakeLog, names: list[str], until: float = float("inf")) -> list[Verdict]:
    """Drive the plan without a clock: a pause passes at once."""
    sink = sink_of(log, is_terminal_kind, 10, asynchronous=False)
    calls = [sink.call_of(name, None, None) for name in names]
    plan = sink.deliver(calls, until)
    failure: BaseException | None = None
    while True:
        try:
            effect = plan.send(None) if failure is None else plan.throw(failure)
        except StopIteration as done:
            return done.value  # type: ignore[no-any-return]
        failure = None
        if not isinstance(effect, Pause):
            try:
                sink.use(effect)
            except Exception as error:
                failure = error


def test_all_that_waits_goes_in_one_append_under_a_key() -> None:
    log = FakeLog()
    assert deliver(log, ["a", "b", "c"]) == [None] * 3
    assert log.kinds == ["a", "b", "c"]
    assert len(log.sends) == 1
    assert log.sends[0].key


@pytest.mark.parametrize("tells_index", [True, False])
def test_an_event_that_is_refused_costs_only_itself(tells_index: bool) -> None:
    log = FakeLog()
    log.bad, log.tells_index = {"x", "y"}, tells_index
    names = ["a", "x", "b", "c", "y", "d", "y"]
    verdicts = deliver(log, names)
    assert [name for name, verdict in zip(names, verdicts, strict=True) if verdict is not None] == ["x", "y", "y"]
    assert log.kinds == ["a", "b", "c", "d"]


def test_what_is_too_much_at_once_goes_in_parts_in_order() -> None:
    log = FakeLog()
    log.most = 3
    names = [f"k{n}" for n in range(20)]
    assert deliver(log, names) == [None] * 20
    assert log.kinds == names


@pytest.mark.parametrize("outcome_unknown", [True, False])
def test_a_log_that_is_away_is_tried_again_under_the_same_key(outcome_unknown: bool) -> None:
    log = FakeLog()
    log.away = [BackendUnavailable("away", outcome_unknown=outcome_unknown)] * 3
    assert deliver(log, ["a", "b"]) == [None, None]
    assert log.kinds == ["a", "b"]
    assert len({send.key for send in log.sends}) == 1


def test_parts_have_keys_of_their_own() -> None:
    log = FakeLog()
    log.bad = {"x"}
    deliver(log, ["a", "x", "b"])
    assert len({send.key for send in log.sends}) == 2


def test_a_log_that_is_away_until_the_time_is_up_fails_all() -> None:
    log = FakeLog()
    log.away = [BackendUnavailable("away")] * 3
    verdicts = deliver(log, ["a", "b"], until=0.0)
    assert all(isinstance(verdict, BackendUnavailable) for verdict in verdicts)
    assert len(log.sends) == 1


def test_a_closed_log_fails_all_at_once() -> None:
    log = FakeLog()
    log.closed = True
    assert all(isinstance(verdict, LogClosed) for verdict in deliver(log, ["a", "b"]))
    assert len(log.sends) == 1


@settings(max_examples=examples(200), deadline=None)
@given(
    names=st.lists(st.sampled_from(["a", "b", "c", "x", "y"]), min_size=1, max_size=25),
    bad=st.sets(st.sampled_from(["b", "x", "y"])),
    tells_index=st.booleans(),
    most=st.integers(1, 30),
    away=st.lists(st.booleans(), max_size=4),
)
def test_whatever_is_refused_the_others_arrive_once_and_in_order(
    names: list[str], bad: set[str], tells_index: bool, most: int, away: list[bool]
) -> None:
    log = FakeLog()
    log.bad, log.tells_index, log.most = bad, tells_index, most
    log.away = [BackendUnavailable("away", outcome_unknown=unknown) for unknown in away]
    verdicts = deliver(log, names)
    assert [verdict is None for verdict in verdicts] == [name not in bad for name in names]
    assert log.kinds == [name for name in names if name not in bad]


class SlowLog(FakeLog):
    """Answers its first append when it is opened."""

    def __init__(self) -> None:
        super().__init__()
        self.opened = threading.Event()

    def append_many(self, bodies: list[Body], *, idempotency_key: str) -> None:
        super().append_many(bodies, idempotency_key=idempotency_key)
        assert self.opened.wait(20)


class SlowAsyncLog:
    """Answers nothing."""

    async def append(self) -> None:
        raise AssertionError("one by one is not how a batch is brought")

    async def append_many(self, bodies: list[Body], *, idempotency_key: str) -> None:
        await asyncio.Event().wait()


def test_what_gathers_while_a_batch_is_under_way_goes_in_the_next_bounded_ones() -> None:
    log = SlowLog()
    dispatching = Threads(log, inflight_oversubscription=10_000)
    dispatching.dispatch("first")
    eventually(lambda: log.sends, "the first is under way")
    for n in range(1_200):
        dispatching.dispatch(f"k{n}")
    log.opened.set()
    assert dispatching.shutdown()
    assert [len(send.bodies) for send in log.sends] == [1, 500, 500, 200]
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


@pytest.mark.parametrize(
    ("options", "most"), [({}, 4_000), ({"max_workers": 2}, 800), ({"inflight_oversubscription": 4}, 40)]
)
def test_before_an_asyncio_log_too(options: Any, most: int) -> None:
    dispatching = Tasks(SlowAsyncLog(), **options)
    flooded(dispatching, most)
    dispatching.end()


@pytest.mark.parametrize("make", [Threads, Tasks])
def test_before_a_callable_there_is_room_for_four_events_a_worker(make: Callable[..., Threads | Tasks]) -> None:
    gate = Gate()
    dispatching = make(gate.track if make is Threads else gate.atrack)
    flooded(dispatching, 40)
    gate.open()
    dispatching.end()


def sink(**options: Any) -> Sink:
    given: Callable[..., Any] = lambda **given: None  # noqa: E731
    return Sink(given, is_terminal_kind, max_workers=3, **{"is_log": False, **options})


def test_a_log_gets_one_batch_after_another_and_others_one_event_a_call() -> None:
    assert (sink().width, sink().batch_events) == (3, 1)
    assert (sink(is_log=True).width, sink(is_log=True).batch_events) == (1, 500)


def test_terminal_kinds_are_those_that_end_a_run() -> None:
    names = ("run.finished", "run.failed", "run.error", "run.cancelled", "run.started", "stage.failed")
    calls: list[Call] = [sink().call_of(name, None, None) for name in names]
    assert [call.is_terminal for call in calls] == [True] * 4 + [False] * 2

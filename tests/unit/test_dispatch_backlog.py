"""Which event has a place, which gives way, what is logged of it, and that all is accounted for: without threads."""

import logging
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from eventlog import AsyncEventDispatcher, EventDispatcher
from eventlog.dispatch.backlog import Backlog, Batch, Bounds, Call, DispatchStats
from eventlog.errors import InvalidInput
from eventlog.model import Body
from tests.support.extent import examples

DELIVERED: list[BaseException | None] = [None]


def backlog(in_flight: int, *, workers: int = 10, batch: int = 1, clock: Callable[[], float] = lambda: 0.0) -> Backlog:
    return Backlog(Bounds(in_flight, workers, 10, batch, 1_000, timeout_s=5.0), clock=clock)


def admitted(here: Backlog, *names: str) -> None:
    """Names in capitals are terminal."""
    for name in names:
        here.admit(Call(name, None, None, name.isupper()))


def taken(here: Backlog) -> str:
    batch = here.take()
    return "" if batch is None else "".join(call.event_name for call in batch.calls)


def test_events_are_taken_in_the_order_in_which_they_came_terminal_ones_too() -> None:
    here = backlog(10, batch=3)
    admitted(here, *"aBcDe")
    assert (taken(here), taken(here), taken(here)) == ("aBc", "De", "")


def test_over_its_bound_an_ordinary_event_is_dropped_whether_others_wait_or_are_being_delivered() -> None:
    here = backlog(3)
    admitted(here, *"abc")
    assert taken(here) == "a"
    admitted(here, "d")
    assert here.stats().dropped == {"full": 1, "displaced": 0, "shutdown": 0}


def test_a_terminal_event_takes_the_place_of_the_oldest_ordinary_one_that_waits() -> None:
    here = backlog(3, batch=9)
    admitted(here, *"AbcD")
    assert (here.in_flight, taken(here)) == (3, "AcD")


def test_the_reserve_for_terminal_events_is_as_large_as_the_bound() -> None:
    here = backlog(3, batch=9)
    admitted(here, *"ABCDEFGH")
    assert (here.stats().dropped["full"], taken(here)) == (2, "ABCDEF"), "the oldest keep their places"


def test_a_batch_ends_when_it_is_large_and_is_never_empty() -> None:
    here = backlog(10, batch=9)
    for size in (5_000, 10, 1_010, 3_000):
        here.admit(Call("a", None, None, False, Body.of("a", {"t": "x" * size})))
    assert [len(taken(here)) for _ in range(4)] == [1, 2, 1, 0]


def test_no_more_batches_are_taken_than_there_are_workers_and_hanging_ones_count_up_to_their_bound() -> None:
    now = [0.0]
    here = Backlog(Bounds(9, workers=2, hanging=1, batch_events=1, batch_bytes=1, timeout_s=5.0), clock=lambda: now[0])
    admitted(here, *"abcdefg")
    first = here.take()
    assert first is not None
    assert (taken(here), taken(here)) == ("b", "")
    now[0] = 5.0
    here.expire()
    assert (taken(here), taken(here)) == ("c", "")
    here.settle(first, DELIVERED)
    assert (taken(here), taken(here)) == ("d", "")
    stats = here.stats()
    assert (stats.timed_out, stats.late, stats.hanging, stats.delivered) == (2, 1, 1, 0)


@pytest.mark.parametrize("bad", [0, -1, True, 1.5, "3", 10**9])
@pytest.mark.parametrize("name", ["max_workers", "inflight_oversubscription"])
@pytest.mark.parametrize("make", [EventDispatcher, AsyncEventDispatcher])
def test_a_bound_that_is_none_is_named(make: Any, name: str, bad: Any) -> None:
    with pytest.raises(InvalidInput) as caught:
        make(lambda **given: None, **{name: bad})
    assert caught.value.field == name


@pytest.mark.parametrize("bad", [-1, True, "3", None, float("nan"), float("inf"), 10**9])
@pytest.mark.parametrize("name", ["call_timeout_s", "drain_timeout_s"])
@pytest.mark.parametrize("make", [EventDispatcher, AsyncEventDispatcher])
def test_a_time_out_that_is_none_is_named(make: Any, name: str, bad: Any) -> None:
    with pytest.raises(InvalidInput) as caught:
        make(lambda **given: None, **{name: bad})
    assert caught.value.field == name


@pytest.fixture
def warnings(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    caplog.set_level(logging.WARNING, "eventlog")

    def since_last() -> list[str]:
        messages = [record.getMessage() for record in caplog.records]
        caplog.clear()
        return messages

    return since_last


def test_the_first_loss_is_logged_at_once_and_the_others_added_up_when_it_is_time(
    warnings: Callable[[], list[str]],
) -> None:
    now = [0.0]
    here = backlog(1, clock=lambda: now[0])
    admitted(here, *"abbb")
    assert warnings() == ["event dispatch: 1 dropped, too many in flight"]
    now[0] = 4.9
    here.refuse(KeyError())
    assert warnings() == []
    assert here.rest_s() == pytest.approx(0.1), "a worker with nothing to do logs it when it is due"
    now[0] = 5.0
    here.report()
    assert warnings() == ["event dispatch: 2 dropped, too many in flight, 1 failed (last: KeyError)"]
    admitted(here, "B")
    here.give_up()
    here.report(at_once=True)
    assert warnings() == ["event dispatch: 1 dropped for terminal events, 1 given up at shutdown"]
    here.report(at_once=True)
    assert warnings() == []


def test_what_is_logged_of_an_error_is_bounded(warnings: Callable[[], list[str]]) -> None:
    backlog(1).refuse(ValueError("x" * 100_000))
    (message,) = warnings()
    assert len(message) < 400


class AnyHistory(RuleBasedStateMachine):
    """Any sequence of what may happen, beside a count of our own."""

    CAPACITY = 4

    def __init__(self) -> None:
        super().__init__()
        self.clock = 0.0
        bounds = Bounds(self.CAPACITY, workers=3, hanging=2, batch_events=2, batch_bytes=100, timeout_s=5.0)
        self.backlog = Backlog(bounds, clock=lambda: self.clock)
        self.handed = 0
        self.waiting: list[Call] = []
        self.running: list[Batch] = []
        self.hanging: list[Batch] = []
        self.outcomes: Counter[str] = Counter()
        self.closed = False

    @property
    def in_flight(self) -> int:
        return len(self.waiting) + sum(len(batch.calls) for batch in self.running)

    @rule(is_terminal=st.booleans())
    def hand_over(self, is_terminal: bool) -> None:
        call = Call("x", None, None, is_terminal)
        ordinary = [each for each in self.waiting if not each.is_terminal]
        in_flight = self.in_flight
        self.handed += 1
        self.backlog.admit(call)
        if self.closed:
            self.outcomes["shutdown"] += 1
        elif in_flight < self.CAPACITY or (is_terminal and not ordinary and in_flight < 2 * self.CAPACITY):
            self.waiting.append(call)
        elif is_terminal and ordinary:
            self.waiting.remove(ordinary[0])
            self.waiting.append(call)
            self.outcomes["displaced"] += 1
        else:
            self.outcomes["full"] += 1

    @rule()
    def refuse(self) -> None:
        self.handed += 1
        self.outcomes["shutdown" if self.closed else "failed"] += 1
        self.backlog.refuse(ValueError())

    @rule()
    def take(self) -> None:
        self.clock += 1
        batch = self.backlog.take()
        if len(self.running) == 3 or len(self.running) + len(self.hanging) == 5 or not self.waiting:
            assert batch is None
        else:
            assert batch is not None
            assert batch.calls == self.waiting[:2]
            self.waiting = self.waiting[2:]
            self.running.append(batch)

    @precondition(lambda self: self.running)
    @rule(data=st.data(), error=st.sampled_from([None, OSError()]))
    def settle(self, data: st.DataObject, error: BaseException | None) -> None:
        batch = data.draw(st.sampled_from(self.running))
        self.backlog.settle(batch, [error] * len(batch.calls))
        self.running.remove(batch)
        self.outcomes["delivered" if error is None else "failed"] += len(batch.calls)

    @precondition(lambda self: self.hanging)
    @rule(data=st.data())
    def settle_late(self, data: st.DataObject) -> None:
        batch = data.draw(st.sampled_from(self.hanging))
        self.backlog.settle(batch, [None] * len(batch.calls))
        self.hanging.remove(batch)
        self.outcomes["late"] += len(batch.calls)

    @rule(passed=st.integers(0, 4))
    def time_passes(self, passed: int) -> None:
        self.clock += passed
        self.backlog.expire()
        self._hang([batch for batch in self.running if batch.deadline <= self.clock])

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def one_times_out(self, data: st.DataObject) -> None:
        batch = data.draw(st.sampled_from(self.running))
        self.backlog.time_out(batch)
        self.backlog.time_out(batch)
        self._hang([batch])

    def _hang(self, batches: list[Batch]) -> None:
        for batch in batches:
            self.running.remove(batch)
            self.hanging.append(batch)
            self.outcomes["timed_out"] += len(batch.calls)

    @precondition(lambda self: self.handed > 8)
    @rule(at_once=st.booleans())
    def end(self, at_once: bool) -> None:
        self.closed = True
        if at_once:
            self.backlog.give_up()
            self.outcomes["shutdown"] += len(self.waiting)
            self.waiting = []
            self._hang(list(self.running))
        else:
            self.backlog.close()

    @invariant()
    def everything_is_accounted_for(self) -> None:
        stats = self.backlog.stats()
        self._hang([batch for batch in self.running if batch.deadline <= self.clock])
        assert stats.dispatched == self.handed
        assert stats == DispatchStats(
            delivered=self.outcomes["delivered"],
            failed=self.outcomes["failed"],
            timed_out=self.outcomes["timed_out"],
            dropped={reason: self.outcomes[reason] for reason in ("full", "displaced", "shutdown")},  # type: ignore[misc]
            in_flight=self.in_flight,
            waiting=len(self.waiting),
            high_water=stats.high_water,
            late=self.outcomes["late"],
            hanging=len(self.hanging),
        )
        assert stats.in_flight <= stats.high_water <= 2 * self.CAPACITY
        assert self.backlog.wait_until_empty(0.0) == (self.in_flight == 0)

    @invariant()
    def only_terminal_events_are_over_the_bound(self) -> None:
        if self.in_flight > self.CAPACITY:
            assert all(call.is_terminal for call in self.waiting)


TestAnyHistory = AnyHistory.TestCase
TestAnyHistory.settings = settings(max_examples=examples(150), stateful_step_count=40, deadline=None)

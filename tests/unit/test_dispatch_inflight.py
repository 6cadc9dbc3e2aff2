"""Who has a place, who gives way to whom, and that nothing is unaccounted for: the core, without threads or clock."""

from collections import Counter
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from eventlog.dispatch.inflight import Call, DispatchStats, Inflight, Terms
from eventlog.errors import InvalidInput
from eventlog.model import Body
from tests.support.dispatchers import balanced
from tests.support.extent import examples


def ordinary(name: str = "a") -> Call:
    return Call(name)


def terminal(name: str = "run.finished") -> Call:
    return Call(name, is_terminal=True)


def taken(inflight: Inflight, most: int = 1) -> list[str]:
    return [call.event_name for call in inflight.take(most, 1_000_000, 10.0)]


def test_calls_are_taken_in_the_order_in_which_they_came_terminal_ones_too() -> None:
    inflight = Inflight(10)
    for call in (ordinary("a"), terminal("b"), ordinary("c"), terminal("d"), ordinary("e")):
        assert inflight.admit(call) is None
    assert taken(inflight, 2) == ["a", "b"]
    assert taken(inflight, 9) == ["c", "d", "e"]


def test_over_its_capacity_an_ordinary_call_is_dropped_whether_others_wait_or_are_being_made() -> None:
    inflight = Inflight(3)
    for name in "abc":
        inflight.admit(ordinary(name))
    assert taken(inflight) == ["a"]
    assert inflight.admit(ordinary("d")) == "full"
    assert inflight.stats().dropped == {"full": 1, "displaced": 0, "shutdown": 0}


def test_a_terminal_call_takes_the_place_of_the_oldest_ordinary_one_that_waits() -> None:
    inflight = Inflight(3)
    for call in (terminal("old"), ordinary("a"), ordinary("b")):
        inflight.admit(call)
    assert inflight.admit(terminal("new")) == "displaced"
    assert inflight.in_flight == 3
    assert taken(inflight, 9) == ["old", "b", "new"]


def test_what_is_being_made_is_not_displaced_and_a_terminal_call_waits_beside_it() -> None:
    inflight = Inflight(2)
    inflight.admit(ordinary("a"))
    inflight.admit(ordinary("b"))
    assert taken(inflight, 2) == ["a", "b"]
    assert inflight.admit(terminal("c")) is None
    assert inflight.admit(ordinary("d")) == "full"
    assert taken(inflight, 2) == ["c"]


def test_the_reserve_for_terminal_calls_is_as_large_as_the_capacity() -> None:
    inflight = Inflight(3)
    answers = [inflight.admit(terminal(str(n))) for n in range(8)]
    assert answers == [None] * 6 + ["full"] * 2
    assert taken(inflight, 9) == list("012345"), "the oldest keep their places"


def test_a_batch_ends_before_it_is_too_large_but_is_never_empty() -> None:
    inflight = Inflight(10)
    for size in (5_000, 10, 10, 3_000):
        call = ordinary()
        call.body = Body.of("a", {"t": "x" * size})
        inflight.admit(call)
    sizes = []
    while calls := inflight.take(10, 1_000, 1.0):
        sizes.append(len(calls))
    assert sizes == [1, 2, 1]


def test_a_call_that_comes_to_its_end_after_its_time_was_up_counts_as_timed_out_alone() -> None:
    inflight = Inflight(4)
    inflight.admit(ordinary())
    (call,) = inflight.take(1, 0, deadline=5.0)
    assert inflight.next_deadline == 5.0
    assert inflight.overdue(4.9) == []
    assert inflight.overdue(5.0) == [call]
    assert not inflight.settle(call, delivered=True)
    stats = inflight.stats()
    assert (stats.timed_out, stats.delivered, stats.late, stats.in_flight) == (1, 0, 1, 0)


def test_after_the_end_calls_are_dropped_and_those_in_flight_go_on() -> None:
    inflight = Inflight(4)
    inflight.admit(ordinary("a"))
    inflight.close()
    assert inflight.admit(terminal()) == "shutdown"
    assert inflight.refuse() == "shutdown"
    assert taken(inflight) == ["a"]


def test_giving_up_says_how_many_waited_and_how_many_were_being_made() -> None:
    inflight = Inflight(9)
    for _ in range(5):
        inflight.admit(ordinary())
    inflight.take(2, 0, 1.0)
    assert inflight.give_up() == (3, 2)
    assert inflight.give_up() == (0, 0)
    stats = inflight.stats()
    assert (stats.in_flight, stats.timed_out, stats.dropped["shutdown"]) == (0, 2, 3)


@pytest.mark.parametrize("bad", [0, -1, True, 1.5, "3", None, 10**9])
@pytest.mark.parametrize("name", ["max_workers", "inflight_oversubscription"])
def test_a_bound_that_is_none_is_named(name: str, bad: Any) -> None:
    with pytest.raises(InvalidInput) as caught:
        Terms.of(**{"max_workers": 1, "inflight_oversubscription": 1, name: bad}, call_timeout_s=1, drain_timeout_s=1)
    assert caught.value.field == name


@pytest.mark.parametrize("bad", [-1, True, "3", None, float("nan"), float("inf"), 10**9])
@pytest.mark.parametrize("name", ["call_timeout_s", "drain_timeout_s"])
def test_a_time_out_that_is_none_is_named(name: str, bad: Any) -> None:
    with pytest.raises(InvalidInput) as caught:
        Terms.of(1, 1, **{"call_timeout_s": 1, "drain_timeout_s": 1, name: bad})
    assert caught.value.field == name


class AnyHistory(RuleBasedStateMachine):
    """Any sequence of what may happen, beside a count of our own and lists of names."""

    CAPACITY = 4

    def __init__(self) -> None:
        super().__init__()
        self.inflight = Inflight(self.CAPACITY)
        self.handed = 0
        self.waiting: list[Call] = []
        self.running: list[Call] = []
        self.ended: list[Call] = []
        self.outcomes: Counter[str] = Counter()
        self.clock = 0.0
        self.closed = False

    @rule(is_terminal=st.booleans())
    def hand_over(self, is_terminal: bool) -> None:
        call = Call("x", is_terminal=is_terminal)
        in_flight = len(self.waiting) + len(self.running)
        others = [each for each in self.waiting if not each.is_terminal]
        self.handed += 1
        answer = self.inflight.admit(call)
        if self.closed:
            expected = "shutdown"
        elif in_flight < self.CAPACITY:
            expected = None
        elif not is_terminal:
            expected = "full"
        elif others:
            expected = "displaced"
            self.waiting.remove(others[0])
        else:
            expected = None if in_flight < 2 * self.CAPACITY else "full"
        assert answer == expected
        if answer is not None:
            self.outcomes[answer] += 1
        if answer in (None, "displaced"):
            self.waiting.append(call)

    @rule()
    def refuse(self) -> None:
        self.handed += 1
        self.outcomes[self.inflight.refuse() or "failed"] += 1

    @rule(most=st.integers(1, 5))
    def take(self, most: int) -> None:
        self.clock += 1
        calls = self.inflight.take(most, 10, self.clock + 5)
        assert calls == self.waiting[:most]
        self.waiting = self.waiting[most:]
        self.running += calls

    @precondition(lambda self: self.running)
    @rule(data=st.data(), delivered=st.booleans())
    def settle(self, data: st.DataObject, delivered: bool) -> None:
        call = data.draw(st.sampled_from(self.running))
        assert self.inflight.settle(call, delivered=delivered)
        self._end([call], "delivered" if delivered else "failed")

    @precondition(lambda self: self.ended)
    @rule(data=st.data())
    def settle_again(self, data: st.DataObject) -> None:
        assert not self.inflight.settle(data.draw(st.sampled_from(self.ended)), delivered=True)
        self.outcomes["late"] += 1

    @rule(passed=st.integers(0, 4))
    def time_passes(self, passed: int) -> None:
        self.clock += passed
        late = self.inflight.overdue(self.clock)
        assert late == [call for call in self.running if call.deadline <= self.clock]
        self._end(late, "timed_out")

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def one_expires(self, data: st.DataObject) -> None:
        call = data.draw(st.sampled_from(self.running))
        assert self.inflight.expire(call)
        assert not self.inflight.expire(call)
        self._end([call], "timed_out")

    def _end(self, calls: list[Call], how: str) -> None:
        self.outcomes[how] += len(calls)
        self.ended += calls
        self.running = [call for call in self.running if call not in calls]

    @precondition(lambda self: self.handed > 8)
    @rule(at_once=st.booleans())
    def end(self, at_once: bool) -> None:
        self.closed = True
        if at_once:
            assert self.inflight.give_up() == (len(self.waiting), len(self.running))
            self.outcomes["shutdown"] += len(self.waiting)
            self.waiting = []
            self._end(self.running, "timed_out")
        else:
            self.inflight.close()

    @invariant()
    def everything_is_accounted_for(self) -> None:
        stats = self.inflight.stats()
        assert balanced(stats)
        assert stats == DispatchStats(
            dispatched=self.handed,
            delivered=self.outcomes["delivered"],
            failed=self.outcomes["failed"],
            timed_out=self.outcomes["timed_out"],
            dropped={reason: self.outcomes[reason] for reason in ("full", "displaced", "shutdown")},  # type: ignore[misc]
            in_flight=len(self.waiting) + len(self.running),
            waiting=len(self.waiting),
            high_water=stats.high_water,
            late=self.outcomes["late"],
        )
        assert stats.in_flight <= stats.high_water <= 2 * self.CAPACITY

    @invariant()
    def only_terminal_calls_are_over_the_capacity(self) -> None:
        if len(self.waiting) + len(self.running) > self.CAPACITY:
            assert all(call.is_terminal for call in self.waiting)


TestAnyHistory = AnyHistory.TestCase
TestAnyHistory.settings = settings(max_examples=examples(150), stateful_step_count=40, deadline=None)

"""A batch in which a refused event costs only itself: once, in order, whatever happens in between. On a fake log."""

from collections.abc import Generator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eventlog.errors import BackendUnavailable, InvalidInput, LogClosed, PayloadTooLarge, RejectedContent
from eventlog.log.append_each import append_each
from eventlog.plan.drive import no_transport, run
from tests.support.extent import examples


class FakeLog:
    """Appends all or none, once a key, and refuses what it is told to. Its events are their names."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.keys: list[str | None] = []
        self.bad: set[str] = set()
        self.names_index = True
        self.most = 10_000
        self.away: list[BackendUnavailable | None] = []
        self._answers: dict[str, list[str]] = {}

    def append_many(self, names: list[str], *, idempotency_key: str | None) -> Generator[Any, Any, list[str]]:
        yield from ()
        self.keys.append(idempotency_key)
        away = self.away.pop(0) if self.away else None
        if away is not None and not away.outcome_unknown:
            raise away
        if len(names) > self.most:
            raise PayloadTooLarge("events", "too much")
        for index, name in enumerate(names):
            if name in self.bad:
                raise RejectedContent("payload", "is bad", index=index if self.names_index else None)
        if idempotency_key is None or idempotency_key not in self._answers:
            self.names += names
            if idempotency_key is not None:
                self._answers[idempotency_key] = names
        if away is not None:
            raise away
        return names if idempotency_key is None else self._answers[idempotency_key]


def appended(log: FakeLog, names: list[str], key: str | None = None) -> list[Any]:
    return run(append_each(log.append_many, names, key), no_transport)  # type: ignore[arg-type]


def test_a_batch_that_is_not_refused_is_one_append_under_the_key() -> None:
    log = FakeLog()
    assert appended(log, ["a", "b"], "k") == ["a", "b"]
    assert log.keys == ["k"]


def test_nothing_is_appended_for_no_events() -> None:
    log = FakeLog()
    assert appended(log, []) == []
    assert log.keys == []


@pytest.mark.parametrize("names_index", [True, False])
def test_an_event_that_is_refused_has_its_error_in_its_place_and_the_others_are_appended(names_index: bool) -> None:
    log = FakeLog()
    log.bad, log.names_index = {"x"}, names_index
    a, first, b, second = appended(log, ["a", "x", "b", "x"])
    assert (a, b) == ("a", "b")
    assert [str(error) for error in (first, second)] == ["payload: is bad"] * 2
    assert type(first) is RejectedContent
    assert log.names == ["a", "b"]


def test_after_an_outage_nothing_more_is_sent() -> None:
    log = FakeLog()
    log.most, log.away = 2, [None, None, BackendUnavailable("away")]
    results = appended(log, ["a", "b", "c", "d"])
    assert results[:2] == ["a", "b"]
    assert all(isinstance(error, BackendUnavailable) for error in results[2:])
    assert log.names == ["a", "b"]


def test_any_other_error_is_that_of_all() -> None:
    log = FakeLog()
    log.away = [LogClosed("closed")]  # type: ignore[list-item]
    log.away[0].outcome_unknown = False  # type: ignore[union-attr]
    assert [type(error) for error in appended(log, ["a", "b"])] == [LogClosed] * 2
    assert len(log.keys) == 1


def test_a_key_that_another_batch_had_is_an_error_of_the_events_without_an_answer() -> None:
    log = FakeLog()
    appended(log, ["a"], "k")
    first, second = appended(log, ["a", "b"], "k")
    assert first == "a"
    assert isinstance(second, InvalidInput)
    assert log.names == ["a"]


@settings(max_examples=examples(200), deadline=None)
@given(
    names=st.lists(st.sampled_from(["a", "b", "c", "x", "y"]), min_size=1, max_size=25),
    bad=st.sets(st.sampled_from(["b", "x", "y"])),
    names_index=st.booleans(),
    most=st.integers(1, 30),
    away=st.lists(st.sampled_from([None, True, False]), max_size=6),
)
def test_repeated_under_its_key_through_outages_all_that_is_good_arrives_once_and_in_order(
    names: list[str], bad: set[str], names_index: bool, most: int, away: list[bool | None]
) -> None:
    log = FakeLog()
    log.bad, log.names_index, log.most = bad, names_index, most
    log.away = [None if unknown is None else BackendUnavailable("away", outcome_unknown=unknown) for unknown in away]
    for _ in range(len(away) + 1):
        results = appended(log, names, "k")
    assert [isinstance(result, str) for result in results] == [name not in bad for name in names]
    assert log.names == [name for name in names if name not in bad]

"""Whatever is done to a log in whatever order, Redis and the memory model give the same answers.

The log under test is on a real Redis of this test's own. The model is the memory backend, whose clock is set to the
time that Redis gave each event. Failures print the steps and a seed (`@reproduce_failure`).
"""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from eventlog import Event, EventLog, create_event_log
from eventlog.errors import BackendUnavailable, Conflict
from eventlog.log import DirectLog
from eventlog.log.memory import MemoryBackend
from eventlog.log.redis import RedisBackend
from eventlog.model import Body
from eventlog.model.log_values import Append
from eventlog.model.retention import Retention
from eventlog.plan.drive import run
from eventlog.store.keys import WorkspaceKeys
from eventlog.store.links import SyncLink
from tests.support.extent import examples
from tests.support.redis_process import RedisProcess

KEYS = st.sampled_from([f"key-{n}" for n in range(5)])
EVENTS = st.fixed_dictionaries(
    {"kind": st.sampled_from(["a", "tool.x", "tool.y", "run.finished"])},
    optional={
        "payload": st.dictionaries(
            st.text(max_size=5), st.none() | st.integers(-9, 9) | st.text(max_size=5), max_size=3
        ),
        "run_id": st.sampled_from(["r1", "r2", "r3"]),
        "visibility": st.sampled_from(["public", "internal", "private"]),
        "stage_name": st.sampled_from(["s1", "s2"]),
    },
)
KEYED_EVENTS = st.builds(
    lambda event, key: {**event, **({"idempotency_key": key} if key else {})}, EVENTS, st.none() | KEYS
)
FILTERS = st.fixed_dictionaries(
    {},
    optional={
        "kind": st.sampled_from(["a", "tool.*", ["a", "run.finished"]]),
        "run_id": st.sampled_from(["r1", "r2", "nobody"]),
        "visibility": st.sampled_from(["public", "internal"]),
        "stage_name": st.just("s1"),
    },
)


@pytest.fixture(scope="module")
def server() -> Iterator[RedisProcess]:
    """A server that the machine may flush."""
    with RedisProcess(appendonly=False) as own:
        yield own


def outcome(log: EventLog, append: Callable[[EventLog], list[Event]]) -> list[Event] | Conflict:
    try:
        return append(log)
    except Conflict as conflict:
        return conflict


class Histories(RuleBasedStateMachine):
    """Does everything twice: to Redis first, then, at the time that Redis says it was, to the model."""

    def __init__(self, server: RedisProcess) -> None:
        super().__init__()
        self.client = server.client()
        self.client.flushall()
        self.url = server.url

    @initialize(max_entries=st.sampled_from([1, 3, 8, 150]))
    def open(self, max_entries: int) -> None:
        self.log = create_event_log("redis", url=self.url, workspace="w", max_entries=max_entries)
        retention = Retention.of(max_entries=max_entries)
        self.memory = MemoryBackend(retention, lambda: (self.now_ms + 0.5) / 1000)
        self.model = DirectLog(self.memory, workspace="w")
        self.writer = RedisBackend(WorkspaceKeys.of("w"), retention, 5.0)
        self.link = SyncLink(self.url, 1)
        self.calls = 0
        self.positions: list[Event] = []
        self.epochs: dict[str, str] = {}

    def teardown(self) -> None:
        if hasattr(self, "log"):
            self.log.close()
            self.model.close()
            self.link.close()
        self.client.close()

    def set_clock(self, events: list[Event]) -> None:
        """Let the model's clock say what Redis' clock said when these events were appended."""
        fresh = [event for event in events if not event.duplicate]
        if fresh:
            # A new log is born a millisecond ahead of the clock.
            newborn = not self.memory._log.epoch
            self.now_ms = fresh[0].position.ms - (1 if newborn else 0)
        else:
            seconds, micros = self.client.time()
            self.now_ms = int(seconds) * 1000 + int(micros) // 1000

    def same(self, done: list[Event], wanted: list[Event]) -> None:
        """Equal events; of duplicates that have left the log Redis knows the position alone."""
        resident = {event.id for event in self.model.query()}
        assert [(event.id, event.duplicate) for event in done] == [(event.id, event.duplicate) for event in wanted]
        for mine, theirs in zip(done, wanted, strict=True):
            if not mine.duplicate or mine.id in resident:
                assert mine == theirs
        self.positions += done

    def both(self, append: Callable[[EventLog], list[Event]]) -> None:
        """Append to both; the outcomes, errors included, must be the same."""
        done = outcome(self.log, append)
        self.set_clock([] if isinstance(done, Conflict) else done)
        wanted = outcome(self.model, append)
        if isinstance(done, Conflict) or isinstance(wanted, Conflict):
            assert str(done) == str(wanted)
        else:
            self.same(done, wanted)

    @rule(event=KEYED_EVENTS)
    def append(self, event: dict[str, Any]) -> None:
        self.both(lambda log: [log.append(**event)])

    @rule(events=st.lists(KEYED_EVENTS, min_size=1, max_size=12))
    def append_many(self, events: list[dict[str, Any]]) -> None:
        self.both(lambda log: log.append_many(events))

    @rule(events=st.lists(EVENTS, min_size=1, max_size=6), key=KEYS)
    def append_many_with_one_key(self, events: list[dict[str, Any]], key: str) -> None:
        self.both(lambda log: log.append_many(events, idempotency_key=key))

    @rule(events=st.lists(KEYED_EVENTS, min_size=1, max_size=4), off_by=st.sampled_from([0, 0, 1, -1, 50]))
    def append_on_condition(self, events: list[dict[str, Any]], off_by: int) -> None:
        expected = max(0, self.model.info().last_offset + off_by) if hasattr(self, "now_ms") else 0
        self.both(lambda log: log.append_many(events, expected_offset=expected))

    @rule(events=st.lists(EVENTS, min_size=100, max_size=130))
    def append_so_many_that_redis_trims(self, events: list[dict[str, Any]]) -> None:
        self.both(lambda log: log.append_many(events))

    @rule(
        batches=st.lists(st.lists(KEYED_EVENTS, min_size=1, max_size=4), min_size=1, max_size=4), key=st.none() | KEYS
    )
    def a_script_call_whose_reply_was_lost(self, batches: list[list[dict[str, Any]]], key: str | None) -> None:
        appends = [Append([Body.from_mapping(event) for event in batch]) for batch in batches]
        appends.append(Append([Body.of("keyed")], key=key))
        self.calls += 1
        first = run(self.writer.append(appends, self.calls), self.link.execute)
        again = run(self.writer.append(appends, self.calls), self.link.execute)
        assert again == first
        with pytest.raises(BackendUnavailable):
            run(self.writer.append(appends, self.calls - 1), self.link.execute)
        done = [event for events in first for event in events]  # type: ignore[union-attr]
        self.set_clock(done)
        modelled = run(self.memory.append(appends, 0), self.link.execute)
        self.same(done, [event for events in modelled for event in events])  # type: ignore[union-attr]

    @rule()
    def clear(self) -> None:
        removed = self.log.clear()
        self.set_clock([])
        assert self.model.clear() == removed

    @rule()
    def wipe(self) -> None:
        self.client.flushall()
        self.memory.forget_everything()

    @precondition(lambda self: self.positions)
    @rule(data=st.data(), wanted=FILTERS, order=st.sampled_from(["asc", "desc"]), limit=st.integers(0, 12))
    def resume(self, data: st.DataObject, wanted: dict[str, Any], order: str, limit: int) -> None:
        """Read on from any event ever appended, given in any form, by readers who know an epoch and who do not."""
        event = data.draw(st.sampled_from(self.positions))
        since = data.draw(st.sampled_from([event.id, event.offset, 0, None]))
        until = data.draw(st.none() | st.sampled_from(self.positions).map(lambda e: e.id))
        epoch = data.draw(st.sampled_from([None, *self.epochs]))
        self.set_clock([])
        page = self.log.page(since, limit, until=until, order=order, epoch=epoch, **wanted)
        model = self.model.page(since, limit, until=until, order=order, epoch=epoch and self.epochs[epoch], **wanted)
        assert page.events == model.events
        assert (page.gap, page.at_end, page.cursor) == (model.gap, model.at_end, model.cursor)

    @precondition(lambda self: len(self.epochs) > 1)
    @rule(data=st.data())
    def resume_in_the_belief_of_another_epoch(self, data: st.DataObject) -> None:
        """As after a restore: the epoch is another one, and the event may all the same be there."""
        event = data.draw(st.sampled_from(self.positions[-20:]))
        epoch = data.draw(st.sampled_from(sorted(self.epochs)))
        self.set_clock([])
        page = self.log.page(event, epoch=epoch)
        model = self.model.page(event, epoch=self.epochs[epoch])
        assert (page.events, page.gap, page.cursor) == (model.events, model.gap, model.cursor)

    @precondition(lambda self: self.positions)
    @rule(wanted=FILTERS, limit=st.integers(1, 5), order=st.sampled_from(["asc", "desc"]))
    def page_through(self, wanted: dict[str, Any], limit: int, order: str) -> None:
        """Pages of any size, put together, are the query."""
        found: list[Event] = []
        cursor = None
        while True:
            place: dict[str, Any] = {"since": cursor} if order == "asc" else {"until": cursor}
            page = self.log.page(limit=limit, order=order, **place, **wanted)
            found += page.events
            if page.at_end:
                break
            cursor = page.cursor
        assert found == self.log.query(order=order, **wanted)

    @invariant()
    def both_show_the_same(self) -> None:
        if not hasattr(self, "log"):
            return
        self.set_clock([])
        info, model = self.log.info(), self.model.info()
        assert (info.length, info.first_id, info.last_id, info.trimmed) == (
            *(model.length, model.first_id, model.last_id),
            model.trimmed,
        )
        assert (info.epoch is None) == (model.epoch is None)
        if info.epoch is not None and model.epoch is not None:
            self.epochs.setdefault(info.epoch, model.epoch)
            assert self.epochs[info.epoch] == model.epoch
        events = self.log.query()
        assert events == self.model.query()
        assert [event.to_dict() for event in events] == [event.to_dict() for event in self.model.query()]
        for run_id in ("r1", "r2", "r3"):
            assert self.log.query(run_id=run_id) == [event for event in events if event.run_id == run_id]
        assert self.log.verify().problems == self.model.verify().problems == []


@pytest.mark.timeout(600)  # it takes seconds; a failure takes minutes to be made small
def test_any_history_gives_the_same_answers_as_the_model(server: RedisProcess) -> None:
    run_state_machine_as_test(
        lambda: Histories(server),  # type: ignore[arg-type]  # any factory will do
        settings=settings(
            max_examples=examples(60),
            stateful_step_count=25,
            deadline=None,
            print_blob=True,
            suppress_health_check=list(HealthCheck),
        ),
    )

"""The record of an execution: in order, in batches, bounded, through outages, and honest about what is missing."""

import threading
from collections.abc import Callable, Generator, Iterable, Mapping
from typing import Any

import pytest

from eventlog import create_event_log
from eventlog.errors import BackendUnavailable, Conflict, EventLogError, InvalidInput
from eventlog.execution.lines import LineSplitter
from eventlog.execution.record import Record
from eventlog.log.append_each import append_each
from eventlog.plan.drive import no_transport, run
from tests.support.redis_process import eventually


class Log:
    """Takes batches when `open` is set, and fails as it is told to."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.open.set()
        self.batches: list[list[Any]] = []
        self.keys: list[str | None] = []
        self.tries = 0
        self.failures: list[EventLogError] = []

    def append_each(self, events: Iterable[Any], *, idempotency_key: str | None = None) -> list[Any]:
        def append_many(some: list[Any], *, idempotency_key: str | None) -> Generator[Any, Any, list[Any]]:
            yield from ()
            self.append_many(some, idempotency_key=idempotency_key)
            return some

        return run(append_each(append_many, list(events), idempotency_key), no_transport)

    def append_many(self, events: list[Any], *, idempotency_key: str | None = None) -> None:
        self.tries += 1
        assert self.open.wait(20)
        self.keys.append(idempotency_key)
        if self.failures:
            raise self.failures.pop(0)
        self.batches.append(events)

    def claim(self, facts: Mapping[str, Any]) -> Callable[[], int]:
        """Gives the number 3, once `failures` are over."""

        def attempt() -> int:
            started = {"kind": "stage.started", "payload": {**facts, "stage_attempt": 3}}
            self.append_many([started], idempotency_key="claim")
            return 3

        return attempt

    @property
    def events(self) -> list[Any]:
        return [event for batch in self.batches for event in batch]

    @property
    def lines(self) -> list[str]:
        return [event["payload"]["line"] for event in self.events if event["kind"] == "exec.output"]


def _record(log: Log, **bounds: int) -> Record:
    record = Record(log, lambda _: {"run_id": "r1"}, log.claim, **bounds)
    record.start()
    return record


def _end(record: Record) -> None:
    record.close()
    eventually(lambda: record.ended, "the record ends")


def _numbered(count: int, start: int = 0) -> bytes:
    return b"".join(b"%d\n" % number for number in range(start, start + count))


def test_lines_arrive_in_order_in_batches_of_at_most_200() -> None:
    log = Log()
    record = _record(log)
    splitter = LineSplitter()
    for start in range(0, 5000, 100):
        record.take("stdout", splitter, _numbered(100, start))
    _end(record)
    assert log.lines == [str(number) for number in range(5000)]
    assert max(map(len, log.batches)) <= 200
    assert len(log.batches) < 100
    assert record.stats() == (5000, 0, 0, "")


def test_a_line_alone_is_recorded_within_a_moment() -> None:
    log = Log()
    record = _record(log)
    record.take("stderr", LineSplitter(), b"alone\n")
    eventually(lambda: log.lines == ["alone"], "the line", patience_s=2)
    assert log.events[0] == {"kind": "exec.output", "payload": {"line": "alone", "stream": "stderr"}, "run_id": "r1"}
    _end(record)


def test_over_the_bound_lines_are_dropped_and_counted_in_their_place() -> None:
    log = Log()
    log.open.clear()
    record = _record(log, most_lines=100)
    splitter = LineSplitter()
    record.take("stdout", splitter, _numbered(130))
    record.take("stdout", splitter, _numbered(20, 130))
    record.add("stage.succeeded", {})
    log.open.set()
    eventually(lambda: len(log.events) == 102, "all that was kept")
    record.take("stdout", splitter, _numbered(10, 150))
    _end(record)
    kinds = [event["kind"] for event in log.events]
    assert kinds == ["exec.output"] * 100 + ["exec.output_dropped", "stage.succeeded"] + ["exec.output"] * 10
    assert log.events[100]["payload"] == {"lines": 50}
    assert log.lines == [str(number) for number in (*range(100), *range(150, 160))]
    assert record.stats()[:3] == (110, 50, 0)


def test_memory_is_bounded_in_bytes_too() -> None:
    log = Log()
    log.open.clear()
    record = _record(log, most_bytes=100_000)
    splitter = LineSplitter()
    for _ in range(50):
        record.take("stdout", splitter, b"x" * 8000 + b"\n")
    lines, dropped, *_ = record.stats()
    assert lines + dropped == 50
    assert lines <= 13
    log.open.set()
    _end(record)
    assert len(log.lines) == lines


def test_an_outage_is_waited_out_under_one_idempotency_key() -> None:
    log = Log()
    log.failures = [BackendUnavailable("away", outcome_unknown=True), BackendUnavailable("away")]
    record = _record(log)
    record.add("run.started", {})
    _end(record)
    assert [event["kind"] for event in log.events] == ["run.started"]
    assert len(log.keys) == 3
    assert len(set(log.keys)) == 1


def test_an_event_that_the_log_refuses_costs_only_itself() -> None:
    with create_event_log("memory", payload_max_bytes=64) as log:
        record = Record(log, lambda _: {}, Log().claim)
        record.start()
        record.take("stdout", LineSplitter(), b"a\n" + b"b" * 100 + b"\nc\n")
        _end(record)
        assert [event.payload["line"] for event in log.query()] == ["a", "c"]
        lines, dropped, lost, problem = record.stats()
        assert (lines, dropped, lost) == (3, 0, 1)
        assert "limit is 64" in problem


@pytest.mark.parametrize("refusal", [InvalidInput("events", "no"), Conflict(1, 2)])
def test_a_batch_that_is_refused_whole_does_not_stop_the_next(refusal: EventLogError) -> None:
    log = Log()
    log.failures = [refusal]
    record = _record(log)
    record.add("first", {})
    eventually(lambda: record.stats().lost == 1, "the loss is counted")
    record.add("second", {})
    _end(record)
    assert [event["kind"] for event in log.events] == ["second"]


def test_what_is_abandoned_is_counted() -> None:
    log = Log()
    log.open.clear()
    record = _record(log)
    record.take("stdout", LineSplitter(), _numbered(500))
    eventually(lambda: log.tries == 1, "the first batch is under way")
    record.abandon()
    assert record.stats().lost == 500
    log.open.set()
    eventually(lambda: record.ended, "the record ends")
    assert record.stats().lost == 500


def test_the_end_of_a_stream_is_recorded_even_without_a_line_end() -> None:
    log = Log()
    record = _record(log)
    splitter = LineSplitter()
    record.take("stdout", splitter, b"one\ntw")
    record.finish("stdout", splitter)
    _end(record)
    assert log.lines == ["one", "tw"]


def test_an_attempt_begins_in_its_place_and_what_comes_after_has_its_number() -> None:
    log = Log()
    log.open.clear()
    record = _record(log)
    splitter = LineSplitter()
    record.add("stage.queued", {})
    attempt = record.begin({"command": "x"})
    record.take("stdout", splitter, b"one\ntwo\n")
    record.add("stage.failed", {"exit_code": 1}, attempt)
    again = record.begin({"command": "x"})
    record.add("stage.succeeded", {}, again)
    assert attempt.number is None
    log.open.set()
    _end(record)
    assert [event["kind"] for event in log.events] == [
        *("stage.queued", "stage.started", "exec.output", "exec.output", "stage.failed"),
        *("stage.started", "stage.succeeded"),
    ]
    assert log.events[1]["payload"] == {"command": "x", "stage_attempt": 3}
    assert log.events[4]["payload"] == {"exit_code": 1, "stage_attempt": 3}
    assert attempt.number == 3


def test_an_outage_while_an_attempt_begins_is_waited_out_and_changes_no_order() -> None:
    log = Log()
    log.failures = [BackendUnavailable("away", outcome_unknown=True), BackendUnavailable("away")]
    record = _record(log)
    attempt = record.begin({})
    record.add("stage.succeeded", {}, attempt)
    _end(record)
    assert [event["kind"] for event in log.events] == ["stage.started", "stage.succeeded"]
    assert record.stats().lost == 0


def test_an_attempt_whose_beginning_is_refused_ends_without_a_number() -> None:
    log = Log()
    log.failures = [InvalidInput("stage_name", "no")]
    record = _record(log)
    attempt = record.begin({})
    record.add("stage.succeeded", {"exit_code": 0}, attempt)
    _end(record)
    assert [event["payload"] for event in log.events] == [{"exit_code": 0}]
    assert record.stats().lost == 1

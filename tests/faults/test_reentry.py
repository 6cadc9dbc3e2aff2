"""A signal handler, or a finalizer, calls the log in the middle of a call of the same thread: both are carried out."""

import gc
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

import eventlog
from eventlog import EventLog, create_event_log
from tests.client.worlds import Behind
from tests.support.interrupts import InterruptAt
from tests.support.redis_process import RedisProcess

ROOT = str(Path(eventlog.__file__).parent)


def is_ours(frame: FrameType) -> bool:
    return frame.f_code.co_filename.startswith(ROOT)


@pytest.fixture(scope="module")
def behind(redis_server: RedisProcess) -> Iterator[Behind]:
    server = Behind({"url": redis_server.url, "max_entries": 40})
    yield server
    server.close()


@pytest.fixture(params=["memory", "redis", "http"])
def log(request: pytest.FixtureRequest, redis_server: RedisProcess, behind: Behind) -> Iterator[EventLog]:
    options: dict[str, Any] = {"max_entries": 40}
    if request.param != "memory":
        options = {"url": behind.url} if request.param == "http" else {**options, "url": redis_server.url}
    with create_event_log(request.param, workspace=f"w{uuid.uuid4().hex[:8]}", **options) as opened:
        yield opened


def is_dense(log: EventLog) -> None:
    offsets = [event.offset for event in log.query()]
    assert offsets == list(range(offsets[0], offsets[-1] + 1))
    if log.backend != "http":
        assert log.verify().clean


CALLS: dict[str, Callable[[EventLog], object]] = {
    "append": lambda log: log.append("outer", {"n": 1}, run_id="r"),
    "append_many": lambda log: log.append_many([{"kind": "a", "run_id": "r"}, {"kind": "b", "idempotency_key": "k"}]),
    "query": lambda log: log.query(run_id="r", limit=5),
    "page": lambda log: log.page(since=0, limit=5),
    "runs": lambda log: log.runs(),
}


@pytest.mark.parametrize("call", CALLS)
def test_a_call_that_is_entered_again_at_any_line_is_carried_out_and_so_is_the_one_within(
    log: EventLog, call: str
) -> None:
    def within() -> None:
        event = log.append("inner", run_id="r")
        assert log.query(since=event.offset - 1, limit=1) == [event]
        inner.append(event.offset)

    inner: list[int] = []
    CALLS[call](log)
    # A call through a server takes its time, and its lines are mostly httpx's.
    for line in range(1, 1000, 1 if log.backend != "http" else 23):
        interrupt = InterruptAt(line, is_ours, within)
        interrupt.during(lambda: CALLS[call](log))
        if interrupt.left > 0:
            break
    assert line > 20
    assert len(inner) > 2
    assert inner == sorted(set(inner))
    is_dense(log)


def test_finalizers_that_append_are_carried_out_wherever_the_collector_runs_them(log: EventLog) -> None:
    class Temporary:
        def __init__(self) -> None:
            self.me = self

        def __del__(self) -> None:
            try:
                freed.append(log.append("freed", run_id="r").offset)
            except Exception as error:
                failures.append(error)

    freed: list[int] = []
    failures: list[Exception] = []
    before = gc.get_threshold()
    gc.set_threshold(40, 5, 5)
    try:
        appended = []
        for _ in range(60 if log.backend == "http" else 300):
            Temporary()
            appended.append(log.append("work", {"rows": [{"a": 1}, {"a": 2}]}, run_id="r").offset)
            log.query(limit=10)
    finally:
        gc.set_threshold(*before)
    assert not failures
    assert len(freed) > 5
    offsets = appended + freed
    assert sorted(offsets) == list(range(1, len(offsets) + 1))
    is_dense(log)


def test_ids_of_a_disabled_log_grow_also_where_it_is_entered_again() -> None:
    log = create_event_log("disabled")
    offsets: list[int] = []
    for line in range(1, 200):
        interrupt = InterruptAt(line, is_ours, lambda: offsets.append(log.append("inner").offset))
        interrupt.during(lambda: offsets.append(log.append("outer").offset))
        if interrupt.left > 0:
            break
    assert len(offsets) > 20
    assert sorted(offsets) == list(range(1, len(offsets) + 1))

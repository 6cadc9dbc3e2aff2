"""No thread can be started, as when the interpreter ends: everything that needs one does its work all the same."""

import threading
import uuid

import pytest

from eventlog import EventDispatcher, EventLog, create_event_log, sample_run
from eventlog.log.commit import Bounds
from eventlog.log.commit_threads import ThreadCommitter
from eventlog.model import Body, Event
from eventlog.model.log_values import Append


def none_can_be_had(self: threading.Thread) -> None:
    raise RuntimeError("can't create new thread at interpreter shutdown")


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> EventLog:
    monkeypatch.setattr(threading.Thread, "start", none_can_be_had)
    opened = create_event_log("memory", workspace=f"w{uuid.uuid4().hex[:8]}")
    opened.append("run.started", run_id="r")
    return opened


def test_a_dispatcher_delivers_at_its_shutdown(log: EventLog) -> None:
    dispatcher = EventDispatcher(log)
    for _ in range(3):
        dispatcher.dispatch(event_name="run.finished", operation_id="r")
    assert dispatcher.shutdown()
    assert dispatcher.stats().delivered == 3
    assert len(log.query(kind="run.finished")) == 3


def test_a_dispatcher_of_a_coroutine_function_too(log: EventLog) -> None:
    async def sink(event_name: str, data: object = None, operation_id: str | None = None) -> None:
        delivered.append(event_name)

    delivered: list[str] = []
    dispatcher = EventDispatcher(sink)
    dispatcher.dispatch(event_name="a")
    assert dispatcher.shutdown()
    assert delivered == ["a"]


def test_a_run_is_sampled_once_at_its_end(log: EventLog) -> None:
    with sample_run(log, "r"):
        pass
    assert len(log.telemetry("r").samples) == 1


def test_a_slot_is_granted_and_given_back(log: EventLog) -> None:
    with log.slots().acquire("x", "e1", max_concurrent=1, timeout_s=2):
        pass
    assert not log.slots().stats("x").holders


def test_an_append_that_would_wait_with_others_goes_alone(log: EventLog) -> None:
    committer = ThreadCommitter(
        lambda: lambda appends, number: [[Event(1, 1, body) for body in one.bodies] for one in appends],
        Bounds(callers_alone=0),
        5.0,
    )
    assert isinstance(committer.submit(Append([Body.of("a")])), list)

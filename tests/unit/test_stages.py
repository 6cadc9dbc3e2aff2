"""Stages told of under difficulties: a log that is away, answers that were lost, errors that cannot be shown."""

import asyncio
import functools
import logging
from collections.abc import Iterable
from typing import Any
from unittest.mock import Mock

import pytest

from eventlog import AsyncEventLog, Event, EventLog, create_async_event_log, create_event_log
from eventlog.client import AsyncEventLogClient, EventLogClient
from eventlog.errors import BackendUnavailable, InvalidInput, NotFound
from eventlog.model import Body
from eventlog.model.events import EventInput
from eventlog.model.pages import Page
from eventlog.runs.attempts import LONGEST_TEXT
from eventlog.runs.fold import HIGHEST_ATTEMPT
from eventlog.runs.stages import (
    AttemptClaim,
    astage,
    claim_attempt,
    stage,
    stage_failed,
    stage_queued,
    stage_skipped,
    stage_started,
    stage_succeeded,
)


class Flaky:
    """A log in memory, on which calls fail as told: before they are carried out, or when they answer."""

    def __init__(self) -> None:
        self.log: EventLog = create_event_log("memory")
        self.refuse: set[str] = set()
        self.lose_answers = 0
        self.resend = False
        self.gone: set[str] = set()
        self.sees_nothing = False
        self.asked: list[str] = []

    def append_many(self, events: Iterable[EventInput]) -> list[Event]:
        bodies = list(events)
        kinds = {body.kind if isinstance(body, Body) else body["kind"] for body in bodies}
        self.asked += kinds
        if kinds & self.refuse:
            raise BackendUnavailable("away", outcome_unknown=True)
        appended = self.log.append_many(bodies)
        if self.lose_answers:
            self.lose_answers -= 1
            raise BackendUnavailable("no answer", outcome_unknown=True)
        return self.log.append_many(bodies) if self.resend else appended

    def page(self, **request: Any) -> Page:
        self.asked.append("page")
        return self.log.page(**(request | {"run_id": "nobody"} if self.sees_nothing else request))

    def get(self, event_id: str) -> Event:
        if event_id in self.gone:
            raise NotFound("gone")
        return self.log.get(event_id)

    def story(self) -> list[tuple[str, int | None]]:
        return [(event.kind, event.payload.get("stage_attempt")) for event in self.log.query()]


@pytest.fixture
def log() -> Flaky:
    return Flaky()


def test_where_the_start_cannot_be_told_nothing_runs(log: Flaky) -> None:
    log.refuse = {"stage.started"}
    ran = False
    with pytest.raises(BackendUnavailable), stage(log, "build", run_id="r1"):
        ran = True
    assert not ran
    assert log.story() == []


def test_an_end_that_cannot_be_told_is_noted_on_what_the_block_raised(
    log: Flaky, caplog: pytest.LogCaptureFixture
) -> None:
    log.refuse = {"stage.failed"}
    with pytest.raises(ValueError, match="mine") as raised, stage(log, "build", run_id="r1") as handle:
        raise ValueError("mine")
    assert raised.value.__notes__ == ["the end of attempt 1 at stage build of run r1 is not in the log: away"]
    assert isinstance(handle.unrecorded, BackendUnavailable)
    assert "not in the log: away" in caplog.text


def test_work_that_was_done_does_not_fail_for_want_of_a_log(log: Flaky, caplog: pytest.LogCaptureFixture) -> None:
    log.refuse = {"stage.succeeded"}
    with stage(log, "build", run_id="r1") as handle:
        pass
    assert isinstance(handle.unrecorded, BackendUnavailable)
    assert [record.levelno for record in caplog.records] == [logging.WARNING]


def test_an_end_that_is_in_the_log_is_not_said_to_be_missing(log: Flaky, caplog: pytest.LogCaptureFixture) -> None:
    with stage(log, "build", run_id="r1") as handle:
        pass
    assert handle.unrecorded is None
    assert caplog.records == []


def test_a_closed_log_does_not_hide_what_the_block_raised() -> None:
    log = create_event_log("memory")

    def build() -> None:
        with stage(log, "build", run_id="r1"):
            log.close()
            raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        build()


def test_a_start_whose_answer_was_lost_is_not_started_twice(log: Flaky) -> None:
    block = stage(log, "build", run_id="r1", queued=True)
    log.refuse = {"stage.started"}
    with pytest.raises(BackendUnavailable), block:
        pass
    log.refuse = set()
    log.lose_answers = 1
    with pytest.raises(BackendUnavailable), block:
        pass
    with block as handle:
        assert handle.attempt == 1
    assert log.story() == [("stage.queued", None), ("stage.started", 1), ("stage.succeeded", 1)]


def test_a_client_that_had_to_send_its_start_twice_has_the_attempt(log: Flaky) -> None:
    log.resend = True
    with stage(log, "build", run_id="r1") as handle:
        assert handle.attempt == 1


def test_a_start_of_which_nobody_can_say_whose_it_is_counts_as_anothers(log: Flaky) -> None:
    with stage(log, "build", run_id="r1"):
        pass
    log.gone = {event.id for event in log.log.query(kind="stage.started")}
    log.sees_nothing = True
    assert claim_attempt(log, AttemptClaim("build", "r1", {}, {})) == 2


def test_a_claim_of_ones_own_says_more_and_is_one_attempt_however_often_it_is_asked(log: Flaky) -> None:
    claim = AttemptClaim("build", "r1", {"action": "deploy"}, {"source": "exec"})
    log.lose_answers = 1
    with pytest.raises(BackendUnavailable):
        claim_attempt(log, claim)
    assert claim_attempt(log, claim) == claim_attempt(log, claim) == 1
    (started,) = log.log.query()
    assert (started.kind, started.source, started.payload["action"]) == ("stage.started", "exec", "deploy")


def test_the_first_start_costs_one_look_and_one_append(log: Flaky) -> None:
    with stage(log, "build", run_id="r1"):
        assert log.asked == ["page", "stage.started"]


@pytest.mark.parametrize("name", ["", "a\nb", None, 5, "x" * 257])
def test_what_is_no_stage_is_refused_before_anything_is_asked(log: Flaky, name: Any) -> None:
    with pytest.raises(InvalidInput, match="stage_name"):
        stage(log, name, run_id="r1")
    assert log.asked == []


@pytest.mark.parametrize(
    ("field", "options"),
    [
        ("run_id", {"run_id": "a run"}),
        ("run_id", {"run_id": None}),
        ("lane_id", {"run_id": "r", "lane_id": "a lane"}),
        ("group_id", {"run_id": "r", "group_id": ""}),
        ("source", {"run_id": "r", "source": "\n"}),
        ("depends_on", {"run_id": "r", "depends_on": "build"}),
        ("depends_on", {"run_id": "r", "depends_on": [5]}),
    ],
)
def test_what_is_wrong_is_named(log: Flaky, field: str, options: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput) as refused:
        stage(log, "build", **options)
    assert refused.value.field == field


def test_a_log_of_the_other_colour_is_refused_at_once_and_the_twin_named() -> None:
    async def mixed_up() -> None:
        async with create_async_event_log("memory") as log:
            with pytest.raises(InvalidInput, match=r"^log: is for asyncio: use astage$"):
                stage(log, "build", run_id="r1")  # type: ignore[arg-type]

    asyncio.run(mixed_up())
    with create_event_log("memory") as log, pytest.raises(InvalidInput, match=r"^log: blocks: use stage$"):
        astage(log, "build", run_id="r1")  # type: ignore[arg-type]


@pytest.mark.parametrize("client", [EventLogClient, AsyncEventLogClient])
def test_clients_have_a_colour_too(client: Any) -> None:
    log = client("http://localhost:1")
    own, other = (stage, astage) if client is EventLogClient else (astage, stage)
    own(log, "build", run_id="r1")
    with pytest.raises(InvalidInput, match=r"^log: "):
        other(log, "build", run_id="r1")


def test_a_double_whose_colour_does_not_show_is_believed() -> None:
    for double in (Mock(), object()):
        stage(double, "build", run_id="r1")  # type: ignore[arg-type]
        astage(double, "build", run_id="r1")  # type: ignore[arg-type]

    @functools.wraps(AsyncEventLog.append_many)
    def traced(*given: Any, **named: Any) -> Any:
        raise AssertionError("nothing is asked yet")

    astage(Mock(append_many=traced), "build", run_id="r1")


def test_an_exit_code_is_a_number(log: Flaky) -> None:
    with stage(log, "build", run_id="r1") as handle:
        for code in ("1", 1.5, True, None):
            with pytest.raises(InvalidInput, match="exit_code"):
                handle.set(exit_code=code)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "told",
    [
        [stage_started("build", run_id="r1", stage_attempt=5), stage_failed("build", run_id="r1", stage_attempt=1)],
        [
            stage_started("build", run_id="r1", stage_attempt=5),
            Body.of("stage.started", {}, run_id="r1", stage_name="build"),
        ],
        [stage_failed("build", run_id="r1", stage_attempt=5), stage_failed("build", run_id="r1", stage_attempt=2)],
    ],
    ids=["an end of another attempt", "a start without a number", "ends alone"],
)
def test_the_highest_attempt_counts_whatever_was_told_after_it(log: Flaky, told: list[Body]) -> None:
    log.log.append_many(told)
    with stage(log, "build", run_id="r1") as handle:
        assert handle.attempt == 6


def test_attempts_have_an_end(log: Flaky) -> None:
    log.log.append_many([stage_started("build", run_id="r1", stage_attempt=HIGHEST_ATTEMPT - 1)])
    with stage(log, "build", run_id="r1") as handle:
        assert handle.attempt == HIGHEST_ATTEMPT
    with pytest.raises(InvalidInput, match="more than"), stage(log, "build", run_id="r1"):
        pass


class Unspeakable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no")


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (ValueError(), "ValueError"),
        (ValueError("a\nb"), "ValueError: a\nb"),
        (ValueError("file \udcff"), "ValueError: file ?"),
        (Unspeakable(), "Unspeakable: (its message cannot be shown)"),
        (ValueError("x" * 10_000), ("ValueError: " + "x" * 10_000)[:LONGEST_TEXT]),
        (SystemExit("no such file"), "SystemExit: no such file"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_any_error_can_be_told(log: Flaky, error: BaseException, told: str) -> None:
    with pytest.raises(type(error)), stage(log, "build", run_id="r1") as handle:
        raise error
    assert handle.unrecorded is None
    assert log.log.query(kind="stage.failed")[0].payload["error"] == told


def test_any_reason_can_be_told(log: Flaky) -> None:
    with stage(log, "build", run_id="r1") as handle:
        handle.fail("\udcff" * 1000)
    assert log.log.query(kind="stage.failed")[0].payload["reason"] == "?" * LONGEST_TEXT


def test_what_a_block_raises_counts_more_than_what_it_said_before(log: Flaky) -> None:
    def build() -> None:
        with stage(log, "build", run_id="r1") as handle:
            handle.skip("nothing to do")
            raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        build()
    (failed,) = log.log.query(kind="stage.failed")
    assert (failed.payload["error"], failed.payload["reason"]) == ("ValueError: mine", "nothing to do")


def test_a_duration_is_measured_by_a_clock_that_nobody_sets(log: Flaky, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr("eventlog.runs.attempts.time.monotonic", lambda: now)
    with stage(log, "build", run_id="r1"):
        now = 1002.5
    assert log.log.query(kind="stage.succeeded")[0].payload["duration_ms"] == 2500


async def _cancelled() -> tuple[bool, Event]:
    async with create_async_event_log("memory") as log:
        runs = asyncio.Event()

        async def work() -> None:
            async with astage(log, "build", run_id="r1"):
                runs.set()
                await asyncio.Event().wait()

        task = asyncio.create_task(work())
        await runs.wait()
        task.cancel()
        await asyncio.wait([task])
        return task.cancelled(), (await log.query(kind="stage.failed"))[0]


def test_a_cancelled_task_tells_of_its_stage_and_stays_cancelled() -> None:
    cancelled, failed = asyncio.run(_cancelled())
    assert cancelled
    assert failed.payload["reason"] == "cancelled"


async def _timed_out() -> Event:
    async with create_async_event_log("memory") as log:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01), astage(log, "build", run_id="r1"):
                await asyncio.Event().wait()
        return (await log.query(kind="stage.failed"))[0]


def test_a_stage_over_its_time_is_told_and_the_time_out_goes_on() -> None:
    assert asyncio.run(_timed_out()).payload["error"] == "CancelledError"


def test_events_built_by_hand_say_what_is_known_and_no_more() -> None:
    queued = stage_queued("build", run_id="r1", depends_on=("a", "b"), reason="waits", lane_id="l")
    assert (queued.kind, queued.run_id, queued.lane_id, queued.group_id) == ("stage.queued", "r1", "l", "g0")
    assert queued.payload_json == b'{"depends_on":["a","b"],"reason":"waits"}'
    assert stage_started("build", run_id="r1").payload_json == b'{"stage_attempt":1}'
    succeeded = stage_succeeded("build", run_id="r1", stage_attempt=2, duration_ms=0, exit_code=0)
    assert succeeded.payload_json == b'{"stage_attempt":2,"duration_ms":0,"exit_code":0}'
    failed = stage_failed("build", run_id="r1", error="e", group_id="g1", idempotency_key="k")
    assert (failed.payload_json, failed.group_id) == (b'{"stage_attempt":1,"error":"e"}', "g1")
    assert failed.idempotency_key == "k"
    assert stage_skipped("build", run_id="r1").payload_json == b"{}"

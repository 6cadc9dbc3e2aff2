"""When a server is asked again, without any server: the plans, and who carries them out by hand."""

import os
import signal
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import orjson
import pytest

from eventlog import EventLog, EventLogError
from eventlog.client import AsyncEventLogClient, AsyncRemoteSlots, EventLogClient, RemoteSlots
from eventlog.client.asking import Asker, Effect, Exchange
from eventlog.client.log_operations import LogCalls
from eventlog.client.wire import Request
from eventlog.errors import BackendUnavailable, InvalidInput, LogClosed, NotFound
from eventlog.log.runs import whole_replay
from eventlog.model.filters import EventFilter
from eventlog.model.tracking import tracked
from eventlog.plan.drive import run
from tests.client.worlds import Behind

GET = Request("GET", "/log", [])
CLEAR = Request("DELETE", "/events", [], repeatable=False)


class Script:
    """Answers with what it was given, one after another: bytes, or an error to raise."""

    def __init__(self, *answers: bytes | Exception) -> None:
        self.answers = list(answers)
        self.asked: list[Exchange] = []

    def __call__(self, effect: Effect) -> Any:
        assert isinstance(effect, Exchange)
        self.asked.append(effect)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


def _away(*, unknown: bool) -> BackendUnavailable:
    return BackendUnavailable("no answer", outcome_unknown=unknown)


def _ask(script: Script, request: Request = GET, deadline_s: float = 5.0, **options: Any) -> Any:
    return run(Asker("http://h", deadline_s).ask(request, lambda answer: answer, **options), script)


def test_it_asks_until_it_is_answered_and_tells_of_repetitions_that_may_be_second_ones() -> None:
    told: list[str] = []
    script = Script(_away(unknown=False), _away(unknown=True), b"[1]")
    assert _ask(script, on_repeat=lambda: told.append("again")) == [1]
    assert len(script.asked) == 3
    assert told == ["again"]


def test_what_may_not_be_repeated_is_repeated_only_where_it_was_certainly_not_carried_out() -> None:
    assert _ask(Script(_away(unknown=False), b"1"), CLEAR) == 1
    script = Script(_away(unknown=True), b"1")
    with pytest.raises(BackendUnavailable):
        _ask(script, CLEAR)
    assert len(script.asked) == 1


def test_a_doubt_is_not_forgotten_by_a_later_try_that_never_left() -> None:
    with pytest.raises(BackendUnavailable) as told:
        _ask(Script(_away(unknown=True), *[_away(unknown=False)] * 9), deadline_s=0.2)
    assert told.value.outcome_unknown
    with pytest.raises(BackendUnavailable) as told:
        _ask(Script(_away(unknown=True), LogClosed("closed")))
    assert told.value.outcome_unknown
    with pytest.raises(LogClosed):
        _ask(Script(_away(unknown=False), LogClosed("closed")))


def test_samples_are_older_at_each_try_and_keep_their_key() -> None:
    answer = b'{"samples": [{"seq": 1, "timestamp": 1.5, "guest": {}, "duplicate": true}], "duplicate": true}'
    script = Script(_away(unknown=True), _away(unknown=False), _away(unknown=True), answer)
    calls = LogCalls("http://h", 5.0)
    samples = [{"guest": {}, "age_ms": 1000}, {"guest": {}, "age_ms": 24 * 3600 * 1000}]
    (pushed,) = run(calls.push_telemetry("r", samples), script)
    assert not pushed.duplicate, "nobody but the client repeated it"
    bodies = [orjson.loads(asked.request.content or b"") for asked in script.asked]
    ages_ms = [[sample.get("age_ms") for sample in body["samples"]] for body in bodies]
    # It pauses for 50, 100 and 200 ms.
    for (young, oldest), at_least_ms in zip(ages_ms, (1000, 1045, 1145, 1345), strict=True):
        assert at_least_ms <= young <= at_least_ms + 20_000
        assert oldest == 24 * 3600 * 1000
    assert len({str(asked.request.headers) for asked in script.asked}) == 1
    assert run(calls.push_telemetry("r", samples, idempotency_key="k"), Script(answer))[0].duplicate


def test_other_errors_end_it_at_once() -> None:
    script = Script(InvalidInput("kind", "no"), b"1")
    with pytest.raises(InvalidInput):
        _ask(script)
    assert len(script.asked) == 1
    with pytest.raises(EventLogError, match="did not answer as an eventlog server does"):
        _ask(Script(b"<html>"))


def test_who_lets_the_server_wait_waits_as_much_longer() -> None:
    script = Script(b"1")
    _ask(script, wait_s=20.0)
    assert script.asked[0].waits
    assert 24.0 < script.asked[0].timeout_s <= 25.0


@pytest.mark.parametrize("kind", [EventLogClient, AsyncEventLogClient, RemoteSlots, AsyncRemoteSlots])
def test_what_is_wrong_with_a_place_is_said_at_once(kind: Callable[..., Any]) -> None:
    for url, options, field in (
        (5, {}, "url"),
        (None, {}, "url"),
        ("redis://h", {}, "url"),
        ("http://h", {"workspace": "a/b"}, "workspace"),
        ("http://h", {"deadline_s": 0}, "deadline_s"),
        ("http://h", {"deadline_s": float("nan")}, "deadline_s"),
        ("http://h", {"deadline_s": True}, "deadline_s"),
    ):
        with pytest.raises(InvalidInput) as told:
            kind(url, **options)
        assert told.value.field == field


def test_a_proxy_of_the_environment_is_for_the_world_outside_alone(
    shared: Behind, workspace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as proxy:
        proxy.bind(("127.0.0.1", 0))
        proxy.listen()
        proxy.settimeout(20)
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.getsockname()[1]}")
        with EventLogClient(shared.url, workspace=workspace) as near:
            assert near.query() == []
        with (
            EventLogClient("http://eventlog.invalid", workspace="w", deadline_s=0.3) as far,
            ThreadPoolExecutor(1) as pool,
        ):
            asking = pool.submit(far.info)
            with proxy.accept()[0] as asked:
                assert asked.recv(4096).startswith(b"GET http://eventlog.invalid/v1/workspaces/w/log ")
            with pytest.raises(BackendUnavailable):
                asking.result(20)


def _replayed(*seqs: int, at_end: bool, gap: dict[str, Any] | None = None) -> bytes:
    events = [{"id": f"1-{n}", "kind": "a", "payload": {}, "run_id": "r", "lane_id": "main", "seq": n} for n in seqs]
    cursor = f"1-{seqs[-1]}"
    page = {"run_id": "r", "events": events, "cursor": cursor, "at_end": at_end, "missed": {}, "gap": gap}
    return orjson.dumps(page)


def test_a_replay_tells_by_a_warning_what_was_evicted_between_its_pages(caplog: pytest.LogCaptureFixture) -> None:
    gap = {"missed": 3, "from_offset": 3, "to_offset": 5, "reason": "trimmed"}
    script = Script(_replayed(1, 2, at_end=False), _replayed(6, at_end=True, gap=gap))
    found = run(LogCalls("http://h", 5.0).replay_all(whole_replay("r", None, EventFilter.of())), script)
    assert [event.seq for event in found] == [1, 2, 6]
    assert [record.getMessage() for record in caplog.records] == ["events missed: 3 (3 to 5, trimmed)"]


def test_a_run_that_is_gone_by_its_second_page_leaves_what_was_read(caplog: pytest.LogCaptureFixture) -> None:
    asked = whole_replay("r", None, EventFilter.of())
    found = run(LogCalls("http://h", 5.0).replay_all(asked), Script(_replayed(1, 2, at_end=False), NotFound("gone")))
    assert [event.seq for event in found] == [1, 2]
    assert [record.getMessage() for record in caplog.records] == ["events missed: run r is gone from 1-2 on"]
    with pytest.raises(NotFound):
        run(LogCalls("http://h", 5.0).replay_all(asked), Script(NotFound("gone")))


def test_an_operation_is_the_run_of_its_events_where_it_can_be_one() -> None:
    assert (tracked("a.b", {"n": 1}, "op-1").run_id, tracked("a.b", {"n": 1}, "op-1").payload_json) == (
        "op-1",
        b'{"n":1}',
    )
    assert tracked("a.b", None, None).run_id is None
    assert tracked("a.b", None, 17).run_id == "17"
    odd = tracked("a.b", {"n": 1}, "order 66/ü")
    assert (odd.run_id, odd.payload_json) == (None, '{"operation_id":"order 66/ü","n":1}'.encode())
    own = tracked("a.b", {"operation_id": "mine"}, "order 66/ü")
    assert own.payload_json == b'{"operation_id":"mine"}'
    with pytest.raises(InvalidInput, match=r"^kind: "):
        tracked("no good", None, None)


@pytest.mark.parametrize("operation_id", ["op-1", "order 66", None])
@pytest.mark.parametrize("data", [5, 0, [], "text", [("a", 1)]])
def test_the_data_of_an_operation_is_an_object(data: Any, operation_id: str | None) -> None:
    with pytest.raises(InvalidInput, match=r"^data: must be an object"):
        tracked("a.b", data, operation_id)


@pytest.mark.parametrize("name", [".", "..", "...", "..a"])
def test_a_name_of_dots_is_a_name(shared: Behind, name: str) -> None:
    with EventLogClient(shared.url, workspace=name) as log:
        event = log.append("a", run_id=name)
        assert (log.get(event.id).kind, log.info().workspace, log.run(name).run_id) == ("a", name, name)
    with RemoteSlots(shared.url, workspace=name) as slots, slots.acquire(name, max_concurrent=1, execution_id=name):
        assert slots.state(name, name).state == "granted"


def test_a_forked_child_has_connections_of_its_own(shared: Behind, workspace: str) -> None:
    with shared.direct(workspace) as direct, EventLogClient(shared.url, workspace=workspace) as client:
        slot = client.slots().acquire("build", "e1", max_concurrent=1)
        client.append("parent")
        child = os.fork()
        if not child:
            os._exit(_child(client))
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        client.append("parent")
        assert slot.release() is True
        assert _kinds(direct) == ["parent", "child", "parent"]


def _child(client: EventLogClient) -> int:
    signal.alarm(20)
    try:
        client.append("child")
        client.close()
    except BaseException:
        return 1
    return 0


def _kinds(log: EventLog) -> list[str]:
    return [event.kind for event in log.query() if not event.kind.startswith("slot.")]

"""What travels between client and server, without either: problems become the library's errors again."""

import json
from typing import Any

import pytest

from eventlog import EventLogError
from eventlog.client import EventLogClient, wire
from eventlog.errors import BackendUnavailable, Conflict, InvalidInput, NotFound, PayloadTooLarge
from eventlog.model.events import Body
from eventlog.model.filters import EventFilter


def _problem(status: int, **document: Any) -> EventLogError:
    return wire.problem(status, json.dumps({"detail": "oh", **document}).encode(), "7")


def test_every_problem_code_is_an_error_of_the_library() -> None:
    invalid = _problem(400, code="INVALID_PARAMS", field="kind", index=3, detail="events[3].kind: is required")
    assert type(invalid) is InvalidInput
    assert (invalid.field, invalid.index, invalid.problem) == ("kind", 3, "is required")
    assert str(invalid) == "events[3].kind: is required"
    large = _problem(413, code="PAYLOAD_TOO_LARGE", field="payload", detail="payload: too much")
    assert type(large) is PayloadTooLarge
    assert (large.field, large.index, large.problem) == ("payload", None, "too much")
    conflict = _problem(409, code="CONFLICT", expected_offset=3, last_offset=9)
    assert isinstance(conflict, Conflict)
    assert (conflict.expected_offset, conflict.last_offset) == (3, 9)
    assert isinstance(_problem(404, code="NOT_FOUND"), NotFound)
    away = _problem(503, code="BACKEND_UNAVAILABLE", outcome_unknown=True)
    assert isinstance(away, BackendUnavailable)
    assert (away.outcome_unknown, away.retry_after_s) == (True, 7.0)
    other = _problem(415, code="UNSUPPORTED_MEDIA_TYPE")
    assert (type(other), str(other)) == (EventLogError, "UNSUPPORTED_MEDIA_TYPE: oh")


@pytest.mark.parametrize("content", [b"", b"<html>", b"[]", b'{"detail": "x"}'])
def test_answers_of_something_else_are_errors_too(content: bytes) -> None:
    assert isinstance(wire.problem(502, content, None), BackendUnavailable)
    strange = wire.problem(418, content, None)
    assert type(strange) is EventLogError
    assert "HTTP 418" in str(strange)


def test_an_append_always_travels_under_a_key() -> None:
    one = wire.append_request([Body.of("a")], None, None, single=True)
    assert json.loads(one.content or b"")["idempotency_key"].startswith("client-")
    batch = wire.append_request([Body.of("a"), Body.of("b")], 7, None, single=False)
    assert batch.headers is not None
    assert batch.headers["Idempotency-Key"].startswith("client-")
    assert batch.params == [("expected_offset", 7)]
    mixed = wire.append_request([Body.of("a", idempotency_key="mine"), Body.of("b")], None, None, single=False)
    keys = [event["idempotency_key"] for event in json.loads(mixed.content or b"")]
    assert keys[0] == "mine"
    assert keys[1].startswith("client-")
    assert mixed.headers is not None
    assert "Idempotency-Key" not in mixed.headers


def test_a_repetition_that_only_a_retry_made_is_no_duplicate() -> None:
    answer = {"id": "5-1", "kind": "a", "payload": {}, "duplicate": True}
    assert wire.read_appended(answer, [Body.of("a")])[0].duplicate is False
    assert wire.read_appended(answer, [Body.of("a", idempotency_key="mine")])[0].duplicate is True


def test_a_stream_keeps_its_filter() -> None:
    wanted = EventFilter.of(kind=["tool.*", "a"], run_id="r", visibility="internal")
    assert wire.stream_params("5-1", wanted, True) == [
        ("since", "5-1"),
        ("kind", "tool.*"),
        ("kind", "a"),
        ("run_id", "r"),
        ("visibility", "internal"),
        ("until_terminal", "true"),
    ]


def test_control_lines_are_told_from_events() -> None:
    assert wire.read_line(b"") is None
    gap = wire.read_line(
        b'{"control":"gap","missed":2,"from_offset":1,"to_offset":2,"reason":"trimmed","cursor":"5-2"}'
    )
    assert isinstance(gap, wire.Control)
    assert gap == ("gap", "5-2", None, (2, 1, 2, "trimmed"), "")
    assert wire.read_line(b'{"control":"caught_up","cursor":"5-3"}') == wire.Control("caught_up", "5-3", None, None)


@pytest.mark.parametrize("url", ["redis://x", "http://", "x", "http:///path", "http://[", "http://x:y"])
def test_only_the_url_of_a_server_is_taken(url: str) -> None:
    with pytest.raises(InvalidInput, match=r"^url: "):
        EventLogClient(url)


def test_a_workspace_name_is_checked_before_it_becomes_a_path() -> None:
    with pytest.raises(InvalidInput, match=r"^workspace: "):
        EventLogClient("http://127.0.0.1:1", workspace="../x")

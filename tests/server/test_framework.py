"""What only shows inside the process: the framework's own way to an append, and failures that nobody foresaw."""

import asyncio
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from eventlog_server import ServerSettings, create_app
from eventlog_server.logs import Logs
from fastapi import FastAPI

from eventlog.config import EventLogConfig
from tests.server.api import assert_problem

BASE = "/v1/workspaces/w"


def in_memory_app() -> FastAPI:
    return create_app(ServerSettings(log=EventLogConfig(backend="memory")))


def ask(app: FastAPI, *requests: tuple[str, str, dict[str, Any]], prefix: str = "") -> list[httpx.Response]:
    """Send the requests one after another to the app itself, mounted at `prefix`, without a socket."""

    async def all_of_them() -> list[httpx.Response]:
        transport = httpx.ASGITransport(app, raise_app_exceptions=False, root_path=prefix)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return [await client.request(method, path, **more) for method, path, more in requests]

    return asyncio.run(all_of_them())


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        ({"json": {"kind": "a", "payload": {"n": 1}}}, 201),
        ({"json": [{"kind": "a"}, {"kind": "b"}]}, 201),
        ({"json": [{"kind": "a"}, {"kind": ""}]}, 400),
        ({"content": b"", "headers": {"Content-Type": "text/plain"}}, 415),
        ({"json": {"kind": "a"}, "params": {"expected_offset": 7}}, 409),
    ],
)
def test_an_append_means_the_same_on_the_fast_path_and_on_the_frameworks(request_: dict[str, Any], status: int) -> None:
    """Where the app is mounted below a prefix, appends come by the framework's route."""
    answers = [
        ask(in_memory_app(), ("POST", prefix + BASE + "/events", request_), prefix=prefix)[0]
        for prefix in ("", "/logs")
    ]
    documents = [answer.json() for answer in answers]
    for document in documents:
        for event in document.get("events", [document]):
            event.pop("id", None)
            event.pop("timestamp", None)
    assert [answer.status_code for answer in answers] == [status, status]
    assert documents[0] == documents[1]
    assert answers[0].headers["content-type"] == answers[1].headers["content-type"]


def broken(*_: object, **__: object) -> Any:
    raise RuntimeError("Traceback redis://secret:6379")


@pytest.mark.parametrize(
    ("method", "path", "more"),
    [("POST", BASE + "/events", {"json": {"kind": "a"}}), ("GET", BASE + "/events", {}), ("GET", BASE + "/log", {})],
)
def test_what_nobody_foresaw_is_a_problem_without_a_trace(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, method: str, path: str, more: dict[str, Any]
) -> None:
    monkeypatch.setattr(Logs, "of", broken)
    answer = ask(in_memory_app(), (method, path, more))[0]
    assert_problem(answer, 500, "INTERNAL")
    assert "secret" not in answer.text
    assert "secret" in caplog.text, "the operator is told"


def test_memory_keeps_no_more_workspaces_than_it_may_and_drops_none() -> None:
    app = create_app(ServerSettings(workspaces_max=2, log=EventLogConfig(backend="memory")))
    post: Callable[[str], tuple[str, str, dict[str, Any]]] = lambda name: (  # noqa: E731
        "POST",
        f"/v1/workspaces/{name}/events",
        {"json": {"kind": "a"}},
    )
    answers = ask(app, post("a"), post("b"), post("c"), post("a"))
    assert [answer.status_code for answer in answers] == [201, 201, 503, 201]
    assert answers[3].json()["offset"] == 2

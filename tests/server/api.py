"""What tests of the server share: the routes of a workspace, and a reader of Server-Sent Events."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx

JSON = "application/json"
NDJSON = "application/x-ndjson"
PROBLEM = "application/problem+json"


class Api:
    """The routes of one workspace."""

    def __init__(self, client: httpx.Client, workspace: str) -> None:
        self.client = client
        self.workspace = workspace
        self.base = f"/v1/workspaces/{workspace}"

    def post(self, content: Any, content_type: str | None = JSON, query: str = "", **headers: str) -> httpx.Response:
        """Append: bytes or text as they are, anything else as JSON. `Idempotency_Key=…` is a header."""
        raw = content if isinstance(content, bytes | str) else json.dumps(content)
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        if content_type is not None:
            named["Content-Type"] = content_type
        return self.client.post(f"{self.base}/events{query}", content=raw, headers=named)

    def get(self, path: str, **headers: str) -> httpx.Response:
        """Read a path below the workspace."""
        return self.client.get(self.base + path, headers={k.replace("_", "-"): v for k, v in headers.items()})

    def fill(self, count: int, **parts: Any) -> list[dict[str, Any]]:
        """Append `count` events in one batch."""
        answer = self.post([{"kind": "made.up", "payload": {"n": n}, **parts} for n in range(1, count + 1)])
        assert answer.status_code == 201, answer.text
        events: list[dict[str, Any]] = answer.json()["events"]
        return events

    def last_offset(self) -> int:
        """Where the log ends."""
        return int(self.get("/log").json()["last_offset"])

    def offsets(self, query: str = "?since=0") -> list[int]:
        """The offsets of one page."""
        return [event["offset"] for event in self.get("/events" + query).json()["events"]]


def assert_problem(answer: httpx.Response, status: int, code: str, field: str | None = None) -> dict[str, Any]:
    """The answer is this problem, complete, and leaks nothing; returns its document."""
    assert answer.headers["content-type"] == PROBLEM, answer.text
    document: dict[str, Any] = answer.json()
    found = (answer.status_code, document["status"], document["code"], document.get("field"))
    assert found == (status, status, code, field), document
    assert document["title"]
    assert document["detail"]
    assert document["type"] == "about:blank"
    for secret in ("Traceback", "unix:", "redis://", "/s ", "127.0.0.1"):
        assert secret not in answer.text
    return document


@dataclass(frozen=True)
class Message:
    """One SSE message, or a comment (`event` is then ":")."""

    event: str
    id: str | None
    data: Any


def messages(chunks: Iterator[bytes]) -> Iterator[Message]:
    """Parse a stream as a browser does, comments included."""
    buffer = b""
    for chunk in chunks:
        buffer += chunk
        while (end := buffer.find(b"\n\n")) >= 0:
            block, buffer = buffer[:end], buffer[end + 2 :]
            yield _message(block.decode("ascii"))


def _message(block: str) -> Message:
    fields: dict[str, str] = {}
    for line in block.split("\n"):
        if line.startswith(":"):
            return Message(":", None, line[1:].strip())
        name, _, value = line.partition(": ")
        assert name in ("id", "event", "data"), line
        assert name not in fields, block
        fields[name] = value
    return Message(fields.get("event", "message"), fields.get("id"), json.loads(fields["data"]))


@contextmanager
def following(api: Api, query: str = "", **headers: str) -> Iterator[Iterator[Message]]:
    """Open the workspace's stream; yields its messages. A silence of 20 s fails."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    with api.client.stream("GET", f"{api.base}/events/stream{query}", headers=named) as answer:
        assert answer.status_code == 200, answer.read()
        yield messages(answer.iter_raw())


def take(stream: Iterator[Message], count: int, event: str = "message") -> list[Message]:
    """The next `count` messages of one kind; others are passed over."""
    found: list[Message] = []
    while len(found) < count:
        message = next(stream)
        if message.event == event:
            found.append(message)
    return found

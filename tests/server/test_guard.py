"""The content guard over HTTP: 422 that names the field, whatever way an event comes in."""

import json

import httpx
import pytest

from eventlog.client.wire import problem
from eventlog.errors import RejectedContent
from tests.server.api import NDJSON, Api, assert_problem
from tests.server.conftest import Serve
from tests.support.redis_process import RedisProcess

HIDDEN = {"steps": [{}, {"chainOfThought": "hush"}]}
PATH = "steps[1].chainOfThought"
CLOUDEVENT = {"specversion": "1.0", "id": "1", "source": "/s", "type": "t"}
STRUCTURED, BATCH = "application/cloudevents+json", "application/cloudevents-batch+json"


def assert_rejected(answer: httpx.Response, field: str, index: int | None = None) -> None:
    document = assert_problem(answer, 422, "REJECTED_CONTENT", field)
    assert document.get("index") == index
    assert field in document["detail"]
    assert "reasoning.summary" in document["detail"]
    assert "hush" not in answer.text


def test_an_event_with_hidden_chain_of_thought_is_422(api: Api) -> None:
    assert_rejected(api.post({"kind": "a", "payload": HIDDEN}), f"payload.{PATH}")
    assert_rejected(api.post({"kind": "a", "payload": HIDDEN}, query="?expected_offset=0"), f"payload.{PATH}")
    assert api.last_offset() == 0


def test_visible_reasoning_is_taken(api: Api) -> None:
    payload = {"reasoning": {"summary": "visible"}, "reasoning_summary": "visible", "cot": 1.2, "text": "cot: x"}
    answer = api.post({"kind": "a", "payload": payload})
    assert (answer.status_code, answer.json()["payload"]) == (201, payload)


def test_a_batch_is_refused_as_a_whole_with_the_index(api: Api) -> None:
    assert_rejected(api.post([{"kind": "a"}, {"kind": "b", "payload": HIDDEN}]), f"payload.{PATH}", 1)
    assert api.last_offset() == 0


def test_of_lines_only_the_one_is_refused(api: Api) -> None:
    lines = [{"kind": "a"}, {"kind": "b", "payload": HIDDEN}, {"kind": "c"}]
    answer = api.post("\n".join(map(json.dumps, lines)), NDJSON)
    first, second, third = (json.loads(line) for line in answer.text.split("\n")[:-1])
    assert [first["offset"], third["offset"]] == [1, 2]
    assert (second["line"], second["error"]["status"], second["error"]["code"]) == (2, 422, "REJECTED_CONTENT")
    assert second["error"]["field"] == f"payload.{PATH}"


def test_a_cloudevent_is_refused_by_its_own_names(api: Api) -> None:
    hidden = {**CLOUDEVENT, "data": HIDDEN}
    assert_rejected(api.post(hidden, STRUCTURED), f"data.{PATH}")
    assert_rejected(api.post([CLOUDEVENT, hidden], BATCH), f"data.{PATH}", 1)
    headers = {f"ce-{name}": value for name, value in CLOUDEVENT.items()}
    assert_rejected(api.post(HIDDEN, **headers), f"data.{PATH}")
    assert api.last_offset() == 0


def test_a_refused_event_does_not_use_up_its_key(api: Api) -> None:
    assert_rejected(api.post({"kind": "a", "payload": HIDDEN}, Idempotency_Key="k"), f"payload.{PATH}")
    assert api.post({"kind": "a"}, Idempotency_Key="k").status_code == 201


@pytest.mark.parametrize("index", [None, 1])
def test_the_client_raises_what_the_library_raises(api: Api, index: int | None) -> None:
    event = {"kind": "a", "payload": HIDDEN}
    answer = api.post(event if index is None else [{"kind": "b"}, event])
    error = problem(answer.status_code, answer.content, None)
    assert isinstance(error, RejectedContent)
    assert (error.field, error.index) == (f"payload.{PATH}", index)
    assert str(error) == answer.json()["detail"]


def test_the_names_are_a_setting_of_the_server_and_secrets_are_redacted_if_asked_for(
    redis_server: RedisProcess, serve: Serve, workspace: str
) -> None:
    settings = {"refused_fields": ("diary",), "redact": True, "payload_max_bytes": 100}
    with serve(redis_server.url, log=settings) as url, httpx.Client(base_url=url) as client:
        api = Api(client, workspace)
        assert_rejected(api.post({"kind": "a", "payload": {"Diary": "hush"}}), "payload.Diary")
        payload = {**HIDDEN, "api_key": "hunter2"}
        clean = {**HIDDEN, "api_key": "[redacted]"}
        assert api.post({"kind": "a", "payload": payload}).json()["payload"] == clean
        line = api.post(json.dumps({"kind": "a", "payload": payload}), NDJSON).json()
        assert line["payload"] == clean
        assert "hunter2" not in api.get("/events?since=0").text

        longer = json.dumps({"kind": "a", "payload": {"pad": "x" * 75, "secret": "x"}})
        assert_problem(api.post(longer), 413, "PAYLOAD_TOO_LARGE", "payload")
        refused, taken = (json.loads(line) for line in api.post(longer + '\n{"kind":"b"}', NDJSON).iter_lines())
        assert (refused["error"]["code"], taken["offset"]) == ("PAYLOAD_TOO_LARGE", 3)

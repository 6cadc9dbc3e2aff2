"""Texts are taken by value: a member of `class Kind(str, Enum)` stands for its value, as its equal does."""

import json
from collections.abc import Callable
from enum import Enum, StrEnum
from typing import Any

import pytest

from eventlog import create_event_log
from eventlog.runs import stage
from tests.contract.colours import Colour


class Words(str, Enum):  # noqa: UP042  (what people still write; its members are formatted by their names)
    KIND = "tool.invoked"
    STARTED = "stage.started"
    NAME = "r1"
    LEVEL = "internal"
    PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class Strict(StrEnum):
    KIND = "tool.invoked"
    STARTED = "stage.started"
    NAME = "r1"
    LEVEL = "internal"
    PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class Own(str):
    """A subclass that shows itself in its own way."""

    def __str__(self) -> str:
        return "own"

    __repr__ = __format__ = lambda *_: "own"


KINDS: list[Callable[[str], str]] = [
    lambda word: Words[word],
    lambda word: Strict[word],
    lambda word: Own(Words[word].value),
]


@pytest.mark.parametrize("word", KINDS, ids=["str, Enum", "StrEnum", "str subclass"])
def test_a_text_is_taken_by_value(log: Colour, word: Callable[[str], str]) -> None:
    name, kind = word("NAME"), word("KIND")
    parts = {
        **dict.fromkeys(("run_id", "lane_id", "stage_name", "group_id", "source", "idempotency_key"), name),
        "visibility": word("LEVEL"),
        "traceparent": word("PARENT"),
    }
    wanted = {field: str.__str__(value) for field, value in parts.items() if field != "idempotency_key"}
    # First as another producer writes it, then by members that were not seen before.
    log.append("tool.invoked", run_id="r1", lane_id="r1")
    payload: Any = {name: kind, "nested": [{name: name}]}
    log.append(kind, payload, **parts)
    log.append_many([{"kind": kind, "payload": payload, **parts, "idempotency_key": word("PARENT")}])
    assert log.append(kind, payload, **parts).duplicate
    for event in (*log.query(run_id=name, lane_id=name, stage_name=name, kind=kind), log.get(log.page(limit=9).cursor)):
        wire = json.loads(event.to_json())
        assert {field: wire[field] for field in wanted} == wanted
        assert (wire["kind"], wire["payload"]) == ("tool.invoked", {"r1": "tool.invoked", "nested": [{"r1": "r1"}]})
        assert all(type(getattr(event, field)) is str for field in (*wanted, "kind"))
    assert log.run(name).run_id == "r1"
    assert len(log.replay(name, lane_id=name)) == 3
    assert log.page(epoch=Own(log.info().epoch)).gap is None
    assert log.track_event(kind, {"n": 1}, name).run_id == "r1"
    pushed = {"stage_name": name, "source": name, "host": {"rss_bytes": 1}}
    log.push_telemetry(name, [pushed], idempotency_key=name)
    assert [one.to_dict()["stage_name"] for one in log.telemetry(name, stage_name=name).samples] == ["r1"]


def test_a_stage_is_named_by_value() -> None:
    for word in KINDS:
        with create_event_log("memory", workspace=word("NAME")) as log:
            assert f"{log.workspace}" == "r1"
            with stage(log, word("NAME"), run_id=word("NAME"), group_id=word("NAME")) as handle:
                assert (f"{handle.name}", f"{handle.run_id}") == ("r1", "r1")
            with stage(log, "r1", run_id="r1", group_id="r1") as handle:
                assert handle.attempt == 2
            assert [f"{view.stage_name}" for view in log.stages(word("NAME"))] == ["r1"]

"""The event: its wire form, its bounds, what it takes for a payload."""

import datetime as dt
import json
from dataclasses import dataclass
from enum import Enum, StrEnum
from types import MappingProxyType
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventlog import Event, create_event_log
from eventlog.errors import InvalidInput, PayloadTooLarge
from eventlog.model import Body
from eventlog.model.events import FIELDS, TERMINAL_KINDS, VISIBILITIES, EventParts, ascii_json
from eventlog.model.ids import MAX_COUNTER
from eventlog.model.payloads import encode_payload

TEXT = st.text(st.characters(exclude_categories=["Cs"]))
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=15,
)
PAYLOADS = st.dictionaries(TEXT, JSON, max_size=5)
NAMES = st.from_regex(r"[A-Za-z0-9_.:-]{1,128}", fullmatch=True)
LABELS = st.text(
    st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\u2028\u2029"), min_size=1, max_size=50
)


@st.composite
def events(draw: st.DrawFn) -> Event:
    run_id = draw(st.none() | NAMES)
    body = Body.of(
        draw(st.from_regex(r"[A-Za-z0-9_.:/-]{1,128}", fullmatch=True)),
        draw(PAYLOADS),
        run_id=run_id,
        lane_id=draw(st.none() | NAMES) if run_id else None,
        stage_name=draw(st.none() | LABELS),
        group_id=draw(st.none() | LABELS),
        visibility=draw(st.sampled_from(VISIBILITIES)),
        source=draw(st.none() | LABELS),
        traceparent=draw(st.none() | st.just("00-" + "a" * 32 + "-" + "b" * 16 + "-01")),
    )
    seq = draw(st.integers(1, MAX_COUNTER)) if run_id else None
    return Event(draw(st.integers(0, MAX_COUNTER)), draw(st.integers(1, MAX_COUNTER)), body, seq, draw(st.booleans()))


@given(events())
def test_the_wire_form_survives_a_round_trip(event: Event) -> None:
    read = Event.from_dict(event.to_dict())
    assert read == event
    assert hash(read) == hash(event)
    assert read.to_dict() == event.to_dict()
    assert read.duplicate == event.duplicate


@given(events())
def test_the_json_is_the_dict_on_one_line_of_ascii(event: Event) -> None:
    raw = event.to_json()
    assert raw.isascii()
    assert b"\n" not in raw
    assert json.loads(raw) == event.to_dict()
    assert list(json.loads(raw)) == list(event.to_dict()), "in the same order"
    assert Event.from_dict(json.loads(raw)) == event


@given(PAYLOADS)
def test_an_encoded_payload_decodes_to_the_same(payload: dict[str, Any]) -> None:
    assert json.loads(encode_payload(payload)) == payload


@given(JSON)
def test_escaping_to_ascii_keeps_the_meaning(value: object) -> None:
    raw = json.dumps(value, ensure_ascii=False).encode()
    assert ascii_json(raw).isascii()
    assert json.loads(ascii_json(raw)) == value


NAN, INF = float("nan"), float("inf")


@dataclass
class Point:
    x: object
    _hidden: float = NAN


@dataclass(slots=True)
class Slim:
    y: object


class Odd(Enum):
    NAN = NAN
    FINE = "fine"


class Name(StrEnum):
    X = "x"


class OwnDict(dict[Any, Any]):
    """A subclass, which orjson takes."""


class OwnList(list[Any]):
    """A subclass, which orjson takes."""


class Pair(NamedTuple):
    x: float


def nested(value: object, levels: int) -> dict[str, Any]:
    for _ in range(levels):
        value = {"d": value}
    return {"x": value}


@pytest.mark.parametrize(
    ("path", "payload"),
    [
        ("payload.x", {"x": NAN}),
        ("payload.steps[1].x", {"steps": [{"x": 1.5}, {"x": INF}]}),
        ("payload.x.y[1]", {"x": {"y": (None, -INF)}}),
        ('payload["a b"][0]["7"]', {"a b": [{"7": NAN}]}),
        ("payload.p.x", {"p": Point(NAN)}),
        ("payload.p.x.y.z", {"p": Point(Slim({"z": [NAN][0]}))}),
        ("payload.e", {"e": Odd.NAN}),
        ("payload.d.x", {"d": OwnDict(x=NAN)}),
        ("payload.l[1][0]", {"l": OwnList([0, OwnList([INF])])}),
        ("payload.x", MappingProxyType({"x": NAN})),
        ("payload.x.x", {Name.X: {Name.X: NAN}}),
        ("payload.t", {"t": Pair(NAN)}),
        ("payload.x", {"x": 2**64}),
        ("payload.x[0]", {"x": [-(2**63) - 1]}),
        ("payload", {1: 1}),
        ("payload.x", {"x": {None: 1}}),
        ("payload.x[0]", {"x": [{NAN: 1}]}),
        ("payload.x", {"x": object()}),
        ("payload.x.y", {"x": {"y": b""}}),
        ("payload.x", {"x": {1}}),
        ("payload.x[2]", {"x": [1, "a", "\ud800"]}),
        ("payload.x", {"x": MappingProxyType({})}),
        ("payload.x", {"x": Point}),
        ("payload.x", {"x": dt.time(1, tzinfo=dt.UTC)}),
        *(("payload", payload) for payload in ([], "x", None, 5, [("a", 1)])),
    ],
)
def test_a_payload_that_json_would_change_is_refused_with_the_place(path: str, payload: object) -> None:
    with pytest.raises(InvalidInput) as refused:
        encode_payload(payload)
    assert refused.value.field == path


@pytest.mark.parametrize(("value", "fits"), [({}, True), (None, True), (NAN, False), ({"d": 1}, False)])
def test_a_payload_is_looked_into_as_deep_as_it_may_be(value: object, fits: bool) -> None:
    payload = nested(value, 252)
    if fits:
        assert json.loads(encode_payload(payload)) == payload
        return
    with pytest.raises(InvalidInput, match=r"payload\.x[.d]+…[.d]+: (nan is not JSON|nested deeper than 254)"):
        encode_payload(payload if value is NAN else nested(value, 254))


def test_what_orjson_takes_is_written_by_value() -> None:
    payload = {
        "p": Point(Slim(None)),
        "e": Odd.FINE,
        "d": OwnDict(x=OwnList([None])),
        Name.X: dt.date(2025, 1, 2),
    }
    assert encode_payload(payload) == b'{"p":{"x":{"y":null}},"e":"fine","d":{"x":[null]},"x":"2025-01-02"}'


def test_a_null_in_a_payload_is_no_nan() -> None:
    assert (
        encode_payload({"x": None, "y": [1.5, None, {"null": "null"}]}) == b'{"x":null,"y":[1.5,null,{"null":"null"}]}'
    )


def test_a_mapping_that_is_no_dict_is_a_payload() -> None:
    assert encode_payload(MappingProxyType({"a": 1})) == b'{"a":1}'


def test_the_payload_limit_counts_encoded_bytes() -> None:
    assert len(Body.of("a", {"x": "é"}, payload_max_bytes=10).payload_json) == 10
    with pytest.raises(PayloadTooLarge, match="10 bytes encoded, the limit is 9"):
        Body.of("a", {"x": "é"}, payload_max_bytes=9)


@pytest.mark.parametrize(
    ("field", "change"),
    [
        ("id", {"id": "5"}),
        ("id", {"id": None}),
        ("offset", {"offset": 5}),
        ("timestamp", {"timestamp": 5.0}),
        ("seq", {"seq": 0}),
        ("seq", {"seq": True}),
        ("seq", {"seq": "1"}),
        ("kind", {"kind": "a b"}),
        ("payload", {"payload": []}),
        ("visibility", {"visibility": "all"}),
        ("lane_id", {"run_id": None, "lane_id": "x"}),
    ],
)
def test_a_wire_form_that_contradicts_itself_is_refused(field: str, change: dict[str, Any]) -> None:
    wire = Event(1_000, 4, Body.of("a", {}, run_id="r"), 1).to_dict()
    assert Event.from_dict(wire).position == (1_000, 4)
    with pytest.raises(InvalidInput) as refused:
        Event.from_dict({**wire, **change})
    assert refused.value.field == field


def test_an_event_cannot_be_changed() -> None:
    event = Event(1, 1, Body.of("a"))
    for name in ("id", "offset", "kind", "payload", "run_id", "anything"):
        with pytest.raises(AttributeError):
            setattr(event, name, "x")


def test_events_differ_by_place_and_content_and_not_by_being_duplicates() -> None:
    event = Event(1, 1, Body.of("a", {"x": 1, "y": 2}))
    assert event == Event(1, 1, Body.of("a", {"y": 2, "x": 1}))
    assert event == event.as_duplicate()
    assert event.as_duplicate().duplicate
    assert event != Event(1, 2, Body.of("a", {"x": 1, "y": 2}))
    assert event != Event(1, 1, Body.of("a", {"x": 1}))
    assert event != Event(1, 1, Body.of("b", {"x": 1, "y": 2}))
    assert event != "1-1"


def test_the_terminal_kinds_are_those_of_the_contract() -> None:
    assert set(TERMINAL_KINDS) == {"run.finished", "run.failed", "run.error", "run.cancelled"}
    assert all(Event(1, 1, Body.of(kind)).is_terminal for kind in TERMINAL_KINDS)
    assert not Event(1, 1, Body.of("run.finished.not")).is_terminal


def test_a_kind_that_was_admitted_once_does_not_admit_others() -> None:
    Body.of("good")
    with pytest.raises(InvalidInput, match="kind"):
        Body.of("good\n")


def test_a_ready_body_is_held_to_the_limit_of_the_log_it_goes_to() -> None:
    large = Body.of("k", {"text": "x" * 200_000}, payload_max_bytes=1_000_000)
    with create_event_log("memory") as log:
        with pytest.raises(PayloadTooLarge, match=r"events\[1\]\.payload"):
            log.append_many([Body.of("k"), large])
        assert log.query() == []


def test_every_place_that_names_the_fields_has_those_of_the_table() -> None:
    names = [field.name for field in FIELDS]
    assert list(EventParts.__annotations__) == names
    assert list(Body._fields[2:]) == names
    assert names[-1] == "idempotency_key"
    values = {"visibility": "internal", "traceparent": "00-" + "a" * 32 + "-" + "b" * 16 + "-01"}
    body = Body.from_mapping({"kind": "a", **{name: values.get(name, "x") for name in names}})
    event = Event(1, 1, body, 1)
    for name in names[:-1]:
        assert getattr(event, name) == event.to_dict()[name] == getattr(body, name)
        assert getattr(Event, name).__doc__
    assert body.idempotency_key == "x"
    assert "idempotency_key" not in event.to_dict()


@pytest.mark.parametrize("name", [field.name for field in FIELDS])
def test_each_field_is_checked(name: str) -> None:
    run = {"run_id": "r"} if name == "lane_id" else {}
    with pytest.raises(InvalidInput) as refused:
        Body.from_mapping({"kind": "a", **run, name: "\n"})
    assert refused.value.field == name

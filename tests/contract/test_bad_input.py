"""Wrong values, whichever: `InvalidInput` that names the field, and nothing appended."""

from typing import Any

import pytest

from eventlog.errors import InvalidInput
from tests.contract.colours import Colour

DEEP: dict[str, Any] = {}
for _ in range(5_000):
    DEEP = {"d": DEEP}

PAYLOADS: list[Any] = [
    [],
    "text",
    5,
    True,
    b"{}",
    {"x": float("nan")},
    {"x": [1, {"y": float("inf")}]},
    {"x": -float("inf"), "z": None},
    {"x": 2**64},
    {"x": -(2**63) - 1},
    {1: "x"},
    {"x": {2: "y"}},
    {"x": object()},
    {"x": {1, 2}},
    {"x": "\ud800"},
    {"\udfff": 1},
    DEEP,
    {"x": b"bytes"},
]

APPENDS: list[tuple[str, dict[str, Any]]] = [
    *[("kind", {"kind": kind}) for kind in ("", "a b", "ä", "a" * 129, "a\n", "a*", None, 5, ["a"], b"a")],
    *[("payload", {"payload": payload}) for payload in PAYLOADS],
    *[("run_id", {"run_id": run}) for run in ("", "a b", "a/b", "r" * 129, 5, "r\n", "ü")],
    *[("lane_id", {"run_id": "r", "lane_id": lane}) for lane in ("", "a b", "l" * 129, 5)],
    ("lane_id", {"lane_id": "main"}),
    *[
        (field, {field: label})
        for field in ("stage_name", "group_id", "source")
        for label in ("", "x" * 257, "a\nb", "a\x00b", "\x7f", "\u2028", "\ud800", 5)
    ],
    *[("visibility", {"visibility": level}) for level in ("", "secret", "PUBLIC", 1, ["public"])],
    *[
        ("traceparent", {"traceparent": parent})
        for parent in ("", "00-abc", "00-" + "A" * 32 + "-" + "b" * 16 + "-01", 5)
    ],
    *[("idempotency_key", {"idempotency_key": key}) for key in ("", "a b", "k" * 257, "ä", "a\n", 5)],
]


def top(path: str) -> str:
    """The field that a path such as `payload.steps[1].x` leads into."""
    return path.partition(".")[0].partition("[")[0]


@pytest.mark.parametrize("field", sorted({field for field, _ in APPENDS}))
def test_a_bad_part_of_an_event_is_named_and_nothing_is_appended(log: Colour, field: str) -> None:
    for given in [given for name, given in APPENDS if name == field]:
        event = {"kind": "good", **given}
        with pytest.raises(InvalidInput) as refused:
            log.append(**event)
        assert (top(refused.value.field), refused.value.index) == (field, None)
        with pytest.raises(InvalidInput) as refused:
            log.append_many([{"kind": "good"}, event, {"kind": "good"}])
        assert (top(refused.value.field), refused.value.index) == (field, 1)
        assert refused.value.problem
    assert log.query() == []


@pytest.mark.parametrize(
    ("field", "event"),
    [
        ("event", "text"),
        ("event", None),
        ("event", ["kind"]),
        ("kind", {}),
        ("kind", {"payload": {}}),
        ("colour", {"kind": "a", "colour": "red"}),
        ("payload_max_bytes", {"kind": "a", "payload_max_bytes": 1}),
        ("visibility", {"kind": "a", "visibility": None}),
        ("5", {"kind": "a", 5: 5}),
    ],
)
def test_what_is_not_an_event_is_refused_by_its_place(log: Colour, field: str, event: Any) -> None:
    with pytest.raises(InvalidInput) as refused:
        log.append_many([{"kind": "good"}, event])
    assert (refused.value.field, refused.value.index) == (field, 1)
    assert log.query() == []


@pytest.mark.parametrize("events", [None, 5, "text", {"kind": "a"}, b"bytes"])
def test_a_batch_that_is_not_a_list_is_refused(log: Colour, events: Any) -> None:
    with pytest.raises(InvalidInput) as refused:
        log.append_many(events)
    assert refused.value.field == "events"


@pytest.mark.parametrize("offset", [-1, 2**53, 1.0, "5", True])
def test_a_bad_expected_offset_is_named(log: Colour, offset: Any) -> None:
    for append in (
        lambda: log.append("a", expected_offset=offset),
        lambda: log.append_many([{"kind": "a"}], expected_offset=offset),
    ):
        with pytest.raises(InvalidInput) as refused:
            append()
        assert refused.value.field == "expected_offset"
    assert log.query() == []


@pytest.mark.parametrize("key", ["", "a b", 5, "ä", "k" * 257])
def test_a_bad_batch_key_is_named(log: Colour, key: Any) -> None:
    with pytest.raises(InvalidInput) as refused:
        log.append_many([{"kind": "a"}], idempotency_key=key)
    assert refused.value.field == "idempotency_key"
    assert log.query() == []


READS: list[tuple[str, dict[str, Any]]] = [
    *[
        (field, {field: position})
        for field in ("since", "until")
        for position in (
            *(
                "abc",
                "",
                "$",
                "+",
                "-",
                "1-",
                "-1",
                "1-2-3",
                "1.5",
                " 1",
                "1\n",
                "\u0661",
                str(2**53),
                f"1-{2**64}",
                "9" * 30,
            ),
            *(-1, 2**53, 1.5, True, object(), [1], b"1"),
        )
    ],
    *[("kind", {"kind": kind}) for kind in ("", "a b", "*a", "a**", ["a", ""], 5, [5], [None], ["k"] * 65, "a" * 129)],
    *[("run_id", {"run_id": run}) for run in ("", "a b", 5, "r" * 129)],
    *[("lane_id", {"lane_id": lane}) for lane in ("", "a b", 5)],
    ("stage_name", {"stage_name": 5}),
    *[("visibility", {"visibility": level}) for level in ("", "all", 5, ["public"])],
    *[("order", {"order": order}) for order in ("", "up", "ASC", None, 5)],
    *[("since_time", {"since_time": at}) for at in (-1, float("nan"), float("inf"), "now", True, 1e300)],
]


@pytest.mark.parametrize("field", sorted({field for field, _ in READS}))
def test_a_bad_value_of_a_read_is_named(log: Colour, field: str) -> None:
    for given in [given for name, given in READS if name == field]:
        for read in (log.query, log.page):
            with pytest.raises(InvalidInput) as refused:
                read(**given)
            assert refused.value.field == field


@pytest.mark.parametrize("limit", [-1, 1001, 2**60, 1.5, "5", True, [5]])
def test_a_bad_limit_is_named(log: Colour, limit: Any) -> None:
    with pytest.raises(InvalidInput) as refused:
        log.page(limit=limit)
    assert refused.value.field == "limit"
    if limit != 1001:  # `query` has no upper limit
        with pytest.raises(InvalidInput) as refused:
            log.query(limit=limit)
        assert refused.value.field == "limit"


@pytest.mark.parametrize("event_id", ["", "abc", "5", "1-", "$", f"{2**53}-1", f"1-{2**64}", 5, None])
def test_a_bad_id_is_named(log: Colour, event_id: Any) -> None:
    with pytest.raises(InvalidInput) as refused:
        log.get(event_id)
    assert refused.value.field == "id"


@pytest.mark.parametrize("epoch", [5, [], b"x"])
def test_a_bad_epoch_is_named(log: Colour, epoch: Any) -> None:
    with pytest.raises(InvalidInput) as refused:
        log.page(epoch=epoch)
    assert refused.value.field == "epoch"

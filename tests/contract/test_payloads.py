"""Payloads are opaque: what goes in comes out, whatever it looks like to Lua, Redis or a JSON library."""

from typing import Any

import pytest

from tests.contract.colours import Colour

PAYLOADS: dict[str, dict[str, Any]] = {
    "empty": {},
    "empty array": {"x": []},
    "nested empties": {"x": [[], {}, [[[]]], {"y": {}}], "": ""},
    "big integers": {"max": 2**64 - 1, "min": -(2**63), "lua": 2**53 + 1, "signed": 2**63 - 1},
    "floats": {"x": 0.1, "y": 1e308, "z": -0.0, "w": 5e-324, "whole": 1.0},
    "null and booleans": {"x": None, "y": [None, True, False], "null": "null"},
    "unicode": {"ключ": "值 🚀 é e\u0301 \u200b", "separators": "\u2028\u2029\x85"},
    "control characters": {"x": "a\x00b\x01\x1f\x7f", "\x00": "nul key"},
    "looks like the protocol": {"x": "\r\n$5\r\nhello\r\n*1\r\n", "y": "|,:;G kp"},
    "looks like numbers": {"x": "1e400", "y": "00012", "1": "2"},
    "quotes and backslashes": {'"': '\\"\\\\/\b\f\n\r\t', "$": "%s %d ${x} {0}"},
    "deep": {"a": {"b": {"c": {"d": {"e": [{"f": [1, [2, [3]]]}]}}}}},
    "wide": {f"key-{n}": n for n in range(1_000)},
    "long": {"x": "y" * 60_000},
}


@pytest.mark.parametrize("name", PAYLOADS)
def test_a_payload_comes_back_as_it_was(log: Colour, name: str) -> None:
    payload = PAYLOADS[name]
    appended = [
        log.append("a", payload, idempotency_key="k"),
        log.append("b", payload, run_id="r", stage_name="s"),
        *log.append_many([{"kind": "c", "payload": payload}, {"kind": "d", "payload": payload, "run_id": "r"}]),
    ]
    read = log.query()
    for event in (*appended, *read, log.append("a", payload, idempotency_key="k"), log.get(read[0].id)):
        assert event.payload == payload
        assert repr(event.payload) == repr(payload), "types and order count, too"
    assert [event.payload_json for event in read] == [event.payload_json for event in appended]

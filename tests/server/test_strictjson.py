"""The strict reader of JSON, held against the standard library's."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventlog.errors import InvalidInput
from eventlog.model.strictjson import DEEPEST, is_blank, strict_loads

MARK = "\ufeff".encode()
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12) | st.sampled_from(['"', "\\", '\\"', "a", "\n"])
FLOATS = st.floats(allow_nan=False, allow_infinity=False)
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(TEXT, inner, max_size=5),
    max_leaves=20,
)


@given(JSON, st.booleans(), st.sampled_from([None, 1]))
def test_what_the_standard_library_writes_is_read_unchanged(value: Any, escaped: bool, indent: int | None) -> None:
    assert strict_loads(json.dumps(value, ensure_ascii=escaped, indent=indent).encode()) == value


def repeated(raw: str) -> bool:
    """Whether the standard library sees a key twice in one object."""
    found = False

    def look(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        nonlocal found
        found = found or len(dict(pairs)) < len(pairs)
        return dict(pairs)

    json.loads(raw, object_pairs_hook=look)
    return found


class Pairs(dict[str, Any]):
    """A dict that writes its keys as often as it was given them."""

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        super().__init__({"": pairs} if pairs else {})
        self._pairs = pairs

    def items(self) -> Any:
        return self._pairs


KEYS = st.sampled_from(["a", "b", 'a"', "\\", "é", "a\\"])
TREES = st.recursive(
    KEYS | st.integers(0, 9),
    lambda inner: st.lists(st.tuples(KEYS, inner), max_size=4).map(Pairs) | st.lists(inner, max_size=3),
    max_leaves=12,
)


@given(TREES, st.booleans())
def test_a_repeated_key_is_refused_wherever_it_is_and_only_then(tree: Any, escaped: bool) -> None:
    raw = json.dumps(tree, ensure_ascii=escaped, indent=0)
    if not repeated(raw):
        strict_loads(raw.encode())
        return
    with pytest.raises(InvalidInput, match="twice"):
        strict_loads(raw.encode())


@pytest.mark.parametrize("number", [2**64 - 1, -(2**63), 10**18, 10**19 - 1])
def test_integers_of_64_bits_are_exact(number: int) -> None:
    assert strict_loads(b"[%d]" % number) == [number]


@pytest.mark.parametrize(
    "number",
    ["18446744073709551616", "-9223372036854775809", "1" * 21, pytest.param("-" + "9" * 300, id="300 digits")],
)
def test_larger_integers_are_refused_with_their_place(number: str) -> None:
    with pytest.raises(InvalidInput, match="line 2 column 3 does not fit into 64 bits"):
        strict_loads(f"[1,\n  {number}]".encode())


@pytest.mark.parametrize(
    "number",
    [
        *("4.35", "1e5", "1E+22", "-0.0", "5e-324", "1e-320", "1.7976931348623157e308", "1763720000.1234567"),
        *("100000000000000000000.0", "1000000000000000000000e3", "0." + "0" * 300 + "1", "0.5" + "0" * 40),
        # One that is written with all its digits, and one in full.
        *("0.10000000000000001", "0.1000000000000000055511151231257827021181583404541015625"),
    ],
)
def test_a_number_that_a_double_holds_is_read_however_it_is_written(number: str) -> None:
    assert strict_loads(f'["{number}", {number}, "\\u0031"]'.encode()) == [number, float(number), "1"]


def test_a_minus_before_a_zero_is_kept() -> None:
    assert repr(strict_loads(b'[-0, 0, "-0", {"-0": -0}, -0.0, -0e5]')) == ("[-0.0, 0, '-0', {'-0': -0.0}, -0.0, -0.0]")


@pytest.mark.parametrize(
    "number",
    [
        *("1e-400", "-1E-4000", "1e-99999999999999999999", "0." + "0" * 400 + "1", "1.23456789e-320"),
        *("9007199254740993.0", "9007199254740993e0", "123456789012345678.12", "3.141592653589793238"),
        *("1.0000000000000001", "0.12345678901234567890", "123456789012345678901.5"),
    ],
)
@pytest.mark.parametrize("before", ["", "1.5, ", "9007199254740993, ", '"\\u0031", '])
def test_a_number_that_a_double_changes_is_refused_with_its_place(before: str, number: str) -> None:
    column = len(before) + 2
    with pytest.raises(InvalidInput, match=f"line 1 column {column} would become .*; send it as a string"):
        strict_loads(f"[{before}{number}]".encode())


@given(st.lists(FLOATS | st.integers(-(2**63), 2**64 - 1) | TEXT), st.sampled_from(["r", ".17g", ".20e"]))
def test_numbers_are_what_they_were_or_refused(values: list[Any], form: str) -> None:
    parts = [json.dumps(value) if type(value) is not float or form == "r" else f"{value:{form}}" for value in values]
    try:
        assert strict_loads(f"[{','.join(parts)}]".encode()) == values
    except InvalidInput:
        assert form == ".20e"


def test_depth_is_bounded_and_the_bound_is_told() -> None:
    strict_loads(b"[" * DEEPEST + b"]" * DEEPEST)
    for depth in (DEEPEST + 1, 2000, 1_000_000):
        with pytest.raises(InvalidInput, match=r"deep|depth"):
            strict_loads(b"[" * depth + b"]" * depth)


@pytest.mark.parametrize(
    "raw", [b"", b" ", b"{", b"[1,]", b"nul", b"NaN", b"1e400", b"\xff", rb'"\ud800"', b"1 2", MARK, b" " + MARK + b"1"]
)
def test_what_is_not_json_is_refused_by_name(raw: bytes) -> None:
    with pytest.raises(InvalidInput) as caught:
        strict_loads(raw, "line")
    assert caught.value.field == "line"


@pytest.mark.parametrize("document", [b'{"a":[1]}', b' \r\n{"a":[1]}', '{"\ufeff":"\ufeff"}'.encode(), b"9" * 18, b"7"])
@pytest.mark.parametrize("marks", [1, 2, 100_000])
def test_a_byte_order_mark_before_a_document_is_passed_over(document: bytes, marks: int) -> None:
    assert strict_loads(MARK * marks + document) == json.loads(document)


@pytest.mark.parametrize("raw", ["[1,1" + "0" * 20 + "]", '{"a":1,"a":1}', "[1e400]", "[", "[" * 1000])
def test_behind_a_byte_order_mark_nothing_else_is_taken_that_is_not_without(raw: str) -> None:
    with pytest.raises(InvalidInput) as without:
        strict_loads(raw.encode())
    with pytest.raises(InvalidInput) as caught:
        strict_loads(MARK + raw.encode())
    assert caught.value.problem == without.value.problem


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be"])
def test_utf_16_is_refused_in_as_many_words(encoding: str) -> None:
    with pytest.raises(InvalidInput, match="UTF-16"):
        strict_loads("\ufeff{}".encode(encoding).removeprefix(b"\xff\xfe" if encoding == "utf-16" else b""))


@pytest.mark.parametrize(
    ("raw", "expected"),
    [(b"", True), (b" \r", True), (MARK, True), (MARK + MARK + b"\r", True), (MARK + b"1", False), (b"\xef", False)],
)
def test_a_document_that_is_not_there_is_blank(raw: bytes, expected: bool) -> None:
    assert is_blank(raw) is expected

"""JSON as it must be before anything is appended: what would be lost or changed in silence is refused. Pure.

orjson refuses NaN, 1e400, bad UTF-8 and lone surrogates. It keeps the last of two equal keys, and makes of each number
that is no integer of 64 bits the nearest double; here repeated keys are refused, and numbers that this would change.
"""

import json
import re
from decimal import Decimal, InvalidOperation
from typing import Any

import orjson

from ..errors import InvalidInput

DEEPEST = 254

# The byte order mark, as programs on Windows write it, and as it shows that something is UTF-16.
_MARK = b"\xef\xbb\xbf"
_UTF_16 = (b"\xff\xfe", b"\xfe\xff")
_STRING = rb'"(?:[^"\\]|\\.)*"'
_strings = re.compile(_STRING, re.DOTALL)
# A string, or a number with what makes it a float in the group: whole numbers have an empty one.
_tokens = re.compile(_STRING + rb"|(-?\d+)((?:\.\d+)?(?:[eE][+-]?\d+)?)", re.DOTALL)
SMALLEST, LARGEST = -(2**63), 2**64 - 1
# What a number may look like that a double changes: many digits, or a minus before a zero or a large exponent.
_digits = bytes(48 if chr(byte) in "0123456789." else 32 for byte in range(256))
_MANY_DIGITS = b"0" * 16
_suspicious_minus = re.compile(rb"-(?:0(?![\d.])|(?<=[eE]-)\d{3})")


def strict_loads(raw: bytes, field: str = "body") -> Any:
    """Read one JSON document; raises `InvalidInput` naming `field` and the place.

    Refused beside what is not JSON: repeated keys, integers outside -2**63 to 2**64 - 1, other numbers that no double
    holds, and more than `DEEPEST` levels. A double may be written with all its 17 digits; -0 is one.
    A byte order mark before the document is passed over.
    """
    try:
        value = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        if raw.startswith(_MARK):
            return strict_loads(_unmarked(raw), field)
        raise InvalidInput(field, _complaint(raw, error)) from None
    try:
        again = orjson.dumps(value)
    except TypeError:
        raise InvalidInput(field, f"nested deeper than {DEEPEST} levels") from None
    if _count_strings(raw) != _count_strings(again):
        raise InvalidInput(field, _repeated_key(raw))
    if _suspicious_minus.search(raw) is not None or _are_changed(raw, again):
        return orjson.loads(_with_floats(raw, field))
    return value


def is_blank(raw: bytes) -> bool:
    """True if there is no document: only white space, perhaps behind a byte order mark."""
    return not raw.strip() or not _unmarked(raw).strip()


def _unmarked(raw: bytes) -> bytes:
    start = 0
    while raw.startswith(_MARK, start):
        start += len(_MARK)
    return raw[start:]


def _are_changed(raw: bytes, again: bytes) -> bool:
    """Whether numbers of many digits may differ. Most are doubles that their sender wrote as we do."""
    long = _long_numbers(raw)
    # An escape may hide digits.
    return bool(long) and (b"\\" in raw or long != _long_numbers(again))


def _long_numbers(raw: bytes) -> list[bytes]:
    """The runs of at least as many digits as a double may change."""
    look = raw.translate(_digits)
    found: list[bytes] = []
    start = look.find(_MANY_DIGITS)
    while start >= 0:
        end = look.find(b" ", start)
        found.append(raw[start:] if end < 0 else raw[start:end])
        start = -1 if end < 0 else look.find(_MANY_DIGITS, end)
    return found


def _count_strings(raw: bytes) -> int:
    # Every string has two quotes, unless some are escaped.
    if b"\\" not in raw:
        return raw.count(b'"') // 2
    return sum(1 for _ in _strings.finditer(raw))


def _complaint(raw: bytes, error: orjson.JSONDecodeError) -> str:
    if is_blank(raw):
        return "is empty; a JSON document is expected"
    if raw.startswith(_UTF_16):
        return "is UTF-16; a JSON document is UTF-8"
    try:
        raw.decode()
    except UnicodeDecodeError as bad:
        return f"is not valid UTF-8 at byte {bad.start + 1}"
    return f"is not JSON: {error.msg} at line {error.lineno} column {error.colno}"


def _repeated_key(raw: bytes) -> str:
    """Which key it is; found by a second reading, for only the message needs it."""
    repeated: list[str] = []

    def look(pairs: list[tuple[str, Any]]) -> None:
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                repeated.append(key)
            seen.add(key)

    try:
        json.loads(raw, object_pairs_hook=look, parse_int=float)
    except (RecursionError, ValueError):
        return "an object has the same key twice"
    return f"an object has the key {repeated[0][:60]!r} twice" if repeated else "an object has the same key twice"


def _is_of(number: float, text: str) -> bool:
    """Whether the text writes this double: as short as it can be, with 17 digits, or in full."""
    if repr(number) == text:
        return True
    try:
        return Decimal(text) in (Decimal(repr(number)), Decimal(f"{number:.17g}"), Decimal(number))
    except InvalidOperation:  # an exponent beyond all bounds
        return False


def _with_floats(raw: bytes, field: str) -> bytes:
    """The document with each -0 as -0.0, as an integer has no such zero; raises `InvalidInput` for a changed number."""
    return _tokens.sub(lambda token: _kept(token, raw, field), raw)


def _kept(token: "re.Match[bytes]", raw: bytes, field: str) -> bytes:
    text, digits, fraction = token[0], token[1], token[2]
    if digits is None:
        return text
    if text == b"-0":
        return b"-0.0"
    if fraction:
        number = float(text)
        if _is_of(number, text.decode()):
            return text
        problem = f"would become {number!r}"
    elif len(digits) < 19 or (len(digits) <= 20 and SMALLEST <= int(digits) <= LARGEST):
        return text
    else:
        problem = "does not fit into 64 bits"
    shown = text[:24].decode() + ("…" if len(text) > 24 else "")
    line = raw.count(b"\n", 0, token.start()) + 1
    column = token.start() - raw.rfind(b"\n", 0, token.start())
    raise InvalidInput(field, f"{shown} at line {line} column {column} {problem}; send it as a string")

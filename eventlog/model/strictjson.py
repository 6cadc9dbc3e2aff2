"""JSON as it must be before anything is appended: what would be lost or changed in silence is refused. Pure.

orjson refuses NaN, 1e400, bad UTF-8 and lone surrogates. It keeps the last of two equal keys and turns integers
over 64 bits into floats; here both are refused.
"""

import json
import re
from typing import Any

import orjson

from ..errors import InvalidInput

DEEPEST = 254

# The byte order mark, as programs on Windows write it, and as it shows that something is UTF-16.
_MARK = b"\xef\xbb\xbf"
_UTF_16 = (b"\xff\xfe", b"\xfe\xff")
_STRING = rb'"(?:[^"\\]|\\.)*"'
_strings = re.compile(_STRING, re.DOTALL)
_maybe_large = re.compile(rb"\d{19}")
# A string, or a number with what makes it a float in the group: whole numbers have an empty one.
_tokens = re.compile(_STRING + rb"|(-?\d+)((?:\.\d+)?(?:[eE][+-]?\d+)?)", re.DOTALL)
_SMALLEST, _LARGEST = -(2**63), 2**64 - 1


def strict_loads(raw: bytes, field: str = "body") -> Any:
    """Read one JSON document; raises `InvalidInput` naming `field` and the place.

    Refused beside what is not JSON: repeated keys, integers outside -2**63 to 2**64 - 1, numbers no double holds,
    and more than `DEEPEST` levels. A byte order mark before the document is passed over.
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
    if _maybe_large.search(raw) is not None:
        _refuse_large_integers(raw, field)
    return value


def is_blank(raw: bytes) -> bool:
    """True if there is no document: only white space, perhaps behind a byte order mark."""
    return not raw.strip() or not _unmarked(raw).strip()


def _unmarked(raw: bytes) -> bytes:
    start = 0
    while raw.startswith(_MARK, start):
        start += len(_MARK)
    return raw[start:]


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


def _refuse_large_integers(raw: bytes, field: str) -> None:
    for token in _tokens.finditer(raw):
        digits, fraction = token[1], token[2]
        if digits is None or fraction or len(digits) < 19:
            continue
        if len(digits) > 20 or not _SMALLEST <= int(digits) <= _LARGEST:
            shown = digits[:24].decode() + ("…" if len(digits) > 24 else "")
            line = raw.count(b"\n", 0, token.start()) + 1
            column = token.start() - raw.rfind(b"\n", 0, token.start())
            raise InvalidInput(
                field, f"integer {shown} at line {line} column {column} does not fit into 64 bits; send it as a string"
            )

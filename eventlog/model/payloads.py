"""A payload as it is written, and where in it something lies that no JSON can hold. Pure."""

import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass
from enum import Enum

import orjson

from ..errors import InvalidInput
from .strictjson import DEEPEST, LARGEST, SMALLEST
from .texts import json_type, plain

_SMALL_BYTES = 8 * 1024
_PLAIN_STEP = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,59}", re.ASCII)
LONGEST_STEP, _LONGEST_PATH = 60, 200


def encode_payload(payload: object) -> bytes:
    """Encode a payload as compact JSON; raises `InvalidInput`, with the path, for what JSON cannot hold.

    Datetimes, UUIDs, enums and dataclasses inside it are written as orjson writes them.
    """
    if type(payload) is not dict and not isinstance(payload, Mapping):
        raise InvalidInput("payload", f"must be an object, not {json_type(payload)}")
    try:
        raw = orjson.dumps(payload if type(payload) is dict else dict(payload))
    except (TypeError, ValueError, RecursionError) as error:
        _refuse_unfit(payload)
        try:
            # Keys of a subclass of str: others were refused.
            raw = orjson.dumps(dict(payload), option=orjson.OPT_NON_STR_KEYS)
        except (TypeError, ValueError, RecursionError):
            raise InvalidInput("payload", f"cannot be written as JSON: {error}") from error
    # orjson writes NaN and the infinities as null, so only a payload with a null needs the slow look.
    if b"null" in raw:
        _refuse_unfit(payload)
    # What orjson writes keeps the buffer that it was written to, some KiB. Hundreds of those kept are ten times as
    # large as what is in them, and make the C heap grow and shrink all the time; a copy is as large as it looks.
    return b"%b" % raw if len(raw) <= _SMALL_BYTES else raw


def step(key: str) -> str:
    """One step of a path into a payload: `.name`, or `["a name"]`."""
    if _PLAIN_STEP.fullmatch(key) is not None:
        return f".{key}"
    return f"[{json.dumps(key if len(key) <= LONGEST_STEP else key[:LONGEST_STEP] + '…')}]"


def shortened(path: str) -> str:
    """A path as an error shows it."""
    half = _LONGEST_PATH // 2
    return path if len(path) <= _LONGEST_PATH else f"{path[:half]}…{path[-half:]}"


class _Unfit(Exception):
    """What is wrong; on its way out of the payload it gathers its path, the last step first."""

    def __init__(self, problem: str) -> None:
        self.problem = problem
        self.steps: list[str] = []


def _refuse_unfit(payload: Mapping[object, object]) -> None:
    try:
        _look(payload, 0)
    except _Unfit as unfit:
        path = shortened("payload" + "".join(reversed(unfit.steps)))
        raise InvalidInput(path, unfit.problem) from None
    except RecursionError:
        raise InvalidInput("payload", "is nested too deep for what is left of the stack") from None


def _look(value: object, depth: int) -> None:
    """Raises `_Unfit` for the first thing that orjson refuses, or writes as null."""
    if value is None or isinstance(value, bool):
        return
    if isinstance(value, Enum):
        _look(value.value, depth)
    elif isinstance(value, str):
        _look_at_text(value)
    elif isinstance(value, int):
        if not SMALLEST <= value <= LARGEST:
            raise _Unfit("an integer of more than 64 bits does not fit: give it as a string")
    elif type(value) is float:
        if not math.isfinite(value):
            raise _Unfit(f"{value!r} is not JSON: give null or a string")
    elif depth > DEEPEST:
        raise _Unfit(f"nested deeper than {DEEPEST} levels")
    elif isinstance(value, dict) or (isinstance(value, Mapping) and not depth):
        _look_at_members(value.items(), depth)
    elif isinstance(value, list) or type(value) is tuple:
        for index, inner in enumerate(value):
            try:
                _look(inner, depth + 1)
            except _Unfit as unfit:
                unfit.steps.append(f"[{index}]")
                raise
    elif is_dataclass(value) and not isinstance(value, type):
        names = [each.name for each in fields(value) if not each.name.startswith("_")]
        _look_at_members(((name, getattr(value, name)) for name in names), depth)
    else:
        try:
            orjson.dumps(value)
        except (TypeError, ValueError) as error:
            raise _Unfit(f"cannot be written as JSON: {error}") from None


def _look_at_members(members: Iterable[tuple[object, object]], depth: int) -> None:
    for key, inner in members:
        if not isinstance(key, str):
            raise _Unfit(f"the key {str(key)[:LONGEST_STEP]!r} is a {type(key).__name__}: keys are strings")
        _look_at_text(key)
        try:
            _look(inner, depth + 1)
        except _Unfit as unfit:
            unfit.steps.append(step(plain(key)))
            raise


def _look_at_text(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise _Unfit("has a lone surrogate, which is no character") from None

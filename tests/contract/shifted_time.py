"""Time on a real Redis that a test moves on: its scripts are answered a later `TIME`, and what expires does so earlier.

Until the first `pass_on` nothing is changed. Everything but scripts' `TIME` and expiries is Redis as it is.
"""

import sys
from collections.abc import Iterable
from functools import cache
from hashlib import sha1
from types import ModuleType
from typing import Any

import pytest
import redis

from eventlog.store import scripts
from eventlog.store.scripts import Script

_AHEAD = "tests:ahead_ms"
_PRELUDE = b"""
local real = redis
local function ahead_ms() return tonumber(real.call('GET', 'tests:ahead_ms') or '0') end
local redis = {call = function(command, ...)
  if command == 'TIME' then
    local clock = real.call('TIME')
    local us = tonumber(clock[1]) * 1000000 + tonumber(clock[2]) + ahead_ms() * 1000
    return {string.format('%.0f', math.floor(us / 1000000)), string.format('%.0f', us % 1000000)}
  end
  if command == 'PEXPIREAT' then
    local key, at_ms, option = ...
    at_ms = string.format('%.0f', tonumber(at_ms) - ahead_ms())
    if option then return real.call(command, key, at_ms, option) end
    return real.call(command, key, at_ms)
  end
  return real.call(command, ...)
end}
"""


@cache
def _shifted(path: str) -> Script:
    plain = scripts.script(path)
    source = _PRELUDE + plain.source
    return Script(plain.name, source, sha1(source, usedforsecurity=False).hexdigest())


def _callers() -> list[ModuleType]:
    """The modules that send scripts, whatever they are called."""
    ours = [module for name, module in list(sys.modules.items()) if name.startswith("eventlog.")]
    callers = [module for module in ours if vars(module).get("script") is scripts.script and module is not scripts]
    assert len(callers) >= 3, callers
    return callers


class ShiftedTime:
    """The time of one Redis, as this process' scripts hear of it. Close it."""

    def __init__(self, client: "redis.Redis[Any]") -> None:
        self._client = client
        self._ahead_ms = 0
        self._patch = pytest.MonkeyPatch()

    def pass_on(self, seconds: float, keys: Iterable[str]) -> None:
        """From now on it is more than `seconds` later, for `keys` too."""
        if not self._ahead_ms:
            for module in _callers():
                self._patch.setattr(module, "script", _shifted)
        ms = int(seconds * 1000) + 1
        self._ahead_ms += ms
        self._client.set(_AHEAD, self._ahead_ms)
        for key in keys:
            left_ms = self._client.pttl(key)
            if left_ms >= 0:
                self._client.pexpire(key, left_ms - ms)

    def close(self) -> None:
        """It is now again."""
        if self._ahead_ms:
            self._patch.undo()
            self._client.delete(_AHEAD)

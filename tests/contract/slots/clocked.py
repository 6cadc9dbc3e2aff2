"""A real Redis whose clock a test sets: scripts run as they are, but what they hear of time is made up.

Each script is sent with a prelude that answers `TIME` from a key, and keeps expiries in a hash, to be carried out when
that clock comes to them. Everything else is Redis.
"""

import hashlib
from importlib.resources import files
from typing import Any

import redis

from eventlog.plan.effects import Command
from eventlog.slots.acts import Ring
from eventlog.slots.encoding import decode_ring
from eventlog.store.links import SyncLink
from eventlog.store.scripts import script

_PRELUDE = b"""
local real = redis
local redis = {call = function(command, key, a, b, c, ...)
  if command == 'TIME' then
    local clock = real.call('LRANGE', 'clock', 0, 1)
    local now = tonumber(clock[1]) * 1000 + math.floor(tonumber(clock[2]) / 1000)
    for _, due in ipairs(real.call('ZRANGEBYSCORE', 'expiries', '-inf', string.format('%.0f', now))) do
      real.call('UNLINK', due)
      real.call('ZREM', 'expiries', due)
    end
    return clock
  end
  if command == 'PEXPIRE' or (command == 'SET' and b == 'PX') then
    local clock = real.call('LRANGE', 'clock', 0, 1)
    local now = tonumber(clock[1]) * 1000 + math.floor(tonumber(clock[2]) / 1000)
    if command == 'SET' then real.call('SET', key, a) end
    local ms = tonumber(command == 'SET' and c or a)
    return real.call('EXISTS', key) == 1 and real.call('ZADD', 'expiries', string.format('%.0f', now + ms), key)
  end
  if command == 'PEXPIREAT' then
    if real.call('EXISTS', key) == 0 then return 0 end
    if b == 'LT' then return real.call('ZADD', 'expiries', 'LT', a, key) end
    return real.call('ZADD', 'expiries', a, key)
  end
  if key == nil then return real.call(command) end
  if a == nil then return real.call(command, key) end
  if b == nil then return real.call(command, key, a) end
  if c == nil then return real.call(command, key, a, b) end
  return real.call(command, key, a, b, c, ...)
end}
"""


class ClockedRedis:
    """A transport for plans (`execute`), and the clock: `now_us`, microseconds since the Unix epoch."""

    def __init__(self, url: str) -> None:
        self._link = SyncLink(url, 1)
        self.client = redis.Redis.from_url(url, socket_timeout=20.0)
        names = [
            f"{room}/{path.name.removesuffix('.lua')}"
            for room in ("log", "slots", "telemetry")
            for path in files("eventlog").joinpath(room, "lua").iterdir()
            if path.name.endswith(".lua")
        ]
        self._sources = {script(name).sha: _PRELUDE + script(name).source for name in names}
        self._shas = {sha: hashlib.sha1(source).hexdigest() for sha, source in self._sources.items()}
        for source in self._sources.values():
            self.client.script_load(source)
        self.begin(0)

    def begin(self, now_us: int) -> None:
        """Start anew, without data, at that time."""
        self.now_us = now_us
        self.wipe()

    def set_clock(self, now_us: int) -> None:
        """From now on it is that time; what expires by then is gone."""
        self.now_us = now_us
        seconds, micros = divmod(now_us, 1_000_000)
        with self.client.pipeline() as pipe:
            pipe.delete("clock")
            pipe.rpush("clock", seconds, micros)
            pipe.eval(_PRELUDE + b"return redis.call('TIME')", 0)
            pipe.execute()

    def execute(self, command: Command) -> Any:
        """Carry out a command as the library's own link does, scripts with the prelude."""
        name, sha, *rest = command.args
        if name == "EVALSHA":
            return self._link.execute(Command((name, self._shas[str(sha)], *rest), command.timeout_s))
        return self._link.execute(command)

    def bells(self) -> dict[str, list[Ring]]:
        """What lies at each bell, in no order."""
        keys = self.client.keys("*:bell:*")
        return {
            key.decode().rpartition(":bell:")[2]: sorted(map(decode_ring, self.client.lrange(key, 0, -1)))
            for key in keys
        }

    def buried(self) -> set[str]:
        """The acquisitions that are remembered to be over. A call of `clear` is remembered there too, by 32 digits."""
        names = [key.decode().rpartition(":tomb:")[2] for key in self.client.keys("*:tomb:*")]
        return {name for name in names if len(name) < 32}

    def wipe(self) -> None:
        """Lose all data, but not the time."""
        self.client.flushall()
        self.set_clock(self.now_us)

    def close(self) -> None:
        """Close all connections."""
        self._link.close()
        self.client.close()

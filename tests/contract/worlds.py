"""Where a log can live: in memory, on a real Redis of each version that is here, or on fakeredis.

A world hands out logs of either colour and can do to them what happens in life: time passes, the storage is wiped.
"""

import threading
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import pytest
import redis

from tests.contract.colours import AsyncColour, Colour, SyncColour
from tests.contract.shifted_time import ShiftedTime

COLOURS: dict[str, Callable[..., Colour]] = {"sync": SyncColour, "async": AsyncColour}

# Where the colours are more than two drivers of one plan: what waits, is cancelled, or runs beside something else.
WAITING = {
    *("test_bus", "test_dispatch", "test_dispatch_logs", "test_factory", "test_follow", "test_lanes", "test_processes"),
    *("test_holding", "test_line", "test_lost"),
}


def waits(test: Callable[..., object]) -> bool:
    """Whether the colours can differ in what a test tries: it is of a module in `WAITING`, or marked `waits`."""
    marks: list[pytest.Mark] = getattr(test, "pytestmark", [])
    return test.__module__.rpartition(".")[2] in WAITING or any(mark.name == "waits" for mark in marks)


def cases_of(test: Callable[..., object], names: Iterable[str]) -> list[tuple[str, str]]:
    """The worlds and colours that a test runs in: everything in both in memory, on Redis what `waits`."""
    return [
        (name, colour) for name in names for colour in COLOURS if (colour == "sync" or name == "memory" or waits(test))
    ]


class World(Protocol):
    """Gives logs, and moves time."""

    name: str
    colour: str

    def open(self, **options: Any) -> Colour:
        """A log of this test's own; closed when the test ends."""

    def pass_time(self, seconds: float) -> None:
        """Return when the storage's clock has moved on by more than `seconds`."""

    def wipe(self, log: Colour) -> None:
        """Lose everything that is stored of `log`, as an accident would."""

    def close(self) -> None: ...


class _Opening:
    def __init__(self, colour: str) -> None:
        self.colour = colour
        self._opened: list[Colour] = []

    def _open(self, options: dict[str, Any]) -> Colour:
        log: Colour = COLOURS[self.colour](**options)
        self._opened.append(log)
        return log

    def close(self) -> None:
        for log in self._opened:
            log.close()


class MemoryWorld(_Opening):
    """Logs in memory under a clock that only `pass_time` moves by more than moments."""

    name = "memory"

    def __init__(self, colour: str) -> None:
        super().__init__(colour)
        self._ahead_s = 0.0

    def open(self, **options: Any) -> Colour:
        return self._open({"backend": "memory", "workspace": "w", "clock": self._clock, **options})

    def _clock(self) -> float:
        return time.time() + self._ahead_s

    def pass_time(self, seconds: float) -> None:
        self._ahead_s += seconds + 0.001

    def wipe(self, log: Colour) -> None:
        self.pass_time(0.002)  # Redis could not be wiped within the millisecond of its first event
        log.storage.forget_everything()


class RedisWorld(_Opening):
    """Logs on a Redis at `url`, under keys that begin with `key_prefix`."""

    def __init__(self, name: str, colour: str, url: str, key_prefix: str) -> None:
        super().__init__(colour)
        self.name = name
        self.url = url
        self.key_prefix = key_prefix
        self.client = redis.Redis.from_url(url, socket_timeout=20.0, decode_responses=True)
        self._time = ShiftedTime(self.client)

    def open(self, **options: Any) -> Colour:
        return self._open(
            {"backend": "redis", "url": self.url, "workspace": "w", "key_prefix": self.key_prefix, **options}
        )

    def pass_time(self, seconds: float) -> None:
        self._time.pass_on(seconds, self.stored_keys())

    def wipe(self, log: Colour) -> None:
        keys = self.stored_keys()
        if keys:
            self.client.delete(*keys)

    def stored_keys(self) -> list[str]:
        """All keys of this test."""
        return sorted(self.client.scan_iter(match=f"{self.key_prefix}:*", count=1000))

    def close(self) -> None:
        super().close()
        self._time.close()
        self.wipe_quietly()
        self.client.close()

    def wipe_quietly(self) -> None:
        """Leave the shared server as it was."""
        for key in self.stored_keys():
            self.client.delete(key)


@contextmanager
def fake_redis() -> Iterator[str]:
    """A fakeredis on a loopback port of its own; gives its URL."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from fakeredis import TcpFakeServer
    server = TcpFakeServer(("127.0.0.1", 0), server_type="redis")
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"redis://127.0.0.1:{server.server_address[1]}/0"
    finally:
        server.shutdown()
        server.server_close()
        thread.join(20.0)

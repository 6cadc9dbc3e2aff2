"""A server that hangs with its connections open (stopped, or a network that swallows packets): calls still end."""

import asyncio
import time
from typing import Any

import pytest

from eventlog import create_async_event_log, create_event_log
from eventlog.errors import BackendUnavailable
from tests.support.redis_process import RedisProcess

_DEADLINE_S = 0.6
_PATIENCE_S = 5 * _DEADLINE_S


@pytest.mark.parametrize("connected", [True, False], ids=["on an open connection", "on a connection yet to be made"])
@pytest.mark.parametrize("events", [1, 100], ids=["small", "larger than the socket's buffers"])
def test_a_blocking_append_ends_by_its_deadline(connected: bool, events: int) -> None:
    batch = _batch(events)
    with (
        RedisProcess() as server,
        create_event_log("redis", url=server.url, deadline_seconds=_DEADLINE_S) as log,
    ):
        if connected:
            log.append("before")
        server.pause()
        started = time.monotonic()
        with pytest.raises(BackendUnavailable):
            log.append_many(batch)
        assert time.monotonic() - started < _PATIENCE_S
        server.resume()
        assert log.append("after").kind == "after"
        assert log.verify().clean


@pytest.mark.parametrize("connected", [True, False], ids=["on an open connection", "on a connection yet to be made"])
@pytest.mark.parametrize("events", [1, 100], ids=["small", "larger than the socket's buffers"])
def test_an_awaited_append_ends_by_its_deadline(connected: bool, events: int) -> None:
    async def scenario(server: RedisProcess) -> None:
        async with create_async_event_log("redis", url=server.url, deadline_seconds=_DEADLINE_S) as log:
            if connected:
                await log.append("before")
            server.pause()
            started = time.monotonic()
            with pytest.raises(BackendUnavailable):
                await log.append_many(_batch(events))
            assert time.monotonic() - started < _PATIENCE_S
            server.resume()
            assert (await log.append("after")).kind == "after"
            assert (await log.verify()).clean

    with RedisProcess() as server:
        asyncio.run(scenario(server))


def _batch(events: int) -> list[dict[str, Any]]:
    return [{"kind": "during", "payload": {"text": "x" * 60_000}} for _ in range(events)]

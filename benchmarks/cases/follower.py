"""From an append in this process until another process holds the event: `follow` against `XREAD BLOCK`.

The send time travels in the payload; the monotonic clock is one for all processes of a machine.
"""

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import Any

import orjson
import redis

from eventlog import create_event_log

from ..arena import KIND, MAX_ENTRIES, OUR_WORKSPACE, PAYLOAD, THEIR_STREAM, Arena
from ..contest import Contest, Lap, Metric, Sides
from ..processes import Helper, helper

_FULL = 400
_PAUSE_S = 0.001
_READY = "ready"


class _Watch:
    """The reading process' side: how long each event took, reported at the last one of a lap."""

    def __init__(self, report: Connection) -> None:
        self._report = report
        self._took_us: list[float] = []

    def arrived(self, payload: Any) -> bool:
        """Note one event; True once there is nothing more to come."""
        self._took_us.append((time.monotonic_ns() - payload["sent_ns"]) / 1000)
        if payload["last"]:
            self._report.send(self._took_us)
            self._took_us = []
        return bool(payload["stop"])


def _our_reader(report: Connection, url: str) -> None:
    watch = _Watch(report)
    with create_event_log("redis", url=url, workspace=OUR_WORKSPACE) as log, log.follow() as follower:
        report.send(_READY)
        for event in follower:
            if watch.arrived(event.payload):
                return


def _their_reader(report: Connection, url: str) -> None:
    watch = _Watch(report)
    with redis.Redis.from_url(url) as client:
        last_id = client.xrevrange(THEIR_STREAM, count=1)[0][0]
        report.send(_READY)
        while True:
            for _, entries in client.xread({THEIR_STREAM: last_id}, count=1000, block=2000):
                for entry_id, fields in entries:
                    last_id = entry_id
                    if watch.arrived(orjson.loads(fields[b"payload"])):
                        return


Append = Callable[[dict[str, Any]], Any]


def _payload(*, last: bool) -> dict[str, Any]:
    return {**PAYLOAD, "last": last, "stop": False, "sent_ns": time.monotonic_ns()}


def _timed(append: Append, reader: Helper, times: int) -> Lap:
    for i in range(times):
        time.sleep(_PAUSE_S)  # so that the reader is waiting again
        append(_payload(last=i == times - 1))
    took_us = sorted(reader.answer())
    return {"p50": statistics.median(took_us), "p99": took_us[int(len(took_us) * 0.99)]}


@contextmanager
def _another_process(arena: Arena) -> Iterator[Sides]:
    times = arena.times(_FULL, least=5)
    with arena.our_log() as log, arena.their_client() as client:

        def ours(payload: dict[str, Any]) -> None:
            log.append(KIND, payload)

        def theirs(payload: dict[str, Any]) -> None:
            fields: dict[Any, Any] = {"kind": KIND, "payload": orjson.dumps(payload)}
            client.xadd(THEIR_STREAM, fields, maxlen=MAX_ENTRIES, approximate=True)

        ours(_payload(last=False))
        theirs(_payload(last=False))
        stop = {**_payload(last=False), "stop": True}
        with (
            helper(_our_reader, arena.url, say_goodbye=lambda: ours(stop)) as our_reader,
            helper(_their_reader, arena.url, say_goodbye=lambda: theirs(stop)) as their_reader,
        ):
            yield (lambda: _timed(ours, our_reader, times)), (lambda: _timed(theirs, their_reader, times))


CONTESTS = (
    Contest(
        "follower",
        "append until another process has it / XADD, XREAD BLOCK",
        (Metric("p50", " µs", 1.5, more_is_better=False), Metric("p99", " µs", 1.5, more_is_better=False)),
        _another_process,
    ),
)

"""From an append in this process until another process holds the event: `follow` against `XREAD BLOCK`.

The send time travels in the payload; the monotonic clock is one for all processes of a machine.
"""

import multiprocessing
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

_FULL = 400
_PAUSE_S = 0.001
_ANSWER_S = 30.0
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


def _our_reader(url: str, report: Connection) -> None:
    watch = _Watch(report)
    with create_event_log("redis", url=url, workspace=OUR_WORKSPACE) as log, log.follow() as follower:
        report.send(_READY)
        for event in follower:
            if watch.arrived(event.payload):
                return


def _their_reader(url: str, report: Connection) -> None:
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


@contextmanager
def _reader(target: Callable[[str, Connection], None], url: str, append: Append) -> Iterator[Connection]:
    """A reading process that has connected; it is told to stop by an event."""
    context = multiprocessing.get_context("spawn")
    receiving, sending = context.Pipe(duplex=False)
    process = context.Process(target=target, args=(url, sending), daemon=True)
    process.start()
    try:
        _answer(receiving)
        yield receiving
        append(_payload(last=False, stop=True))
        process.join(_ANSWER_S)
    finally:
        if process.is_alive():
            process.terminate()
        process.join()
        receiving.close()
        sending.close()


def _answer(receiving: Connection) -> Any:
    if not receiving.poll(_ANSWER_S):
        raise TimeoutError(f"the reading process did not answer within {_ANSWER_S:g} s")
    return receiving.recv()


def _payload(*, last: bool, stop: bool = False) -> dict[str, Any]:
    return {**PAYLOAD, "last": last, "stop": stop, "sent_ns": time.monotonic_ns()}


def _timed(append: Append, receiving: Connection, times: int) -> Lap:
    for i in range(times):
        time.sleep(_PAUSE_S)  # so that the reader is waiting again
        append(_payload(last=i == times - 1))
    took_us = sorted(_answer(receiving))
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
        with (
            _reader(_our_reader, arena.url, ours) as our_reports,
            _reader(_their_reader, arena.url, theirs) as their_reports,
        ):
            yield (lambda: _timed(ours, our_reports, times)), (lambda: _timed(theirs, their_reports, times))


CONTESTS = (
    Contest(
        "follower",
        "append until another process has it / XADD, XREAD BLOCK",
        (Metric("p50", "µs", 1.5, more_is_better=False), Metric("p99", "µs", 1.5, more_is_better=False)),
        _another_process,
    ),
)

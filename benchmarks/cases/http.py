"""`POST /v1/workspaces/w/events` on 32 keep-alive connections: our server against the obvious FastAPI route.

Both run on uvicorn with uvloop and httptools, one worker in a process of its own, on the same Redis; the load comes
from a third process that is the same for both.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection

import orjson

from .. import load, obvious_server
from ..arena import KIND, MAX_ENTRIES, PAYLOAD, Arena
from ..contest import Contest, Lap, Metric, Sides
from ..processes import Helper, helper

_CONNECTIONS = 32
_FULL = 6000


def _our_server(connection: Connection, redis_url: str) -> None:
    from eventlog_server.serving import Address, run
    from eventlog_server.settings import ServerSettings

    from eventlog import EventLogConfig

    def on_ready(address: Address) -> None:
        connection.send("started")
        connection.send(address.port)

    run(ServerSettings(port=0, log=EventLogConfig(redis_url=redis_url, max_entries=MAX_ENTRIES)), on_ready=on_ready)


def _request() -> bytes:
    body = orjson.dumps({"kind": KIND, "payload": PAYLOAD})
    head = f"POST /v1/workspaces/w/events HTTP/1.1\r\nhost: localhost\r\ncontent-length: {len(body)}\r\n"
    return head.encode() + b"content-type: application/json\r\n\r\n" + body


def _timed(generator: Helper, port: int, requests: int) -> Lap:
    generator.tell((port, _request(), min(_CONNECTIONS, requests), requests))
    return {"requests": requests / generator.answer()}


@contextmanager
def _posts(arena: Arena) -> Iterator[Sides]:
    requests = arena.times(_FULL, least=_CONNECTIONS)
    with (
        helper(_our_server, arena.url) as our_server,
        helper(obvious_server.serve, arena.url) as their_server,
        helper(load.generate) as generator,
    ):
        our_port, their_port = our_server.answer(), their_server.answer()
        for port in (our_port, their_port):
            _timed(generator, port, requests)
        yield (lambda: _timed(generator, our_port, requests)), (lambda: _timed(generator, their_port, requests))


CONTESTS = (Contest("http", "POST /events, 32 connections / FastAPI, xadd", (Metric("requests", "/s", 3.5),), _posts),)

"""The load generator: keep-alive connections that send their next request as soon as the last is answered.

It parses just enough of an answer to know where it ends, so that it costs little of the machine that it shares.
"""

import asyncio
import time
from multiprocessing.connection import Connection

import uvloop

_LAP_S = 60.0


def generate(connection: Connection) -> None:
    """Serve laps `(port, request, connections, requests)`, each answered with the seconds that it took."""
    connection.send("started")
    while True:
        try:
            port, request, connections, requests = connection.recv()
        except EOFError:
            return
        connection.send(uvloop.run(_lap(port, request, connections, requests)))


class _Lap:
    def __init__(self, request: bytes, requests: int) -> None:
        self.request = request
        self.unsent = requests
        self.unanswered = requests
        self.finished: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def answered(self) -> None:
        self.unanswered -= 1
        if self.unanswered == 0 and not self.finished.done():
            self.finished.set_result(None)

    def failed(self, why: str) -> None:
        if not self.finished.done():
            self.finished.set_exception(RuntimeError(why))


class _Client(asyncio.Protocol):
    transport: asyncio.WriteTransport

    def __init__(self, lap: _Lap) -> None:
        self._lap = lap
        self._received = b""

    def send(self) -> None:
        if self._lap.unsent:
            self._lap.unsent -= 1
            self.transport.write(self._lap.request)

    def data_received(self, data: bytes) -> None:
        received = self._received + data
        head_end = received.find(b"\r\n\r\n")
        if head_end < 0 or len(received) < head_end + 4 + _content_length(received[:head_end]):
            self._received = received
            return
        self._received = b""
        if not received.startswith(b"HTTP/1.1 201 "):
            self._lap.failed(f"answered {received[:400]!r}")
            return
        self._lap.answered()
        self.send()

    def connection_lost(self, error: Exception | None) -> None:
        if self._lap.unanswered:
            self._lap.failed(f"connection lost: {error}")


def _content_length(head: bytes) -> int:
    _, _, after = head.lower().partition(b"content-length:")
    return int(after.partition(b"\r\n")[0])


async def _lap(port: int, request: bytes, connections: int, requests: int) -> float:
    loop = asyncio.get_running_loop()
    lap = _Lap(request, requests)
    clients = []
    for _ in range(connections):
        transport, client = await loop.create_connection(lambda: _Client(lap), "127.0.0.1", port)
        client.transport = transport
        clients.append(client)
    started = time.perf_counter()
    for client in clients:
        client.send()
    async with asyncio.timeout(_LAP_S):
        await lap.finished
    took = time.perf_counter() - started
    for client in clients:
        client.transport.close()
    return took

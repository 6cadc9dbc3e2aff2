"""A proxy between clients and a redis-server that loses, cuts, delays or keeps back what passes through it.

It runs in a thread of its own, on a unix socket, and knows just enough of the protocol to aim at script calls.
"""

import asyncio
import contextlib
import enum
import random
import shutil
import tempfile
import threading
from collections import deque
from collections.abc import Coroutine
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.support.redis_process import RedisProcess

_CHUNK = 256 * 1024


class Fault(enum.Enum):
    """What becomes of one script call."""

    NONE = "passes"
    REQUEST_LOST = "the connection is cut before the request reaches Redis"
    REQUEST_CUT = "half of the request reaches Redis"
    REPLY_LOST = "Redis carries the request out, the connection is cut before the reply"
    REPLY_CUT = "half of the reply reaches the client"
    DELAYED = "the request arrives 50 ms late"
    SWALLOWED = "the request vanishes and the connection stays open"
    HELD = "the client is cut off, and the request reaches Redis at `release`"


CUTS = (Fault.REQUEST_LOST, Fault.REQUEST_CUT, Fault.REPLY_LOST, Fault.REPLY_CUT)


class ChaosProxy:
    """Use it with `with`; clients connect to `url`. Everything passes until told otherwise."""

    def __init__(self, server: RedisProcess) -> None:
        self._server = server
        self._home = Path(tempfile.mkdtemp(prefix="elp-", dir="/tmp"))
        self._path = str(self._home / "s")
        self._next: deque[Fault] = deque()
        self._chances: tuple[random.Random, float, tuple[Fault, ...]] | None = None
        self._held: list[tuple[asyncio.StreamWriter, bytes]] = []
        self._connections: set[asyncio.StreamWriter] = set()
        self._passages = 0
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._serve, name="chaos proxy", daemon=True)
        self.struck: dict[Fault, int] = dict.fromkeys(Fault, 0)

    @property
    def url(self) -> str:
        """Where clients reach Redis through the proxy."""
        return f"unix://{self._path}"

    def plan(self, *faults: Fault) -> None:
        """The next script calls meet these, one each."""
        self._next.extend(faults)

    def strike_at_random(self, seed: int, chance: float, *faults: Fault) -> None:
        """From now on each script call meets one of `faults` with this chance."""
        self._chances = (random.Random(seed), chance, faults)

    def calm(self) -> None:
        """From now on everything passes."""
        self._chances = None
        self._next.clear()

    @property
    def held(self) -> int:
        """How many requests are kept back."""
        return len(self._held)

    def release(self) -> None:
        """Let the requests that were kept back reach Redis."""
        self._call(self._release())

    def cut_all(self) -> None:
        """Cut every connection there is."""
        self._call(self._cut_all())

    def redirect(self, server: RedisProcess) -> None:
        """Cut every connection and lead new ones to another server, as an address that moves does."""
        self._server = server
        self.cut_all()

    def _call(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    async def _release(self) -> None:
        for upstream, request in self._held:
            upstream.write(request)
            await upstream.drain()
            self._connections.add(upstream)
        self._held.clear()

    async def _cut_all(self) -> None:
        for writer in list(self._connections):
            writer.transport.abort()

    def _fault(self, chunk: bytes) -> Fault:
        if not chunk.startswith(b"*") or b"EVAL" not in chunk[:64]:
            return Fault.NONE
        fault = Fault.NONE
        if self._next:
            fault = self._next.popleft()
        elif self._chances is not None:
            chosen, chance, faults = self._chances
            if chosen.random() < chance:
                fault = chosen.choice(faults)
        self.struck[fault] += 1
        return fault

    def _serve(self) -> None:
        with asyncio.Runner() as runner:
            runner.run(self._run())

    async def _run(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stopped = asyncio.Event()
        self._no_passage = asyncio.Event()
        self._no_passage.set()
        server = await asyncio.start_unix_server(self._connected, self._path)
        self._ready.set()
        await self._stopped.wait()
        server.close()
        self._connections |= {upstream for upstream, _ in self._held}
        await self._cut_all()
        await self._no_passage.wait()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            redis_reader, redis_writer = await _connect_to(self._server)
        except OSError:
            writer.transport.abort()
            return
        passage = _Passage(self, writer, redis_writer)
        self._connections |= {writer, redis_writer}
        self._passages += 1
        self._no_passage.clear()
        try:
            async with asyncio.TaskGroup() as both:
                both.create_task(passage.requests(reader))
                both.create_task(passage.replies(redis_reader))
        except* (_Cut, OSError):
            pass
        finally:
            writer.transport.abort()
            if not any(redis_writer is kept for kept, _ in self._held):
                redis_writer.transport.abort()
            self._connections -= {writer, redis_writer}
            self._passages -= 1
            if not self._passages:
                self._no_passage.set()

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._ready.wait(10)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._stopped.set)
        self._thread.join(10)
        shutil.rmtree(self._home, ignore_errors=True)


async def _connect_to(server: RedisProcess) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    if server.port:
        return await asyncio.open_connection("127.0.0.1", server.port)
    return await asyncio.open_unix_connection(server.url.removeprefix("unix://"))


class _Cut(Exception):
    """Ends a passage."""


class _Passage:
    """One client's connection and the one to Redis that goes with it."""

    def __init__(self, proxy: ChaosProxy, client: asyncio.StreamWriter, redis: asyncio.StreamWriter) -> None:
        self._proxy = proxy
        self._client = client
        self._redis = redis
        self._reply_meets = Fault.NONE

    async def requests(self, reader: asyncio.StreamReader) -> None:
        while chunk := await reader.read(_CHUNK):
            fault = self._proxy._fault(chunk)
            if fault is Fault.REQUEST_LOST:
                raise _Cut
            if fault is Fault.REQUEST_CUT:
                self._redis.write(chunk[: len(chunk) // 2])
                await self._redis.drain()
                raise _Cut
            if fault is Fault.HELD:
                self._proxy._held.append((self._redis, chunk))
                raise _Cut
            if fault is Fault.SWALLOWED:
                continue
            if fault is Fault.DELAYED:
                await asyncio.sleep(0.05)
            if fault in (Fault.REPLY_LOST, Fault.REPLY_CUT):
                self._reply_meets = fault
            self._redis.write(chunk)
            await self._redis.drain()
        raise _Cut

    async def replies(self, reader: asyncio.StreamReader) -> None:
        while chunk := await reader.read(_CHUNK):
            if self._reply_meets is Fault.REPLY_CUT:
                self._client.write(chunk[: len(chunk) // 2])
                await self._client.drain()
            if self._reply_meets is not Fault.NONE:
                raise _Cut
            self._client.write(chunk)
            await self._client.drain()
        raise _Cut

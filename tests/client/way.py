"""The way between a client and a server, on which answers are lost, cut, delayed or given by somebody else."""

import asyncio
import contextlib
import threading
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

_CHUNK = 64 * 1024
UNAVAILABLE = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 4\r\nRetry-After: 1\r\n\r\nbusy"


class Way:
    """Use it with `with`; clients connect to `url`. Everything passes until told otherwise.

    `answers_to_lose` requests are carried out, and the client is cut off; so is the next request whose method is
    `lose_answer_to`. `answers_503` requests never arrive: something else answers. With `cut_after_bytes` every
    connection is cut after so many bytes of answers.
    """

    def __init__(self, upstream: str) -> None:
        self._port = urlsplit(upstream).port
        self.answers_to_lose = 0
        self.lose_answer_to = ""
        self._losing: set[asyncio.StreamWriter] = set()
        self.answers_503 = 0
        self.cut_after_bytes = 0
        self.cuts = 0
        self.open = 0
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), name="way", daemon=True)

    async def _run(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stopped = asyncio.Event()
        self._thawed = asyncio.Event()
        self._thawed.set()
        self._passages: set[asyncio.Task[None]] = set()
        server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        self._ready.set()
        await self._stopped.wait()
        server.close()
        # The passage of a connection accepted just now begins, so that cancelling it closes the connection.
        await asyncio.sleep(0)
        for passage in self._passages:
            passage.cancel()
        await asyncio.gather(*self._passages, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._passages.add(task)
        self.open += 1
        try:
            await self._pass(reader, writer)
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            self.open -= 1
            self._passages.discard(task)
            self._losing.discard(writer)
            writer.transport.abort()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        up_reader, up_writer = await asyncio.open_connection("127.0.0.1", self._port)
        both = [
            asyncio.ensure_future(self._requests(reader, up_writer, writer)),
            asyncio.ensure_future(self._answers(up_reader, writer)),
        ]
        try:
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for one in both:
                one.cancel()
            await asyncio.gather(*both, return_exceptions=True)
            up_writer.transport.abort()

    async def _requests(
        self, reader: asyncio.StreamReader, up: asyncio.StreamWriter, writer: asyncio.StreamWriter
    ) -> None:
        while chunk := await reader.read(_CHUNK):
            if self.answers_503:
                self.answers_503 -= 1
                writer.write(UNAVAILABLE)
                await writer.drain()
                continue
            await self._thawed.wait()
            if self.lose_answer_to and chunk.startswith(self.lose_answer_to.encode()):
                self.lose_answer_to = ""
                self._losing.add(writer)
            up.write(chunk)
            await up.drain()

    async def _answers(self, up: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        passed = 0
        while chunk := await up.read(_CHUNK):
            await self._thawed.wait()
            if writer in self._losing:
                self.cuts += 1
                return
            if self.answers_to_lose:
                self.answers_to_lose -= 1
                self.cuts += 1
                return
            if self.cut_after_bytes:
                chunk = chunk[: self.cut_after_bytes - passed]
            writer.write(chunk)
            await writer.drain()
            passed += len(chunk)
            if self.cut_after_bytes and passed >= self.cut_after_bytes:
                self.cuts += 1
                return

    def freeze(self) -> None:
        """From now on nothing passes, and connections stay open."""
        self._loop.call_soon_threadsafe(self._thawed.clear)

    def thaw(self) -> None:
        """Let pass what has gathered, and all else."""
        self._loop.call_soon_threadsafe(self._thawed.set)

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

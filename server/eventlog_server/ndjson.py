"""Appending NDJSON: lines stream in, one result line each streams out, and a bad line refuses only itself.

Lines are appended in order, in blocks of what has arrived. Memory is bounded: by the longest line, one block, and the
results that the client has not taken yet.
"""

import asyncio
from typing import NamedTuple

import orjson
from starlette.types import Receive, Scope, Send

from eventlog.errors import EventLogError, InvalidInput, Overloaded, PayloadTooLarge
from eventlog.log.awaited import AsyncEventLog
from eventlog.model.events import Body, Event
from eventlog.model.lines import LineCutter
from eventlog.model.strictjson import is_blank, strict_loads

from .answers import drop_connection
from .logs import Logs
from .problems import SlowRequest, problem_of
from .requests import Disconnected
from .room import EVENT_BYTES

NDJSON = "application/x-ndjson"

BLOCK_EVENTS = 500
BLOCK_BYTES = 512 * 1024
_LOOKED_AT_ONCE = 64 * 1024


class _Stalled(Exception):
    """The client sends and never reads: only losing its connection gets it to notice."""


class Line(NamedTuple):
    """One line of input: its number from 1, and what it says or what is wrong with it."""

    number: int
    content: Body | EventLogError


async def append_lines(logs: Logs, log: AsyncEventLog, scope: Scope, receive: Receive, send: Send) -> None:
    """Answer an NDJSON request. Raises what is wrong with the whole of it as long as nothing was answered."""
    try:
        await _Ingest(logs, log, scope, receive, send).run()
    except _Stalled:
        await drop_connection(scope, receive)


class _Ingest:
    def __init__(self, logs: Logs, log: AsyncEventLog, scope: Scope, receive: Receive, send: Send) -> None:
        self._logs = logs
        self._log = log
        self._scope = scope
        self._receive = receive
        self._send = send
        self._lines = LineCutter(logs.settings.body_max_bytes)
        self._number = 0
        self._started = False
        self._held = 0
        self._due_at: float | None = asyncio.get_running_loop().time() + logs.settings.receive_timeout_s

    async def run(self) -> None:
        more = True
        try:
            while more:
                data, more = await self._next()
                await self._take([*self._lines.feed(data), *(() if more else self._lines.end())])
        except (SlowRequest, Overloaded) as error:
            if not self._started:
                raise
            # Too late for another answer; what was begun of this line is not appended.
            await self._emit(_error_line(self._number + 1, error) + b"\n", more=True)
        await self._emit(b"", more=False)

    async def _take(self, lines: list[bytes | None]) -> None:
        block: list[Line] = []
        size = 0
        for raw in lines:
            self._number += 1
            if raw is not None and is_blank(raw):
                continue
            block.append(Line(self._number, self._parsed(raw)))
            size += 0 if raw is None else len(raw)
            if len(block) >= BLOCK_EVENTS or size >= BLOCK_BYTES:
                await self._answer(block, size)
                block, size = [], 0
            elif size // _LOOKED_AT_ONCE > (size - len(raw or b"")) // _LOOKED_AT_ONCE:
                # To read lines takes its time: others have a turn.
                await asyncio.sleep(0)
        if block:
            await self._answer(block, size)
        self._hold(self._lines.held)
        if self._started and not self._lines.is_within_line:
            self._due_at = None
        elif self._started and (lines or self._due_at is None):
            self._due_at = asyncio.get_running_loop().time() + self._logs.settings.receive_timeout_s

    async def _next(self) -> tuple[bytes, bool]:
        try:
            # A producer may be quiet between lines for as long as it likes once it has begun: nothing of it is held.
            async with asyncio.timeout_at(self._due_at):
                message = await self._receive()
        except TimeoutError:
            raise SlowRequest(f"A line did not arrive within {self._logs.settings.receive_timeout_s:g} s.") from None
        if message["type"] == "http.disconnect":
            raise Disconnected
        return message.get("body", b""), message.get("more_body", False)

    def _parsed(self, raw: bytes | None) -> Body | EventLogError:
        if raw is None:
            return PayloadTooLarge("line", f"is longer than {self._logs.settings.body_max_bytes} bytes")
        try:
            longest = self._logs.limits.payload_max_bytes
            body = Body.from_mapping(strict_loads(raw, "line"), payload_max_bytes=longest)
            return self._logs.guard.screen(body).within(longest)
        except InvalidInput as error:
            return error

    def _hold(self, size: int) -> None:
        self._logs.room.hold(self._scope, size - self._held)
        self._held = size

    async def _answer(self, block: list[Line], size: int) -> None:
        """Append the good lines of a block, and answer each line with its event or its problem."""
        good = [line.content for line in block if isinstance(line.content, Body)]
        failure: EventLogError | None = None
        appended: list[Event] = []
        try:
            self._hold(self._lines.held + size + EVENT_BYTES * len(block))
            appended = await self._logs.in_time(self._log.append_many(good)) if good else []
        except EventLogError as error:
            if not self._started:
                raise
            failure = error
        events = iter(appended)
        results: list[bytes] = []
        for line in block:
            if isinstance(line.content, Body):
                results.append(next(events).to_json() if failure is None else _error_line(line.number, failure))
            else:
                results.append(_error_line(line.number, line.content))
        await self._emit(b"\n".join(results) + b"\n", more=True)

    async def _emit(self, data: bytes, *, more: bool) -> None:
        if not self._started:
            self._started = True
            headers = [(b"content-type", NDJSON.encode()), (b"x-accel-buffering", b"no")]
            await self._send({"type": "http.response.start", "status": 200, "headers": headers})
        try:
            async with asyncio.timeout(self._logs.settings.send_timeout_s):
                await self._send({"type": "http.response.body", "body": data, "more_body": more})
        except TimeoutError:
            raise _Stalled from None


def _error_line(number: int, error: EventLogError) -> bytes:
    return orjson.dumps({"error": problem_of(error).document, "line": number})

"""Passing one stream of a command through, byte for byte, while it is recorded beside.

The reader of our output sets the pace, as it would the command's. A reader that goes away is felt by the command: its
pipe closes. What other processes keep open after the command has ended is read for a while, then left.
"""

import contextlib
import fcntl
import os
import select
import struct
import termios
import threading
import time
from collections.abc import Callable

_PIPE_BYTES = 256 * 1024


class Ending:
    """Lets pumps see that the command has ended, and for how long to go on reading what other processes keep open."""

    def __init__(self, patience_s: float) -> None:
        self.patience_s = patience_s
        self.seen, self._held = os.pipe()

    def announce(self) -> None:
        """The command has ended. Idempotent."""
        if self._held >= 0:
            # The pumps see the other end hang up.
            os.close(self._held)
            self._held = -1

    def close(self) -> None:
        """For when the pumps are done."""
        self.announce()
        os.close(self.seen)


class Pump(threading.Thread):
    """Copies `source`, which it closes in the end, to `sink`; `take` gets each piece, `finish` is called at the end.

    After the end of the command it stops at the end of the stream, or after all that the command itself can have
    written: what is in the pipe once the patience of `ending` is over. `left_open` says that this was so.
    """

    def __init__(
        self,
        source: int,
        sink: int,
        ending: Ending,
        *,
        take: Callable[[bytes], None],
        finish: Callable[[], None],
        on_end: Callable[[], object],
    ) -> None:
        super().__init__(name=f"eventlog-pump-{sink}", daemon=True)
        self._source = source
        self._sink = sink
        self._ending = ending
        self._take = take
        self._finish = finish
        self._on_end = on_end
        self.left_open = False
        self.problem: OSError | None = None
        os.set_blocking(source, False)
        _widen(source)

    def run(self) -> None:
        """Copy until the end."""
        try:
            self._copy()
        finally:
            os.close(self._source)
            self._finish()
            self._on_end()

    def _copy(self) -> None:
        while self._readable():
            chunk = self._read(_PIPE_BYTES)
            if chunk == b"" or (chunk and not self._pass(chunk)):
                return
        self.left_open = True
        left = _bytes_in(self._source)
        while left > 0:
            chunk = self._read(min(left, _PIPE_BYTES))
            if not chunk or not self._pass(chunk):
                return
            left -= len(chunk)

    def _readable(self) -> bool:
        """Wait for something to read, or the end of the stream; False if the wait is over."""
        poll = select.poll()
        poll.register(self._source, select.POLLIN)
        poll.register(self._ending.seen, 0)
        ready = dict(poll.poll())
        if self._ending.seen not in ready:
            return True
        if self._deadline is None:
            self._deadline = time.monotonic() + self._ending.patience_s
        poll.unregister(self._ending.seen)
        left_s = self._deadline - time.monotonic()
        return left_s > 0 and bool(poll.poll(left_s * 1000))

    _deadline: float | None = None

    def _read(self, size: int) -> bytes | None:
        """What is there: at the end of the stream nothing, and None if there is nothing yet."""
        try:
            return os.read(self._source, size)
        except BlockingIOError:
            return None

    def _pass(self, chunk: bytes) -> bool:
        """Write it all; False if its reader is gone."""
        rest = memoryview(chunk)
        while rest:
            try:
                rest = rest[os.write(self._sink, rest) :]
            except BlockingIOError:
                # Another process that shares the sink has made it non-blocking.
                poll = select.poll()
                poll.register(self._sink, select.POLLOUT)
                poll.poll()
            except OSError as error:
                self.problem = error
                return False
        self._take(chunk)
        return True


def _widen(pipe: int) -> None:
    """Larger pieces: fewer times a piece that the interpreter is waited for. A system that refuses is left as it is."""
    with contextlib.suppress(OSError, AttributeError):
        fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)


def _bytes_in(pipe: int) -> int:
    size = fcntl.ioctl(pipe, termios.FIONREAD, b"\0\0\0\0")
    return int(struct.unpack("i", size)[0])

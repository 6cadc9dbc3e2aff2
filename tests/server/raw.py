"""A socket that speaks HTTP as badly as it likes."""

import socket
import time
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

import httpx


class RawConnection:
    """One connection; what it sends is up to the test."""

    def __init__(self, url: str, timeout_s: float = 20.0, *, small_buffer: bool = False) -> None:
        parts = urlsplit(url)
        self._socket = socket.socket()
        if small_buffer:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self._socket.settimeout(timeout_s)
        self._socket.connect((parts.hostname, parts.port))
        self._received = b""

    def send(self, data: bytes) -> None:
        """Send all of it, or fail."""
        self._socket.sendall(data)

    def post_head(self, workspace: str, *headers: str) -> None:
        """The head of an append with these header lines."""
        lines = (f"POST /v1/workspaces/{workspace}/events HTTP/1.1", "host: x", *headers, "", "")
        self.send("\r\n".join(lines).encode())

    def chunk(self, data: bytes) -> None:
        """A chunk of a chunked body; an empty one ends it."""
        self.send(b"%x\r\n%s\r\n" % (len(data), data))

    def response(self) -> httpx.Response:
        """One response with a content-length."""
        head = self.until(b"\r\n\r\n")
        status, *lines = head.decode("latin-1").strip().split("\r\n")
        headers = dict(line.split(": ", 1) for line in lines)
        length = int(headers["content-length"])
        while len(self._received) < length:
            self._more()
        body, self._received = self._received[:length], self._received[length:]
        return httpx.Response(int(status.split()[1]), headers=headers, content=body)

    def until(self, mark: bytes) -> bytes:
        """All up to and including `mark`."""
        while mark not in self._received:
            self._more()
        end = self._received.index(mark) + len(mark)
        found, self._received = self._received[:end], self._received[end:]
        return found

    def _more(self) -> None:
        data = self._socket.recv(65536)
        if not data:
            raise ConnectionError(f"closed by the server after {self._received!r}")
        self._received += data

    def rest(self) -> bytes:
        """All until the server closes."""
        while data := self._socket.recv(65536):
            self._received += data
        rest, self._received = self._received, b""
        return rest

    def end_sending(self) -> None:
        """Send no more, and still read."""
        self._socket.shutdown(socket.SHUT_WR)

    def refuses_before_long(self, data: bytes, *, pause_s: float = 0.0, patience_s: float = 15.0) -> bool:
        """Send the same again and again; True once the server has dropped the connection."""
        deadline = time.monotonic() + patience_s
        try:
            while time.monotonic() < deadline:
                self.send(data)
                time.sleep(pause_s)
        except ConnectionError:
            return True
        return False

    def closed_by_server(self) -> bool:
        """Wait until the server closes; False if it does not within the time-out."""
        try:
            while self._socket.recv(65536):
                pass
        except TimeoutError:
            return False
        except ConnectionError:
            return True
        return True

    def close(self) -> None:
        """Cut the connection."""
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

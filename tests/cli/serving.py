"""A real server process for the tests of what goes through HTTP."""

import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import httpx

from .program import Program, Running


def free_port() -> int:
    """A loopback port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Server:
    """`eventlog serve` on a loopback port that stays the same over restarts."""

    def __init__(self, program: Program) -> None:
        self._program = program
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.running: Running | None = None

    def start(self) -> None:
        """Start it and wait until it is ready."""
        self.running = self._program.start("serve", "--port", str(self.port))
        self.running.until(self._ready, "the server is ready")

    def _ready(self) -> bool:
        try:
            return httpx.get(f"{self.url}/readyz", timeout=2, trust_env=False).status_code == 200
        except httpx.HTTPError:
            return False

    def stop(self) -> None:
        """End it orderly."""
        running, self.running = self.running, None
        if running is not None:
            with running:
                running.signal(signal.SIGTERM)
                running.end()


@contextmanager
def serving(program: Program) -> Iterator[Server]:
    """A server for the logs that `program` sees."""
    server = Server(program)
    try:
        server.start()
        yield server
    finally:
        server.stop()

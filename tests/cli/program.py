"""The command line as users meet it: a process of its own, with a clean environment."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_S = 30.0


class Program:
    """Runs `eventlog` with the given variables beside those of the system; no other EVENTLOG_* is seen."""

    def __init__(self, variables: Mapping[str, str]) -> None:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("EVENTLOG_")}
        for name in ("NO_COLOR", "FORCE_COLOR"):
            inherited.pop(name, None)
        self.environ = {**inherited, "PYTHONPATH": str(ROOT), **variables}

    def __call__(
        self, *args: str, stdin: bytes | None = None, **variables: str
    ) -> "subprocess.CompletedProcess[bytes]":
        """Run to the end."""
        return subprocess.run(
            [sys.executable, "-m", "eventlog", *args],
            input=b"" if stdin is None else stdin,
            capture_output=True,
            env={**self.environ, **variables},
            timeout=PATIENCE_S,
            check=False,
        )

    def ids(self, *args: str) -> list[str]:
        """Run an append that must succeed; the ids that it prints."""
        done = self("append", *args)
        assert done.returncode == 0, done.stderr
        return done.stdout.decode().split()

    def start(self, *args: str, **variables: str) -> "Running":
        """Start it; use the result with `with`."""
        return Running([sys.executable, "-m", "eventlog", *args], {**self.environ, **variables})


class Running:
    """A program that runs: its lines as they come, its end. Killed at the end of `with` if it has not ended."""

    def __init__(self, command: list[str], environ: Mapping[str, str]) -> None:
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=dict(environ),
            start_new_session=True,
        )
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        self.out: list[str] = []
        self.err: list[str] = []
        self._readers = [
            threading.Thread(target=self._read, args=(stream, into), daemon=True)
            for stream, into in ((self.process.stdout, self.out), (self.process.stderr, self.err))
        ]
        for reader in self._readers:
            reader.start()

    def _read(self, stream: Iterator[bytes], into: list[str]) -> None:
        into.extend(line.decode().rstrip("\n") for line in stream)

    def write(self, raw: bytes) -> None:
        """Give it input, at once."""
        assert self.process.stdin is not None
        self.process.stdin.write(raw)
        self.process.stdin.flush()

    def lines(self, count: int) -> list[str]:
        """Its output, once that has at least `count` lines."""
        self.until(lambda: len(self.out) >= count, f"{count} lines of output")
        return self.out

    def until(self, holds: "object", what: str) -> None:
        """Wait until `holds()`; fails with all it said if that never comes."""
        assert callable(holds)
        deadline = time.monotonic() + PATIENCE_S
        while not holds():
            said = f"out: {self.out[-20:]}\nerr: {self.err[-20:]}\nexit code: {self.process.poll()}"
            assert time.monotonic() < deadline, f"not within {PATIENCE_S} s: {what}\n{said}"
            time.sleep(0.01)

    def signal(self, number: int) -> None:
        """Send it a signal."""
        self.process.send_signal(number)

    def end(self) -> int:
        """Its exit code, once it has ended and all it said was read."""
        code = self.process.wait(PATIENCE_S)
        for reader in self._readers:
            reader.join(PATIENCE_S)
        return code

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(PATIENCE_S)
        for reader in self._readers:
            reader.join(PATIENCE_S)
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            assert stream is not None
            try:
                stream.close()
            except BrokenPipeError:
                continue

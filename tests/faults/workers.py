"""Client processes that append or follow, and say on their standard output what they were told.

Run as `python -m tests.faults.workers '<json arguments>'`. Lines: `["acked", offset, n]` for each event of an append
that returned, `["got", offset, kind, n]` and `["gap", missed, from, to, reason]` of a follower, `["done"]` at the end.
"""

import asyncio
import json
import queue
import random
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from eventlog import Event, Gap
from eventlog.log.awaited import AsyncEventLog
from eventlog.log.blocking import EventLog
from tests.faults.opening import open_async_log, open_log

ROOT = Path(__file__).resolve().parents[2]
_say_lock = threading.Lock()


def say(*line: object) -> None:
    with _say_lock:
        sys.stdout.write(json.dumps(line) + "\n")
        sys.stdout.flush()


def say_acked(events: Iterable[Event]) -> None:
    for event in events:
        say("acked", event.offset, event.payload["n"])


def one_by_one(log: EventLog, name: str, numbers: range) -> None:
    for n in numbers:
        say_acked([log.append(name, {"n": n}, run_id=name)])


def in_batches(log: EventLog, name: str, numbers: range, size: int, seed: int) -> None:
    chosen = random.Random(seed)
    at = numbers.start
    while at < numbers.stop:
        many = numbers[at - numbers.start :][: size or chosen.randint(1, 20)]
        say_acked(log.append_many([{"kind": name, "payload": {"n": n}} for n in many]))
        at = many.stop


def in_threads(log: EventLog, name: str, numbers: range) -> None:
    def work(i: int) -> None:
        for n in numbers[i::8]:
            say_acked([log.append(name, {"n": n}, run_id=f"{name}.{i}", lane_id="l", idempotency_key=f"{name}.{n}")])

    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


async def in_tasks(log: AsyncEventLog, name: str, numbers: range) -> None:
    async def work(i: int) -> None:
        for n in numbers[i::20]:
            say_acked([await log.append(name, {"n": n})])

    async with log, asyncio.TaskGroup() as group:
        for i in range(20):
            group.create_task(work(i))


def follow(log: EventLog, since: object, until_offset: int) -> None:
    def told(gap: Gap) -> None:
        say("gap", *gap)

    with log.follow(since, on_gap=told, patience_s=60) as follower:
        say("following", follower.cursor)
        for event in follower:
            say("got", event.offset, event.kind, event.payload.get("n"))
            if event.offset >= until_offset:
                return


def main(given: dict[str, Any]) -> None:
    style, url, name = given["style"], given["url"], given.get("name", "follower")
    numbers = range(given.get("count", 0))
    deadline_s = given.get("deadline_s", 30.0)
    if style == "tasks":
        asyncio.run(in_tasks(open_async_log(url, deadline_s), name, numbers))
    else:
        with open_log(url, deadline_s) as log:
            if style == "single":
                one_by_one(log, name, numbers)
            elif style == "batches":
                in_batches(log, name, numbers, given.get("size", 0), given.get("seed", 0))
            elif style == "threads":
                in_threads(log, name, numbers)
            elif style == "follow":
                follow(log, given["since"], given["until_offset"])
    say("done")


class Worker:
    """A client process, its lines as they come. Use it with `with`; it ends with the block, killed if need be."""

    module = "tests.faults.workers"

    def __init__(self, **given: Any) -> None:
        self.given = given
        self.lines: list[list[Any]] = []
        self._fresh: queue.Queue[list[Any] | None] = queue.Queue()

    def __enter__(self) -> Self:
        self.process = subprocess.Popen(
            [sys.executable, "-m", self.module, json.dumps(self.given)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._readers = [threading.Thread(target=self._read), threading.Thread(target=self._read_errors)]
        self.errors = ""
        for reader in self._readers:
            reader.start()
        return self

    def _read(self) -> None:
        assert self.process.stdout is not None
        for text in self.process.stdout:
            if text.endswith("\n"):
                line = json.loads(text)
                self.lines.append(line)
                self._fresh.put(line)
        self._fresh.put(None)

    def _read_errors(self) -> None:
        assert self.process.stderr is not None
        self.errors = self.process.stderr.read()

    def until(self, kind: str, patience_s: float = 60.0) -> list[Any]:
        """The next line of this kind."""
        while True:
            line = self._fresh.get(timeout=patience_s)
            assert line is not None, f"the worker ended:\n{self.errors}"
            if line[0] == kind:
                return line

    def finish(self, patience_s: float = 100.0) -> None:
        """Wait for its end and hold that it did all it was to do."""
        assert self.process.wait(patience_s) == 0, self._told_errors()
        for reader in self._readers:
            reader.join()
        assert self.lines[-1] == ["done"], self._told_errors()

    def _told_errors(self) -> str:
        self._readers[1].join(5)
        return f"worker {self.given}:\n{self.errors}"

    def of(self, kind: str) -> Iterator[list[Any]]:
        """What it said of one kind, without the word."""
        return (line[1:] for line in self.lines if line[0] == kind)

    def kill(self) -> None:
        """End it as a crash would."""
        self.process.kill()
        self.process.wait(20)
        for reader in self._readers:
            reader.join(20)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.kill()
        for reader in self._readers:
            reader.join(20)
        for pipe in (self.process.stdout, self.process.stderr):
            assert pipe is not None
            pipe.close()


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))

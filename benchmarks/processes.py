"""Helper processes of a contest: started with a pipe, bounded in their answers, ended with the contest."""

import multiprocessing
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from typing import Any

ANSWER_S = 30.0
_END_S = 15.0


class Helper:
    """The parent's end of the pipe to one process."""

    def __init__(self, connection: Connection, process: SpawnProcess) -> None:
        self._connection = connection
        self._process = process

    def tell(self, message: Any) -> None:
        """Send anything that pickles."""
        self._connection.send(message)

    def answer(self, within_s: float = ANSWER_S) -> Any:
        """What the process sent next; TimeoutError if there is nothing for long."""
        if not self._connection.poll(within_s):
            raise TimeoutError(f"a process of the benchmark did not answer within {within_s:g} s")
        return self._connection.recv()

    def kill(self) -> int:
        """End it with SIGKILL, now; the monotonic nanosecond at which that was done."""
        killed_ns = time.monotonic_ns()
        self._process.kill()
        self._process.join()
        return killed_ns


@contextmanager
def helper(target: Callable[..., None], *args: Any, say_goodbye: Callable[[], Any] | None = None) -> Iterator[Helper]:
    """Run `target(connection, *args)` in a new process, which says something once it is ready.

    At the end it is asked to leave with `say_goodbye`, or terminated where there is none or that does not help.
    """
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=target, args=(theirs, *args), daemon=True)
    process.start()
    theirs.close()
    try:
        child = Helper(ours, process)
        child.answer()
        yield child
        if say_goodbye is not None:
            say_goodbye()
            process.join(_END_S)
    finally:
        if process.is_alive():
            process.terminate()
            process.join(_END_S)
        if process.is_alive():
            process.kill()
            process.join()
        ours.close()

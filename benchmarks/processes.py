"""Helper processes of a contest: started with a pipe, bounded in their answers, ended with the contest."""

import multiprocessing
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import Any

ANSWER_S = 30.0
_END_S = 15.0


class Helper:
    """The parent's end of the pipe to one process."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def tell(self, message: Any) -> None:
        """Send anything that pickles."""
        self._connection.send(message)

    def answer(self) -> Any:
        """What the process sent next; TimeoutError if there is nothing for long."""
        if not self._connection.poll(ANSWER_S):
            raise TimeoutError(f"a process of the benchmark did not answer within {ANSWER_S:g} s")
        return self._connection.recv()


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
        child = Helper(ours)
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

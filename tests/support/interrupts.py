"""Ctrl-C at a chosen line of a thread, the same one each time."""

import linecache
import sys
from collections.abc import Callable, Iterator
from itertools import count
from types import FrameType
from typing import Any


class InterruptAt:
    """Raises KeyboardInterrupt at the n-th line that the calling thread runs in `watched` frames, as a signal would."""

    def __init__(self, line: int, watched: Callable[[FrameType], bool]) -> None:
        self.line = line
        self.left = line
        self._watched = watched

    def __call__(self, frame: FrameType, event: str, arg: Any) -> Any:
        if not self._watched(frame):
            return None
        # CPython takes no signal between the end of a `with` and its exit, where tracing stops once more.
        text = linecache.getline(frame.f_code.co_filename, frame.f_lineno).strip()
        if event == "line" and not text.startswith("with "):
            self.left -= 1
            if self.left == 0:
                sys.settrace(None)
                raise KeyboardInterrupt
        return self

    def during(self, work: Callable[[], object]) -> bool:
        """Run `work`; True if it was interrupted, False if it has fewer lines than that."""
        sys.settrace(self)
        try:
            work()
        except KeyboardInterrupt:
            return True
        finally:
            sys.settrace(None)
        return False


def at_each_line(watched: Callable[[FrameType], bool], *, at_least: int) -> Iterator[InterruptAt]:
    """An interrupt at the first line, one at the second, and so on until a work has no line left to be interrupted at.

    Each is for one `during`. Fails if the work has fewer than `at_least` lines: then too few were interrupted.
    """
    for line in count(1):
        interrupt = InterruptAt(line, watched)
        yield interrupt
        assert interrupt.left < line, "nothing that is watched was run"
        if interrupt.left > 0:
            assert line > at_least, f"only {line - 1} lines were interrupted"
            return

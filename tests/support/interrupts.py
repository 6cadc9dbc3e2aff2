"""Ctrl-C at a chosen line of a thread, the same one each time."""

import linecache
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any


class InterruptAt:
    """Raises KeyboardInterrupt at the n-th line that the calling thread runs in `watched` frames, as a signal would."""

    def __init__(self, line: int, watched: Callable[[FrameType], bool]) -> None:
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

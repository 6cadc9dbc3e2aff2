"""A signal at a chosen line of a thread, the same one each time."""

import linecache
import sys
from collections.abc import Callable, Iterator
from itertools import count
from opcode import opname
from types import FrameType, ModuleType
from typing import Any

from tests.support.extent import FULL


def raises() -> None:
    """The handler of Ctrl-C."""
    raise KeyboardInterrupt


def within(*modules: ModuleType) -> Callable[[FrameType], bool]:
    """True of the frames of these modules, and of what lies in these packages."""
    homes = [str(module.__file__).removesuffix("__init__.py") for module in modules]
    return lambda frame: frame.f_code.co_filename.startswith(tuple(homes))


def _interrupt() -> None:
    raise KeyboardInterrupt


class InterruptAt:
    """Calls `handler` at the n-th line that the calling thread runs in `watched` frames, as a signal would."""

    def __init__(self, line: int, watched: Callable[[FrameType], bool], handler: Callable[[], object] = raises) -> None:
        self.line = line
        self.left = line
        self._watched = watched
        self._handler = handler

    def __call__(self, frame: FrameType, event: str, arg: Any) -> Any:
        if not self._watched(frame):
            return None
        # CPython takes no signal between the end of a `with` and its exit, where tracing stops once more.
        text = linecache.getline(frame.f_code.co_filename, frame.f_lineno).strip()
        if event == "line" and not text.startswith("with "):
            self.left -= 1
            if self.left == 0:
                sys.settrace(None)
                self._handler()
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


def _interrupt() -> None:
    raise KeyboardInterrupt


class InterruptAtStep(InterruptAt):
    """Interrupts at the n-th place where CPython looks for signals: where a function begins, after a call, where a loop
    goes back. Nothing can come between the others.
    """

    def __call__(self, frame: FrameType, event: str, arg: Any) -> Any:
        if not self._watched(frame):
            return None
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        before = ""

        def step(frame: FrameType, event: str, arg: Any) -> Any:
            nonlocal before
            if event == "opcode":
                looks = before.startswith(("RESUME", "JUMP_BACKWARD", "CALL"))
                before = opname[frame.f_code.co_code[frame.f_lasti]]
                if looks:
                    self.left -= 1
                    if self.left == 0:
                        sys.settrace(None)
                        self._handler()
            return step

        return step


def at_each_line(
    watched: Callable[[FrameType], bool],
    *,
    at_least: int,
    handler: Callable[[], object] = raises,
    kind: type[InterruptAt] = InterruptAt,
    every: int = 1,
) -> Iterator[InterruptAt]:
    """An interrupt at the first line, one at the second, and so on until a work has no line left to be interrupted at.

    Each is for one `during`. Fails if the work has fewer than `at_least` lines: then too few were interrupted.
    """
    for line in count(1, every):
        interrupt = kind(line, watched, handler)
        yield interrupt
        assert interrupt.left < line or not at_least, "nothing that is watched was run"
        if interrupt.left > 0:
            assert line > at_least, f"only {line - 1} lines were interrupted"
            return


def at_each_step(
    watched: Callable[[FrameType], bool], *, at_least: int, handler: Callable[[], object] = raises, many: bool = False
) -> Iterator[InterruptAt]:
    """`at_each_line`, by the steps at which a signal may really come. Where they are `many`, the full suite alone tries
    them all, and otherwise each thirteenth is tried.
    """
    every = 13 if many and not FULL else 1
    if sys.version_info >= (3, 12):
        at_least = 0  # it traces fewer instructions
    return at_each_line(watched, at_least=at_least, handler=handler, kind=InterruptAtStep, every=every)

"""Waiting and working in threads, safe to be interrupted anywhere and to be entered again.

A signal handler, or a finalizer that the garbage collector runs, may call us in the middle of a call of ours on the
same thread; and a handler that raises may end that call at any line. `threading.Condition` and `threading.Event` do not
bear that: their lock is taken and freed in Python, so that it may stay taken. Here a wait is at a lock of its own,
state changes in single steps of the interpreter, and one thread does what must not be done twice at once.
"""

import threading
import time
from collections.abc import Callable


class Waiters:
    """The threads that wait for a change. `wake` after each; it waits for nothing."""

    def __init__(self) -> None:
        self._locks: set[threading.Lock] = set()

    def wake(self) -> None:
        """Have all that wait look again."""
        for lock in list(self._locks):
            free(lock)

    def wait_for(self, holds: Callable[[], object], timeout_s: float | None = None) -> bool:
        """Wait until `holds`, at most `timeout_s` seconds (None: however long that takes). True if it does."""
        until = None if timeout_s is None else time.monotonic() + timeout_s
        lock = held_lock()
        try:
            self._locks.add(lock)
            while not holds():
                left_s = -1.0 if until is None else until - time.monotonic()
                if until is not None and left_s <= 0:
                    return False
                lock.acquire(timeout=min(left_s, threading.TIMEOUT_MAX))
            return True
        finally:
            self._locks.discard(lock)


class Flag:
    """Set or not. What `threading.Event` is."""

    def __init__(self, is_set: bool = False) -> None:
        self._is_set = is_set
        self._waiters = Waiters()

    def is_set(self) -> bool:
        """True if it is set."""
        return self._is_set

    def set(self) -> None:
        """Set it, and wake all waiters."""
        self._is_set = True
        self._waiters.wake()

    def clear(self) -> None:
        """Unset it."""
        self._is_set = False

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait until it is set, at most `timeout_s` seconds (None: however long that takes). True if it is."""
        return self._waiters.wait_for(self.is_set, timeout_s)


class Attendant:
    """A daemon thread that does what there is to do, one thing after another, and ends when there is nothing.

    `work` does what is due and returns after how many seconds it is to be called again, or None if the thread may end.
    It ends only where `is_idle`; so state is to be changed first, then the attendant is called.
    """

    def __init__(self, work: Callable[[], float | None], is_idle: Callable[[], object], name: str) -> None:
        self._work = work
        self._is_idle = is_idle
        self._name = name
        # Held by the thread: of two that were started one ends at once. `Thread.is_alive` is not asked: once a handler
        # has raised in it, it is False for ever.
        self._present = threading.Lock()
        self._called = held_lock()
        self.thread: threading.Thread | None = None

    def call(self) -> None:
        """Have it look now."""
        free(self._called)
        self.see_to_it()

    def see_to_it(self) -> None:
        """Have it look when it would anyway."""
        if not self._present.locked():
            self.thread = thread = threading.Thread(target=self._attend, name=self._name, daemon=True)
            try:
                thread.start()
            except RuntimeError:
                # None can be had, now or, as the interpreter ends, any more. The next call tries again.
                self.thread = None

    def _attend(self) -> None:
        while self._present.acquire(blocking=False):
            try:
                while (rest_s := self._work()) is not None:
                    self.thread = threading.current_thread()  # which one that ended at once may have overwritten
                    self._called.acquire(timeout=rest_s)
            finally:
                self.thread = None
                self._present.release()
            if self._is_idle():
                return


def held_lock() -> threading.Lock:
    """A lock that another thread is to free: `acquire` waits for that."""
    lock = threading.Lock()
    lock.acquire()
    return lock


def free(lock: threading.Lock) -> None:
    """Free a lock; one that is free already stays so."""
    try:
        lock.release()
    except RuntimeError:
        return

"""What the main thread waits for: signals, and news of other threads. No signal is lost or interrupts its work."""

import contextlib
import os
import select
import signal
from collections.abc import Iterator
from types import FrameType

FORWARDED = (
    signal.SIGINT,
    signal.SIGTERM,
    signal.SIGHUP,
    signal.SIGQUIT,
    signal.SIGUSR1,
    signal.SIGUSR2,
    signal.SIGTSTP,
    signal.SIGCONT,
)
ENDING = frozenset({signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT})
_NEWS = 0


class Interrupted(KeyboardInterrupt):
    """A signal that asks us to end came while there was no command to pass it on to."""

    def __init__(self, number: int) -> None:
        self.number = number
        super().__init__(signal.Signals(number).name)


class Wakeups:
    """Made by the main thread, for itself. What was set to be ignored when we were started stays so, as for `nohup`."""

    def __init__(self) -> None:
        self._interrupting = False
        self._read, self._write = os.pipe()
        os.set_blocking(self._read, False)
        self._poll = select.poll()
        self._poll.register(self._read, select.POLLIN)
        os.set_blocking(self._write, False)
        self._fd_before = signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        self._before = {
            number: signal.signal(number, self._on_signal)
            for number in (*FORWARDED, signal.SIGCHLD)
            if number is signal.SIGCHLD or signal.getsignal(number) is not signal.SIG_IGN
        }

    def wake(self) -> None:
        """Wake the main thread, from any thread."""
        # A full pipe wakes it as well, and with a closed one there is nothing to wake.
        with contextlib.suppress(OSError):
            os.write(self._write, bytes((_NEWS,)))

    def wait(self, seconds: float | None) -> list[int]:
        """The signals that came, once one has, or other news, or the time is up."""
        self._poll.poll(None if seconds is None else max(0.0, seconds) * 1000)
        try:
            return [number for number in os.read(self._read, 4096) if number != _NEWS]
        except BlockingIOError:
            return []

    @contextlib.contextmanager
    def interrupting(self) -> Iterator[None]:
        """Within, a signal that asks us to end raises `Interrupted`, and one that asks us to stop stops us."""
        stop = signal.signal(signal.SIGTSTP, signal.SIG_DFL) if signal.SIGTSTP in self._before else None
        self._interrupting = True
        try:
            for number in self.wait(0):
                self._interrupt(number)
            yield
        except Interrupted:
            # It was handled: the next wait is for another.
            self.wait(0)
            raise
        finally:
            self._interrupting = False
            if stop is not None:
                signal.signal(signal.SIGTSTP, stop)

    def _on_signal(self, number: int, _: FrameType | None) -> None:
        if self._interrupting:
            self._interrupt(number)

    def _interrupt(self, number: int) -> None:
        if number in ENDING:
            # One is enough: what it interrupts tidies up, undisturbed.
            self._interrupting = False
            raise Interrupted(number)

    def close(self) -> None:
        """Put everything back."""
        for number, handler in self._before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._fd_before)
        read, write = self._read, self._write
        # A late `wake` finds no pipe, rather than another's.
        self._read = self._write = -1
        os.close(read)
        os.close(write)

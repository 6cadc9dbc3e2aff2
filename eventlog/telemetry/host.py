"""What a tree of processes uses, by the operating system: memory, processor and disk. Knows nothing of logs.

A child that began and ended between two samples is not seen, but what it used is: the kernel adds that to the parent
that waits for it (Linux: processor time and bytes; macOS reports neither for children). It is lost only where no
process in the tree waits for the child, or where a process leaves the tree by becoming a daemon.
"""

import os
import threading
import time
from collections.abc import Iterator
from typing import NamedTuple

from ..extras import imports_of
from ..plan.forks import OfOneProcess

with imports_of("telemetry", "HostMetrics"):
    import psutil

# The kernel counts processor time in steps of 10 ms: over less than a few of them it says nothing.
_SHORTEST_S = 0.05


class HostMetrics(OfOneProcess):
    """Samples the process `pid` (None: this one) and, with `children`, all that descend from it.

    The processor is measured since the sample before, the first since this object was made. Safe under threads.
    Processes that vanish, are zombies or belong to another user never make it raise; they count with what is known.
    """

    def __init__(self, pid: int | None = None, *, children: bool = True) -> None:
        self._children = children
        self._lock = threading.RLock()  # a signal handler may sample too
        self._read_bytes = self._write_bytes = 0
        try:
            self._root: psutil.Process | None = psutil.Process(os.getpid() if pid is None else pid)
        except (psutil.Error, ValueError, OverflowError):
            self._root = None
        self._before = self._look()
        self._before_s = time.monotonic()
        if self._before is not None:
            self._read_bytes, self._write_bytes = self._before.read_bytes or 0, self._before.write_bytes or 0

    def sample(self) -> dict[str, int | float] | None:
        """`rss_bytes`, `cpu_percent`, `io_read_bytes`, `io_write_bytes`; None once the process is gone.

        `rss_bytes` sums resident memory, pages that processes share counted for each; what has ended and was not waited
        for has none. `cpu_percent` is 100 for one core in use; it is left out where hardly any time has passed. Bytes
        are those of the disk since the processes began; they are left out where the system does not report them (macOS,
        processes of others).
        """
        with self._lock:
            now, now_s = self._look(), time.monotonic()
            if now is None:
                return None
            sample: dict[str, int | float] = {}
            if now.rss_bytes:
                sample["rss_bytes"] = now.rss_bytes
            before, passed_s = self._before or now, now_s - self._before_s
            if passed_s >= _SHORTEST_S:
                used_s = max(now.cpu_s - before.cpu_s, 0.0)
                sample["cpu_percent"] = round(used_s / passed_s * 100, 1)
                self._before_s = now_s
            else:
                now = now._replace(cpu_s=before.cpu_s)
            if now.read_bytes is not None and now.write_bytes is not None:
                # A process that left the tree takes its bytes along: the sums must not run back.
                self._read_bytes += max(now.read_bytes - (before.read_bytes or 0), 0)
                self._write_bytes += max(now.write_bytes - (before.write_bytes or 0), 0)
                sample["io_read_bytes"], sample["io_write_bytes"] = self._read_bytes, self._write_bytes
            self._before = now
            return sample or None

    def _look(self) -> "_Use | None":
        uses = [use for process in self._processes() if (use := _use_of(process)) is not None]
        if not uses:
            return None
        known = [use for use in uses if use.read_bytes is not None and use.write_bytes is not None]
        return _Use(
            sum(use.rss_bytes for use in uses),
            sum(use.cpu_s for use in uses),
            sum(use.read_bytes or 0 for use in known) if known else None,
            sum(use.write_bytes or 0 for use in known) if known else None,
        )

    def _processes(self) -> Iterator[psutil.Process]:
        root = self._root
        if root is None:
            return
        try:
            if not root.is_running():
                return
            descendants = root.children(recursive=True) if self._children else []
        except psutil.Error:
            descendants = []
        yield root
        yield from descendants


class _Use(NamedTuple):
    """What one process, or all of a tree, used until now."""

    rss_bytes: int
    cpu_s: float
    read_bytes: int | None
    write_bytes: int | None


def _use_of(process: psutil.Process) -> _Use | None:
    try:
        with process.oneshot():
            times = process.cpu_times()
            # Not all systems have the times of children.
            waited_for_s = getattr(times, "children_user", 0.0) + getattr(times, "children_system", 0.0)
            cpu_s = times.user + times.system + waited_for_s
            rss_bytes = process.memory_info().rss
    except (psutil.Error, OSError):
        return None
    read_bytes, write_bytes = _bytes_of(process)
    return _Use(rss_bytes, cpu_s, read_bytes, write_bytes)


def _bytes_of(process: psutil.Process) -> tuple[int | None, int | None]:
    try:
        counters = process.io_counters()
    except (AttributeError, NotImplementedError, psutil.Error, OSError):
        return None, None
    return counters.read_bytes, counters.write_bytes

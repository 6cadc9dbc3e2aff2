"""What a tree of processes uses, measured on real processes; and that nothing they do makes the measuring fail."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from eventlog.telemetry import host
from eventlog.telemetry.host import HostMetrics
from tests.support.redis_process import eventually

MIB = 1024 * 1024


@contextmanager
def running(source: str, *args: str) -> Iterator[subprocess.Popen[str]]:
    """A Python process of its own; what it prints can be read, and it may be written to."""
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(source), *args],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate(timeout=20)


def says(process: subprocess.Popen[str], word: str) -> None:
    assert process.stdout is not None
    assert process.stdout.readline().strip() == word


def tells(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


def of(metrics: HostMetrics) -> dict[str, int | float]:
    sample = metrics.sample()
    assert sample is not None
    return sample


def test_memory_is_that_of_the_process_and_all_that_descend_from_it() -> None:
    grandchild = f"import sys; a = b'x' * {60 * MIB}; print('up', flush=True); sys.stdin.readline()"
    child = f"""
        import subprocess, sys
        p = subprocess.Popen([sys.executable, "-c", {grandchild!r}], stdout=subprocess.PIPE)
        p.stdout.readline()
        print("up", flush=True)
        p.wait()
    """
    with running(child) as process:
        says(process, "up")
        whole, alone = HostMetrics(process.pid), HostMetrics(process.pid, children=False)
        assert of(whole)["rss_bytes"] > 60 * MIB
        assert of(alone)["rss_bytes"] < 60 * MIB


def test_the_first_processor_time_is_measured_since_the_object_was_made(monkeypatch: pytest.MonkeyPatch) -> None:
    with running("print('up', flush=True)\nwhile True: pass") as process:
        says(process, "up")
        metrics = HostMetrics(process.pid)
        with monkeypatch.context() as patched:
            patched.setattr(host, "_SHORTEST_S", 60.0)
            assert "cpu_percent" not in of(metrics), "hardly any time has passed: 0 would be a lie"
        time.sleep(0.3)  # the process has to use some of it
        assert of(metrics)["cpu_percent"] > 5


def test_processor_time_is_that_since_the_sample_before() -> None:
    with running(
        "import sys\nend = 0\nprint('up', flush=True)\nsys.stdin.readline()\n"
        "import time\nt = time.process_time()\nwhile time.process_time() < t + 0.5: pass\n"
        "print('worked', flush=True)\nsys.stdin.readline()"
    ) as process:
        says(process, "up")
        metrics = HostMetrics(process.pid)
        tells(process)
        says(process, "worked")
        assert of(metrics)["cpu_percent"] > 5
        time.sleep(0.2)
        assert of(metrics)["cpu_percent"] == 0


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux adds a child's use to the parent that waited for it")
def test_children_that_began_and_ended_between_two_samples_count() -> None:
    work = "import time; t = time.process_time()\\nwhile time.process_time() < t + 0.1: pass"
    child = f"""
        import subprocess, sys
        print("up", flush=True); sys.stdin.readline()
        for _ in range(4):
            subprocess.run([sys.executable, "-c", "{work}"], check=True)
        print("worked", flush=True); sys.stdin.readline()
    """
    with running(child) as process:
        says(process, "up")
        metrics = HostMetrics(process.pid)
        began_s = time.monotonic()
        tells(process)
        says(process, "worked")
        used_s = of(metrics)["cpu_percent"] / 100 * (time.monotonic() - began_s)
        assert used_s > 0.35


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells the bytes of each process")
def test_bytes_written_are_cumulative_and_never_run_back(tmp_path: Path) -> None:
    work = f"""
import os
with open(r"{tmp_path}/f", "ab") as f:
    f.write(os.urandom({4 * MIB})); f.flush(); os.fsync(f.fileno())
"""
    child = f"""
        import subprocess, sys
        print("up", flush=True)
        while sys.stdin.readline():
            subprocess.run([sys.executable, "-c", {work!r}], check=True)
            print("written", flush=True)
    """
    with running(child) as process:
        says(process, "up")
        metrics = HostMetrics(process.pid)
        if "io_write_bytes" not in of(metrics):
            pytest.skip("the system does not tell bytes here")
        written = [of(metrics)["io_write_bytes"]]
        for _ in range(2):
            tells(process)
            says(process, "written")
            written.append(of(metrics)["io_write_bytes"])
        assert written == sorted(written)
        grown = written[-1] - written[0]
        assert grown >= 8 * MIB or grown == 0, "what its children wrote, unless the file never comes to a disk"
        (tmp_path / "f").unlink()


def test_what_left_the_tree_takes_nothing_back(monkeypatch: pytest.MonkeyPatch) -> None:
    metrics = HostMetrics()
    tree = [_Fake(read=100, write=10, cpu_s=1.0), _Fake(read=50, write=5, cpu_s=2.0)]
    monkeypatch.setattr(metrics, "_processes", lambda: iter(tree))
    before = of(metrics)
    tree.pop()
    time.sleep(0.06)  # a span over which processor time means something
    after = of(metrics)
    assert (after["io_read_bytes"], after["io_write_bytes"]) == (before["io_read_bytes"], before["io_write_bytes"])
    assert after["cpu_percent"] == 0
    tree[0].read += 7
    assert of(metrics)["io_read_bytes"] == before["io_read_bytes"] + 7


def test_bytes_that_the_system_does_not_tell_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    metrics = HostMetrics()
    for failure in (AttributeError("io_counters"), NotImplementedError(), psutil.AccessDenied(1), OSError(5, "no")):
        monkeypatch.setattr(metrics, "_processes", lambda failure=failure: iter([_Fake(io_failure=failure)]))
        assert of(metrics).keys() <= {"rss_bytes", "cpu_percent"}


@pytest.mark.parametrize(
    "failure", [psutil.NoSuchProcess(1), psutil.ZombieProcess(1), psutil.AccessDenied(1), ProcessLookupError()]
)
def test_a_process_that_vanishes_or_is_not_ours_leaves_the_others(
    monkeypatch: pytest.MonkeyPatch, failure: Exception
) -> None:
    metrics = HostMetrics()
    monkeypatch.setattr(metrics, "_processes", lambda: iter([_Fake(failure=failure), _Fake(rss=9)]))
    assert of(metrics)["rss_bytes"] == 9
    monkeypatch.setattr(metrics, "_processes", lambda: iter([_Fake(failure=failure)]))
    assert metrics.sample() is None


def test_a_process_that_is_gone_has_no_samples() -> None:
    with running("import sys; sys.stdin.readline()") as process:
        metrics = HostMetrics(process.pid)
        assert of(metrics)["rss_bytes"] > 0
        process.kill()
        process.wait(20)
        assert metrics.sample() is None
    assert HostMetrics(2**22 + 5).sample() is None
    assert HostMetrics(-1).sample() is None


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs zombies")
def test_a_zombie_tells_what_it_used_but_no_memory() -> None:
    with running("pass") as process:
        metrics = HostMetrics(process.pid)
        # Ended, and not waited for: communicate() comes later.
        eventually(lambda: _state(process.pid) == psutil.STATUS_ZOMBIE, "the process is a zombie")
        sample = metrics.sample()
        assert sample is None or "rss_bytes" not in sample, "it has no memory, which says nothing of what it had"


def test_a_tree_that_changes_all_the_time_is_sampled_without_an_error() -> None:
    child = """
        import subprocess, sys
        print("up", flush=True)
        while True:
            some = [subprocess.Popen([sys.executable, "-S", "-c", "pass"]) for _ in range(3)]
            for p in some: p.wait()
    """
    with running(child) as process:
        says(process, "up")
        metrics = HostMetrics(process.pid)
        until = time.monotonic() + 1.0
        while time.monotonic() < until:
            sample = of(metrics)
            assert sample["rss_bytes"] > 0
            assert sample.get("cpu_percent", 0) >= 0
        process.send_signal(signal.SIGKILL)


def test_this_process_is_the_one_that_is_meant_unless_another_is_named() -> None:
    mine = of(HostMetrics(children=False))["rss_bytes"]
    assert mine == pytest.approx(psutil.Process().memory_info().rss, rel=0.2)


def _state(pid: int) -> str:
    return str(psutil.Process(pid).status())


class _Fake:
    """Stands in for a process whose numbers the test sets."""

    def __init__(
        self,
        rss: int = 1,
        cpu_s: float = 0.0,
        read: int = 0,
        write: int = 0,
        failure: Exception | None = None,
        io_failure: Exception | None = None,
    ) -> None:
        self.rss, self.cpu_s, self.read, self.write = rss, cpu_s, read, write
        self._failure, self._io_failure = failure, io_failure

    @contextmanager
    def oneshot(self) -> Iterator[None]:
        yield

    def cpu_times(self) -> "_Fake":
        if self._failure is not None:
            raise self._failure
        return self

    def memory_info(self) -> "_Fake":
        return self

    def io_counters(self) -> "_Fake":
        if self._io_failure is not None:
            raise self._io_failure
        return self

    user = property(lambda self: self.cpu_s)
    system = 0.0
    read_bytes = property(lambda self: self.read)
    write_bytes = property(lambda self: self.write)

"""`eventlog demo`: real processes on one log, all of them gone when it ends, and the log goes on where it was."""

import fcntl
import os
import pty
import re
import select
import signal
import socket
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from eventlog import EventLogConfig
from eventlog.demo.show import DemoOptions, _introduction

from .conftest import Here
from .program import PATIENCE_S, Program, Running
from .serving import free_port

WORKERS = {"agent", "builder", "counter"}


@pytest.fixture
def demo_dir(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
def demo(demo_dir: Path) -> Program:
    return Program({"EVENTLOG_DATA_DIR": str(demo_dir), "EVENTLOG_PORT": "0"})


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Program, Running]]:
    """A demo that runs until all tests have looked at it, and the command line beside it."""
    program = Program({"EVENTLOG_DATA_DIR": str(tmp_path_factory.mktemp("demo")), "EVENTLOG_PORT": "0"})
    with program.start("demo", "--pace", "0.05") as running:
        running.until(lambda: _all_started(running), "the fleet")
        yield program, running
        running.signal(signal.SIGINT)
        assert running.end() == 0


# One process of the tests has them all, so there is one demo.
LOOKS = pytest.mark.xdist_group("demo")


def _family(running: Running) -> list[psutil.Process]:
    return psutil.Process(running.process.pid).children(recursive=True)


def _all_started(running: Running) -> bool:
    try:
        commands = [" ".join(process.cmdline()) for process in _alive(_family(running))]
    except psutil.NoSuchProcess:  # one of the fleet's commands ended while it was looked at
        return False
    return all(any(f"eventlog.demo.{worker}" in command for command in commands) for worker in WORKERS)


def _alive(processes: list[psutil.Process]) -> list[psutil.Process]:
    return [one for one in processes if one.is_running() and one.status() != psutil.STATUS_ZOMBIE]


def _redis_pid(data_dir: Path) -> int:
    return int((data_dir / "redis.pid").read_text())


def _url(running: Running) -> str:
    running.until(lambda: any("The server:" in line for line in running.out), "the URL")
    found = re.search(r"http://127\.0\.0\.1:\d+", "\n".join(running.out))
    assert found is not None
    return found[0]


def _nothing_left(processes: list[psutil.Process], data_dir: Path, url: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while _alive(processes) or (data_dir / "redis.sock").exists():
        assert time.monotonic() < deadline, f"left: {_alive(processes)}, {list(data_dir.iterdir())}"
        time.sleep(0.02)
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", int(url.rpartition(":")[2]))) != 0


def _events(lines: list[str]) -> Iterator[int]:
    for line in lines:
        found = re.match(r"[\d-]+ [\d:.]+ #(\d+) ", line)
        if found is not None:
            yield int(found[1])


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_everything_in_a_moment(how: int, demo: Program, demo_dir: Path) -> None:
    with demo.start("demo", "--pace", "0.05") as running:
        url = _url(running)
        running.until(lambda: _all_started(running), "the fleet")
        running.until(lambda: len(list(_events(running.out))) > 20, "some events")
        everybody = [*_family(running), psutil.Process(_redis_pid(demo_dir))]
        assert len(everybody) >= 7
        asked = time.monotonic()
        running.signal(how)
        assert running.end() == 0
        assert time.monotonic() - asked < 8.0
        assert running.err == []
        _nothing_left(everybody, demo_dir, url)
        assert list(_events(running.out)) == list(range(1, len(list(_events(running.out))) + 1))


def test_a_second_demo_continues_at_the_next_offset(demo: Program, demo_dir: Path) -> None:
    with demo.start("demo", "--pace", "0.05") as first:
        first.until(lambda: list(_events(first.out)), "an event")
        first.signal(signal.SIGTERM)
        assert first.end() == 0
    assert any("begins at offset 1" in line for line in first.out)
    seen = list(_events(first.out))
    assert seen[0] == 1
    assert not (demo_dir / "redis.sock").exists()
    with demo.start("demo", "--pace", "0.05") as running:
        running.until(lambda: list(_events(running.out)), "an event")
        start = next(int(found[1]) for line in running.out if (found := re.search(r"continues at offset (\d+)", line)))
        # What the fleet says as it stops is appended after the view has ended.
        assert start > seen[-1]
        assert next(_events(running.out)) == start
        running.signal(signal.SIGTERM)
        assert running.end() == 0
    audit = demo("verify")
    assert audit.returncode == 0, audit.stdout


@LOOKS
def test_processes_of_every_kind_append_and_can_be_followed_from_outside(shown: tuple[Program, Running]) -> None:
    demo, running = shown
    url = _url(running)
    wanted = {"atlas", "boreas", "comet", "builder", "counter"}
    sources: set[str] = set()
    with demo.start("follow", "--url", url, "-o", "json") as follower, httpx.Client(trust_env=False) as client:
        with client.stream("GET", f"{url}/v1/workspaces/default/events/stream?since=0", timeout=PATIENCE_S) as stream:
            for line in stream.iter_lines():
                found = re.search(r'"source":"(\w+)"', line)
                sources |= {found[1]} if found is not None else set()
                if sources >= wanted:
                    break
        assert len(follower.lines(10)) >= 10


def test_it_ends_by_itself_after_the_time_that_it_is_given(demo: Program, demo_dir: Path) -> None:
    done = demo("demo", "--duration", "1", "--pace", "0.05")
    assert done.returncode == 0, done.stderr
    assert not (demo_dir / "redis.sock").exists()


@LOOKS
def test_the_builders_hold_their_slot_one_at_a_time(shown: tuple[Program, Running]) -> None:
    _, running = shown
    everybody = {"builder", "mason", "joiner"}
    running.until(lambda: _who_succeeded(running.out) == everybody, "a stage of every builder")
    kinds = re.findall(r" (slot\.granted|slot\.released) ", "\n".join(running.out))
    assert len(kinds) >= 6
    assert kinds == ["slot.granted", "slot.released"] * (len(kinds) // 2) + ["slot.granted"] * (len(kinds) % 2)


def _sources(lines: list[str]) -> set[str]:
    return set(re.findall(r" source=(\w+) ", "\n".join(lines)))


def _who_succeeded(lines: list[str]) -> set[str]:
    return set(re.findall(r" stage\.succeeded .* source=(\w+) ", "\n".join(lines)))


@LOOKS
def test_the_builders_runs_have_stages_and_samples_to_look_at(shown: tuple[Program, Running]) -> None:
    demo, running = shown
    url = _url(running)
    running.until(lambda: any(" stage.succeeded " in line for line in running.out), "a stage that is done")
    [line] = [line for line in running.out if " stage.succeeded " in line][:1]
    found = re.search(r" ([\w-]+)/main:\d+ ", line)
    assert found is not None
    with httpx.Client(base_url=f"{url}/v1/workspaces/default/runs/{found[1]}", trust_env=False) as client:
        stages = client.get("/stages").json()["stages"]
        telemetry = client.get("/telemetry").json()
    table = demo("runs", "show", found[1], "--url", url)
    assert [(stage["stage_name"], stage["depends_on"]) for stage in stages] == [
        ("check", []),
        ("measure", ["check"]),
        ("package", ["measure"]),
    ]
    assert stages[0]["status"] == "succeeded"
    assert telemetry["next_seq"] > 0
    assert table.returncode == 0, table.stderr
    assert {"check", "measure", "package"} <= set(table.stdout.decode().split())


def test_a_demo_that_is_killed_leaves_nobody_working_for_ever(demo: Program, demo_dir: Path) -> None:
    with demo.start("demo", "--pace", "0.05") as running:
        url = _url(running)
        running.until(lambda: _all_started(running), "the fleet")
        everybody = [*_family(running), psutil.Process(_redis_pid(demo_dir))]
        os.kill(running.process.pid, signal.SIGKILL)
        _nothing_left(everybody, demo_dir, url)


def test_a_port_that_is_taken_is_told_and_another_is_used(demo: Program) -> None:
    with socket.socket() as other:
        port = free_port()
        other.bind(("127.0.0.1", port))
        other.listen()
        with demo.start("demo", "--port", str(port)) as running:
            assert not _url(running).endswith(f":{port}")
            assert running.out[0].startswith(f"Port {port} is taken; using ")
            running.signal(signal.SIGINT)
            assert running.end() == 0


@LOOKS
def test_a_worker_that_dies_is_told_and_the_demo_goes_on(shown: tuple[Program, Running]) -> None:
    _, running = shown
    running.until(lambda: "atlas" in _sources(running.out), "an event of the one that is to die")
    agent = next(one for one in _family(running) if "atlas" in one.cmdline())
    agent.kill()
    running.until(lambda: "atlas ended with exit code -9" in running.err, "a word about it")
    seen = len(running.out)
    running.until(lambda: len(running.out) > seen, "events after that")


def test_a_reader_of_the_demo_that_goes_away_ends_it(demo: Program, demo_dir: Path) -> None:
    command = [sys.executable, "-m", "eventlog", "demo", "--pace", "0.05"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=demo.environ, start_new_session=True
    ) as running:
        assert running.stdout is not None
        assert running.stderr is not None
        while not re.search(rb"#\d+ ", running.stdout.readline()):
            assert running.poll() is None
        everybody = psutil.Process(running.pid).children(recursive=True)
        running.stdout.close()
        assert running.wait(PATIENCE_S) == 0
        assert running.stderr.read() == b""
    assert _alive(everybody) == []
    assert not (demo_dir / "redis.sock").exists()


def test_on_a_terminal_the_last_events_stand_in_a_table_and_ctrl_c_ends_it(variables: dict[str, str]) -> None:
    program = Program({**variables, "TERM": "xterm"})
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
    with subprocess.Popen(
        [sys.executable, "-m", "eventlog", "demo", "--port", "0", "--pace", "0.05"],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=program.environ,
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    ) as running:
        os.close(theirs)
        seen = b""
        deadline = time.monotonic() + PATIENCE_S
        while not re.search(rb"events, [\d.]+ a second: .*builder", seen) or b"run/lane:seq" not in seen:
            assert time.monotonic() < deadline, seen[-2000:]
            seen += _read(ours)
        everybody = psutil.Process(running.pid).children(recursive=True)
        os.write(ours, b"\x03")
        while running.poll() is None:
            assert time.monotonic() < deadline, seen[-2000:]
            seen += _read(ours)
        assert running.returncode == 0
    os.close(ours)
    assert b"the Redis of EVENTLOG_REDIS_URL" in seen
    assert b"Traceback" not in seen
    assert _alive(everybody) == []


def _read(terminal: int) -> bytes:
    if not select.select([terminal], [], [], 0.1)[0]:
        return b""
    try:
        return os.read(terminal, 65536)
    except OSError:
        # Linux's way to say that nobody has the other end open any more.
        return b""


@pytest.mark.parametrize(
    ("args", "extra", "said"),
    [
        (["--port", "x"], {}, "--port"),
        (["--pace", "-1"], {}, "pace: "),
        ([], {"EVENTLOG_PORT": "99999"}, "EVENTLOG_PORT: '99999' is not a port"),
        (["-w", "a b"], {}, "workspace: "),
    ],
)
def test_bad_input_is_named(
    args: list[str], extra: dict[str, str], said: str, here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in extra.items():
        monkeypatch.setenv(name, value)
    done = here("demo", *args)
    assert done.returncode == 2
    assert said in done.stderr.decode()


def test_what_to_try_shows_no_password() -> None:
    url = "redis://me:secret@redis.example:1/0"
    text = _introduction(DemoOptions(EventLogConfig(redis_url=url), 0, None, 0.5), "http://h", url, "there", 0)
    assert "secret" not in text
    assert "slots show build --url redis://…@redis.example:1/0" in text


def test_the_tether_ends_its_module_when_the_other_end_is_gone(tmp_path: Path) -> None:
    (tmp_path / "sleeper.py").write_text("import time\nprint('up', flush=True)\ntime.sleep(600)\n")
    environ = {**os.environ, "PYTHONPATH": f"{tmp_path}:{Path(__file__).resolve().parents[2]}"}
    with Running([sys.executable, "-m", "eventlog.demo.tether", "sleeper"], environ) as running:
        assert running.lines(1) == ["up"]
        assert running.process.stdin is not None
        running.process.stdin.close()
        assert running.end() == -signal.SIGTERM

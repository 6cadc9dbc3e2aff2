"""What happens when a user, the supervisor or the server dies, or the server does not start."""

import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from eventlog.embedded import EmbeddedRedis, EmbeddedRedisError, find_redis_server
from eventlog.embedded.locks import FileLock, is_locked
from tests.embedded.processes import (
    PATIENCE_S,
    User,
    eventually,
    get,
    lives,
    pid_in,
    pongs,
    put,
    server_pid,
    supervisor_pid,
)

Program = Callable[[str, str], Path]
VERSION = "test \"$1\" = --version && echo 'Redis server v=7.2.4 sha=0' && exit"


def test_a_killed_users_server_goes_away_by_itself(data_dir: Path) -> None:
    with User(data_dir) as user:
        put(user.url, "k", "v")
        supervisor = pid_in(data_dir, "supervisor.pid")
        user.kill()
        eventually(lambda: not lives(user.server_pid), "the server is gone")
        eventually(lambda: not lives(supervisor), "the supervisor is gone")
    with EmbeddedRedis.start(data_dir) as server:
        assert get(server.url, "k") == "v"


def test_stale_files_of_a_crash_do_not_matter(data_dir: Path) -> None:
    EmbeddedRedis.start(data_dir).close()
    for name in ("redis.pid", "supervisor.pid"):
        (data_dir / name).write_text(f"{os.getpid()}\n")
    for name in ("redis.sock", "redis.conf"):
        (data_dir / name).write_text("nonsense")
    with EmbeddedRedis.start(data_dir) as server:
        assert pongs(server.url)


def test_after_the_supervisor_was_killed_the_next_start_works(data_dir: Path) -> None:
    with EmbeddedRedis.start(data_dir) as server:
        put(server.url, "k", "v")
        before = server_pid(server)
        os.kill(supervisor_pid(server), signal.SIGKILL)
        # Not until its pid is gone: of its two threads one may live, with the lock, a little longer.
        eventually(lambda: not is_locked(data_dir / "supervisor.lock"), "the supervisor is gone")
        with EmbeddedRedis.start(data_dir) as again:
            eventually(lambda: not lives(before), "the server that lost its supervisor is gone")
            assert get(again.url, "k") == "v"
            # The first share is one of the new server, too.
            assert server.pid == again.pid


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="only Linux signals a child when its parent dies")
def test_a_killed_supervisor_takes_its_server_along(data_dir: Path) -> None:
    with EmbeddedRedis.start(data_dir) as server:
        before = server_pid(server)
        os.kill(supervisor_pid(server), signal.SIGKILL)
        eventually(lambda: not lives(before), "the server is gone")


def test_a_supervisor_that_gets_a_signal_stops_its_server(data_dir: Path) -> None:
    with EmbeddedRedis.start(data_dir) as server:
        before, supervisor = server_pid(server), supervisor_pid(server)
        os.kill(supervisor, signal.SIGTERM)
        eventually(lambda: not lives(before) and not lives(supervisor), "both are gone")
        assert not (data_dir / "redis.sock").exists()


def test_a_server_without_a_supervisor_is_shut_down_before_a_start(data_dir: Path) -> None:
    EmbeddedRedis.start(data_dir).close()
    with FileLock(data_dir / "server.lock") as lock:
        assert lock.try_exclusive()
        orphan = subprocess.Popen([find_redis_server().path, data_dir / "redis.conf"], pass_fds=[lock.fileno()])
    url = f"unix://{data_dir}/redis.sock"
    eventually(lambda: pongs(url), "the orphan answers")
    put(url, "k", "v")
    with EmbeddedRedis.start(data_dir) as server:
        assert orphan.wait(PATIENCE_S) == 0
        assert server.pid != orphan.pid
        assert get(server.url, "k") == "v"


def test_a_killed_server_comes_back_by_itself_with_its_data(data_dir: Path) -> None:
    with EmbeddedRedis.start(data_dir) as server:
        put(server.url, "k", "v")
        before, supervisor = server_pid(server), supervisor_pid(server)
        os.kill(before, signal.SIGKILL)
        eventually(lambda: not lives(before) and pongs(server.url), "the server is back")
        assert get(server.url, "k") == "v"
        assert server_pid(server) != before
        assert supervisor_pid(server) == supervisor


def test_a_frozen_server_is_killed_in_the_end(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = Path(EmbeddedRedis.start.__func__.__code__.co_filename).with_name("supervisor.py")  # type: ignore[attr-defined]
    impatient = data_dir.parent / "supervisor.py"
    impatient.write_text(source.read_text().replace("STOP_S = 10.0", "STOP_S = 0.2"))
    monkeypatch.setattr("eventlog.embedded.supervisor.__file__", str(impatient))
    server = EmbeddedRedis.start(data_dir)
    pid = server_pid(server)
    os.kill(pid, signal.SIGSTOP)
    server.close()
    assert not lives(pid)
    assert "did not stop" in (data_dir / "redis.log").read_text()


def test_a_server_that_fails_again_and_again_is_reported_with_its_words(program: Program, data_dir: Path) -> None:
    program("redis-server", f"{VERSION}\necho 'Fatal: the dog ate it' >&2; exit 7")
    for _ in range(2):
        with pytest.raises(EmbeddedRedisError, match="could not be started") as raised:
            EmbeddedRedis.start(data_dir)
        assert raised.value.log_tail.count("the dog ate it") == 5
        assert "ended with status 7" in str(raised.value)
        assert list(data_dir.glob("*.pid")) == []


def test_a_server_that_never_answers_is_given_up_and_stopped(program: Program, data_dir: Path) -> None:
    program("redis-server", f'{VERSION}\necho $$ > "{data_dir}/fake"; exec /bin/sleep 60')
    with pytest.raises(EmbeddedRedisError, match=r"not ready within 0\.5 s"):
        EmbeddedRedis.start(data_dir, timeout_s=0.5)
    eventually(lambda: not lives(pid_in(data_dir, "fake")), "the silent server is gone")


def test_damaged_data_is_reported_with_the_servers_words(data_dir: Path) -> None:
    EmbeddedRedis.start(data_dir).close()
    for base in (data_dir / "appendonlydir").glob("*.base.rdb"):
        base.write_bytes(b"REDIS0012" + b"nonsense" * 20)
    with pytest.raises(EmbeddedRedisError, match="could not be started") as raised:
        EmbeddedRedis.start(data_dir)
    assert "appendonly" in raised.value.log_tail


def test_a_start_that_another_process_holds_up_ends_in_time(data_dir: Path) -> None:
    EmbeddedRedis.start(data_dir).close()
    with FileLock(data_dir / "start.lock") as lock:
        assert lock.try_exclusive()
        with pytest.raises(EmbeddedRedisError, match="another process is still starting"):
            EmbeddedRedis.start(data_dir, timeout_s=0.1)


def test_a_start_right_after_the_last_user_left_waits_its_turn(data_dir: Path) -> None:
    for _ in range(3):
        with User(data_dir) as user:
            user.kill()
        with EmbeddedRedis.start(data_dir) as server:
            assert pongs(server.url)

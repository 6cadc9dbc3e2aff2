"""Starting, using, sharing and leaving the embedded Redis."""

import errno
import gc
import logging
import os
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from eventlog.embedded import EmbeddedRedis, EmbeddedRedisError, wire
from eventlog.embedded.binary import installed_wheels
from tests.embedded.processes import (
    User,
    answering_pid,
    client,
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


def test_it_starts_and_answers(data_dir: Path) -> None:
    with EmbeddedRedis.start(data_dir) as server:
        assert pongs(server.url)
        assert server.data_dir == data_dir
        assert server.url == f"unix://{data_dir}/redis.sock"
        with client(server.url) as connection:
            about = connection.info("server")
        assert about["process_id"] == server.pid
        assert (about.get("valkey_version") or about["redis_version"]) == server.server_version


def test_it_keeps_its_settings_and_is_closed_to_others(data_dir: Path) -> None:
    with EmbeddedRedis.start(data_dir, appendfsync="always", maxmemory="64mb") as server:
        with client(server.url) as connection:
            found = connection.config_get("*")
        assert (found["appendonly"], found["appendfsync"], found["save"]) == ("yes", "always", "")
        assert (found["maxmemory"], found["maxmemory-policy"]) == (str(64 * 2**20), "noeviction")
        assert (found["port"], found["databases"], found["daemonize"]) == ("0", "1", "no")
        assert stat.S_IMODE(data_dir.stat().st_mode) == 0o700
        assert stat.S_IMODE((data_dir / "redis.sock").stat().st_mode) == 0o600


@pytest.mark.parametrize("path", [path for _, path in installed_wheels()], ids=lambda path: path.name)
def test_a_server_on_path_does_as_well(path: Path, program: Program, data_dir: Path) -> None:
    program(path.name, f'exec {path} "$@"')
    with EmbeddedRedis.start(data_dir) as server:
        assert path.name == f"{server.server_name}-server"
        put(server.url, "k", "v")
    with EmbeddedRedis.start(data_dir) as server:
        assert get(server.url, "k") == "v"


def test_data_survives_a_stop_and_a_start(data_dir: Path) -> None:
    with EmbeddedRedis.start(data_dir) as server:
        put(server.url, "k", "v")
        first = server.pid
    with EmbeddedRedis.start(data_dir) as server:
        assert server.pid != first
        assert get(server.url, "k") == "v"


def test_a_start_waits_until_much_data_is_loaded(data_dir: Path) -> None:
    fill = "for i = 1, 100000 do redis.call('XADD', KEYS[1], '*', 'i', i) end"
    with EmbeddedRedis.start(data_dir) as server, client(server.url) as connection:
        connection.eval(fill, 1, "s")
    with EmbeddedRedis.start(data_dir) as server, client(server.url) as connection:
        assert connection.xlen("s") == 100_000


def test_a_start_whose_settings_are_as_before_needs_no_room_on_the_disk(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    EmbeddedRedis.start(data_dir).close()

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    EmbeddedRedis.start(data_dir).close()
    with pytest.raises(EmbeddedRedisError, match="No space left"):
        EmbeddedRedis.start(data_dir, maxmemory="1gb")


@pytest.mark.parametrize("stuck", [False, True])
def test_a_load_may_take_longer_than_the_time_for_a_start_while_it_gets_on(
    stuck: bool, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = 0

    def is_ready(*_: object, **__: object) -> bool:
        if loaded == 100:
            return True
        raise wire.NoAnswer("", code="LOADING")

    def info(*_: object, **__: object) -> dict[str, str]:
        nonlocal loaded
        loaded += not stuck
        return {"loading_loaded_bytes": str(loaded)}

    EmbeddedRedis.start(data_dir).close()
    monkeypatch.setattr(wire, "is_ready", is_ready)
    monkeypatch.setattr(wire, "info", info)
    if stuck:
        with pytest.raises(EmbeddedRedisError, match="still loading"):
            EmbeddedRedis.start(data_dir, timeout_s=0.3)
    else:
        EmbeddedRedis.start(data_dir, timeout_s=0.3).close()


def test_the_last_to_leave_stops_everything(data_dir: Path) -> None:
    server = EmbeddedRedis.start(data_dir)
    pids = [server_pid(server), supervisor_pid(server)]
    server.close()
    assert server.pid is None
    assert not (data_dir / "redis.sock").exists()
    assert list(data_dir.glob("*.pid")) == []
    assert not lives(pids[0])
    eventually(lambda: not lives(pids[1]), "the supervisor is gone")
    server.close()


def test_a_second_share_in_the_process_keeps_the_server(data_dir: Path) -> None:
    first = EmbeddedRedis.start(data_dir)
    second = EmbeddedRedis.start(data_dir)
    pid = first.pid
    assert second.pid == pid
    first.close()
    assert second.pid == pid
    assert pongs(second.url)
    second.close()
    assert second.pid is None


def test_a_second_process_shares_the_server_and_the_first_may_leave(data_dir: Path) -> None:
    with User(data_dir) as first, User(data_dir) as second:
        assert first.server_pid == second.server_pid
        first.leave()
        assert pongs(second.url)
        assert answering_pid(second.url) == second.server_pid
        second.leave()
        assert not lives(second.server_pid)
        assert not (data_dir / "redis.sock").exists()


def test_many_that_start_at_the_same_instant_share_one_server(data_dir: Path) -> None:
    users = [User(data_dir) for _ in range(6)]
    try:
        for user in users:
            user.begin()
        assert len({user.wait_ready().server_pid for user in users}) == 1
        for user in users:
            user.leave()
        assert not lives(users[0].server_pid)
    finally:
        for user in users:
            user.__exit__(None, None, None)


def test_threads_may_start_and_close_at_once(data_dir: Path) -> None:
    pids: list[int | None] = []
    together = threading.Barrier(6)

    def use() -> None:
        together.wait()
        with EmbeddedRedis.start(data_dir) as server:
            pids.append(server.pid)
            together.wait()

    threads = [threading.Thread(target=use) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(pids) == 6
    assert len(set(pids)) == 1
    eventually(lambda: not lives(pids[0]), "the server is gone")


def test_starts_and_stops_in_quick_turn_always_give_a_server(data_dir: Path) -> None:
    def turn() -> None:
        for _ in range(5):
            with EmbeddedRedis.start(data_dir) as server:
                answers.append(pongs(server.url))

    answers: list[bool] = []
    threads = [threading.Thread(target=turn) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [True] * 15


def test_a_forgotten_close_is_made_up_for_at_exit(data_dir: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from eventlog.embedded import EmbeddedRedis\n"
        "server = EmbeddedRedis.start(Path(sys.argv[1])); print(server.pid)"
    )
    ended = subprocess.run(
        [sys.executable, "-c", script, data_dir],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert not lives(int(ended.stdout))
    assert ended.stderr == ""


def test_a_dropped_share_is_given_back(data_dir: Path) -> None:
    server = EmbeddedRedis.start(data_dir)
    pid = server.pid
    del server
    gc.collect()
    eventually(lambda: not lives(pid), "the server is gone")


FORK = """
import os, sys
parent = server.pid
child = os.fork()
if child == 0:
    {child}
assert os.waitpid(child, 0)[1] == 0
assert server.pid == parent
"""


@pytest.mark.parametrize("child", ["server.close(); os._exit(0)", "sys.exit(0)", "os._exit(0)"])
def test_a_forked_child_that_ends_does_not_stop_its_parents_server(child: str, data_dir: Path) -> None:
    with User(data_dir, after=FORK.format(child=child)) as user:
        assert pongs(user.url)
        user.leave()
        assert not lives(user.server_pid)


def test_a_forked_child_keeps_the_server_when_its_parent_dies(data_dir: Path) -> None:
    reader, writer = os.pipe()
    fork = f"import os\nif os.fork() == 0:\n    os.read({reader}, 1)\n    os._exit(0)\n"
    with User(data_dir, after=fork, pass_fds=(reader,)) as user:
        os.close(reader)
        user.kill()
        assert pongs(user.url)
        os.close(writer)
        eventually(lambda: not lives(user.server_pid), "the server is gone")


def test_a_spawned_child_does_not_keep_the_server(data_dir: Path) -> None:
    spawn = (
        "import subprocess\n"
        "child = subprocess.Popen(['sleep', '60'], close_fds=False)\n"
        "Path(sys.argv[1], 'child').write_text(str(child.pid))"
    )
    with User(data_dir, after=spawn) as user:
        child = pid_in(data_dir, "child")
        user.kill()
        eventually(lambda: not lives(user.server_pid), "the server is gone")
        assert lives(child)
        os.kill(child, signal.SIGKILL)


def test_an_interrupt_from_the_terminal_does_not_reach_the_server(data_dir: Path) -> None:
    with User(data_dir, own_session=True) as first, User(data_dir) as second:
        os.killpg(first.process.pid, signal.SIGINT)
        first.process.wait()
        assert pongs(second.url)
        assert answering_pid(second.url) == first.server_pid


def test_a_process_with_blocked_signals_gets_a_server_that_stops(data_dir: Path) -> None:
    block = "import signal; signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())"
    with User(data_dir, before=block) as user:
        user.leave()
        assert not lives(user.server_pid)


def test_a_locale_that_is_not_installed_does_not_matter(data_dir: Path) -> None:
    with User(data_dir, env={"LC_ALL": "xx_XX.UTF-8"}) as user:
        assert pongs(user.url)


def test_a_weaker_durability_than_asked_for_is_logged(data_dir: Path, caplog: pytest.LogCaptureFixture) -> None:
    with (
        caplog.at_level(logging.WARNING, "eventlog.embedded"),
        EmbeddedRedis.start(data_dir),
        EmbeddedRedis.start(data_dir, appendfsync="always"),
    ):
        assert "appendfsync everysec" in caplog.text


@pytest.mark.parametrize(
    ("name", "value"), [("appendfsync", "sometimes"), ("maxmemory", "much"), ("maxmemory", "1gb\nport 6379")]
)
def test_a_bad_setting_is_named(name: str, value: str, data_dir: Path) -> None:
    with pytest.raises(EmbeddedRedisError, match=f"{name} must be"):
        EmbeddedRedis.start(data_dir, **{name: value})  # type: ignore[arg-type]


def test_a_start_works_where_a_subprocess_is_forked_in_python(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As under gevent: what objects do in a forked child is done there before the supervisor is executed."""
    monkeypatch.setattr(subprocess, "Popen", partial(subprocess.Popen, preexec_fn=lambda: None))
    with EmbeddedRedis.start(data_dir) as server:
        assert pongs(server.url)

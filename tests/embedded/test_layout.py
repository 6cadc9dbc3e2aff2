"""Where the files are, and which directories are refused."""

import os
import shutil
import stat
from dataclasses import replace
from pathlib import Path

import pytest

from eventlog import EventLogConfig, create_event_log
from eventlog.embedded import EmbeddedRedis, EmbeddedRedisError
from tests.embedded.processes import get, pongs, put


def test_a_data_directory_that_is_not_utf8_has_its_socket_elsewhere(data_dir: Path) -> None:
    latin = Path(os.fsdecode(os.fsencode(data_dir) + b"/latin\xe9"))
    with EmbeddedRedis.start(latin) as server:
        socket = Path(server.url.removeprefix("unix://"))
        assert server.url.isascii()
        assert pongs(server.url)
        assert (latin / "redis.conf").exists()
    shutil.rmtree(socket.parent)


@pytest.mark.parametrize("given", [None, "~/x", "~nobody-of-this-name/x"])
def test_without_a_home_directory_only_the_embedded_server_is_out_of_reach(
    given: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unknown(*_: object) -> None:
        raise KeyError("uid not found")

    for name in ("HOME", "XDG_DATA_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("pwd.getpwuid", unknown)
    config = EventLogConfig.load(environ={} if given is None else {"EVENTLOG_DATA_DIR": given})
    with create_event_log("memory", config=replace(config, backend="memory")) as log:
        assert log.append("a").offset == 1
    with pytest.raises(EmbeddedRedisError, match="has no home directory: give a directory in EVENTLOG_DATA_DIR"):
        create_event_log("redis", config=config)


def test_a_long_data_directory_has_its_socket_in_a_short_private_one(data_dir: Path) -> None:
    long = data_dir / ("d" * 60) / ("e" * 60)
    socket = None
    try:
        with EmbeddedRedis.start(long) as server:
            socket = Path(server.url.removeprefix("unix://"))
            assert len(bytes(socket)) < 100
            assert stat.S_IMODE(socket.parent.stat().st_mode) == 0o700
            assert stat.S_IMODE(socket.parent.parent.stat().st_mode) == 0o700
            assert pongs(server.url)
            with EmbeddedRedis.start(long) as again:
                assert (again.url, again.pid) == (server.url, server.pid)
        assert not socket.exists()
    finally:
        if socket is not None:
            shutil.rmtree(socket.parent)


@pytest.mark.parametrize("name", ["two words", 'it\'s "quoted" \\ #1?', "100%41 ünï", "line\nbreak"])
def test_a_data_directory_may_have_any_name(name: str, data_dir: Path) -> None:
    with EmbeddedRedis.start(data_dir / name) as server:
        put(server.url, "k", "v")
    with EmbeddedRedis.start(data_dir / name) as server:
        assert get(server.url, "k") == "v"


def test_a_directory_reached_by_two_names_has_one_server(data_dir: Path) -> None:
    with EmbeddedRedis.start(data_dir) as server:
        link = data_dir.parent / "link"
        link.symlink_to(data_dir)
        with EmbeddedRedis.start(link) as again:
            assert again.pid == server.pid


def test_an_open_directory_is_made_private(data_dir: Path) -> None:
    data_dir.mkdir(mode=0o755)
    EmbeddedRedis.start(data_dir).close()
    assert stat.S_IMODE(data_dir.stat().st_mode) == 0o700


def test_a_file_in_place_of_the_directory_is_refused(data_dir: Path) -> None:
    data_dir.write_text("")
    for unusable in (data_dir, data_dir / "below"):
        with pytest.raises(EmbeddedRedisError, match=f"data directory {unusable}"):
            EmbeddedRedis.start(unusable)


def test_an_open_directory_with_other_files_is_refused_and_left_as_it_is(data_dir: Path) -> None:
    data_dir.mkdir()
    data_dir.chmod(0o755)
    (data_dir / "README").write_text("")
    with pytest.raises(EmbeddedRedisError, match="holds other files"):
        EmbeddedRedis.start(data_dir)
    assert stat.S_IMODE(data_dir.stat().st_mode) == 0o755
    data_dir.chmod(0o700)
    EmbeddedRedis.start(data_dir).close()
    data_dir.chmod(0o755)
    EmbeddedRedis.start(data_dir).close()
    assert stat.S_IMODE(data_dir.stat().st_mode) == 0o700


@pytest.mark.parametrize("name", ["redis.log", "redis.conf.new", "users.lock", "dump.rdb", "appendonlydir/a.manifest"])
def test_a_link_in_a_directory_that_others_could_write_to_is_not_followed(name: str, data_dir: Path) -> None:
    target = data_dir.parent / "target"
    target.write_text("as it was")
    (data_dir / "appendonlydir").mkdir(parents=True)
    (data_dir / "users.lock").touch()
    (data_dir / name).unlink(missing_ok=True)
    (data_dir / name).symlink_to(target)
    data_dir.chmod(0o777)
    for _ in range(2):
        with pytest.raises(EmbeddedRedisError, match=f"{name} is a symbolic link"):
            EmbeddedRedis.start(data_dir)
    assert target.read_text() == "as it was"


def test_a_shared_directory_is_refused_and_left_as_it_is(data_dir: Path) -> None:
    data_dir.mkdir()
    data_dir.chmod(0o1777)
    with pytest.raises(EmbeddedRedisError, match="shared with others"):
        EmbeddedRedis.start(data_dir)
    assert stat.S_IMODE(data_dir.stat().st_mode) == 0o1777


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_another_users_directory_is_refused(data_dir: Path) -> None:
    data_dir.mkdir()
    os.chown(data_dir, 12345, -1)
    with pytest.raises(EmbeddedRedisError, match="belongs to user id 12345"):
        EmbeddedRedis.start(data_dir)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_directory_that_cannot_be_made_is_refused(data_dir: Path) -> None:
    data_dir.mkdir()
    data_dir.chmod(0o500)
    with pytest.raises(EmbeddedRedisError, match="cannot be used"):
        EmbeddedRedis.start(data_dir / "below")

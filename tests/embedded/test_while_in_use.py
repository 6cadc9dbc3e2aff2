"""What happens under logs that are open: the supervisor is killed, the data directory deleted, the file torn."""

import asyncio
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from eventlog import EventLog, create_async_event_log, create_event_log
from eventlog.embedded.binary import installed_wheels
from eventlog.embedded.layout import prepare
from eventlog.errors import BackendUnavailable
from tests.embedded.processes import answering_pid, eventually, lives, pid_in

WHEELS = pytest.mark.parametrize("wheel", [package for package, _ in installed_wheels()])


def opened(data_dir: Path) -> EventLog:
    return create_event_log("redis", workspace="w", data_dir=data_dir)


def offsets(log: EventLog) -> list[int]:
    return [event.offset for event in log.query()]


def kill_supervisor(data_dir: Path) -> None:
    server, supervisor = pid_in(data_dir, "redis.pid"), pid_in(data_dir, "supervisor.pid")
    os.kill(supervisor, signal.SIGKILL)
    eventually(lambda: not lives(server) and not lives(supervisor), "both are gone")


def test_an_open_log_starts_the_server_again_when_its_supervisor_was_killed(data_dir: Path) -> None:
    with opened(data_dir) as log, opened(data_dir) as other:
        log.append("a")
        kill_supervisor(data_dir)
        assert other.append("a").offset == 2
        assert offsets(log) == [1, 2]


def test_so_does_an_asyncio_log(data_dir: Path) -> None:
    async def use() -> int:
        async with create_async_event_log("redis", workspace="w", data_dir=data_dir) as log:
            await log.append("a")
            kill_supervisor(data_dir)
            return (await log.append("a")).offset

    assert asyncio.run(use()) == 2


def test_a_closed_log_starts_nothing(data_dir: Path) -> None:
    log = opened(data_dir)
    log.close()
    with pytest.raises(Exception, match="closed"):
        log.append("a")
    assert not (data_dir / "redis.sock").exists()


@pytest.mark.parametrize("made_anew", [False, True])
def test_nothing_is_acknowledged_into_a_directory_that_was_deleted(made_anew: bool, data_dir: Path) -> None:
    with opened(data_dir) as log:
        log.append("a")
        server = pid_in(data_dir, "redis.pid")
        shutil.rmtree(data_dir)
        eventually(lambda: not lives(server), "the server is gone")
        if made_anew:
            with opened(data_dir) as other:
                assert other.append("b").offset == 1
        with pytest.raises(BackendUnavailable, match="was deleted while it was in use"):
            log.append("a")
    with opened(data_dir) as log:
        assert log.append("c").offset == 1 + made_anew


def test_nor_into_an_append_only_file_that_was_deleted(data_dir: Path) -> None:
    opened(data_dir).close()
    with opened(data_dir) as log:
        log.append("a")
        before = answering_pid(f"unix://{data_dir}/redis.sock")
        shutil.rmtree(data_dir / "appendonlydir")
        eventually(lambda: not lives(before), "the server is gone")
        # The log begins anew, as any that was lost.
        assert log.append("b").offset == 1
    with opened(data_dir) as log:
        assert [event.kind for event in log.query()] == ["b"]


@WHEELS
@pytest.mark.parametrize("cut", [3, 400])
def test_a_transaction_that_a_crash_has_torn_never_comes_back(
    wheel: str, cut: int, wheels: Callable[..., None], data_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    wheels(wheel)
    with opened(data_dir) as log:
        for _ in range(3):
            log.append("a")
        log.append_many([{"kind": "batch"}] * 5)
    torn = next((data_dir / "appendonlydir").glob("*.incr.aof"))
    os.truncate(torn, torn.stat().st_size - cut)
    with opened(data_dir) as log:
        assert log.append("new").offset == 4
    with opened(data_dir) as log:
        assert offsets(log) == [1, 2, 3, 4]
        assert log.verify().clean
    assert caplog.text.count("a crash has torn") == (data_dir / "redis.log").read_text().count("has torn") == 1


@pytest.mark.parametrize("deep", ["", "d" * 120])
def test_a_socket_that_was_swept_away_comes_back(data_dir: Path, deep: str) -> None:
    data_dir /= deep
    with opened(data_dir) as log:
        log.append("a")
        socket = prepare(data_dir).socket
        if deep:
            shutil.rmtree(socket.parent)
        else:
            socket.unlink()
        with opened(data_dir) as other:
            assert other.append("a").offset == 2
        assert log.append("a").offset == 3
    if deep:
        shutil.rmtree(socket.parent)

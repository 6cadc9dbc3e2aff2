"""The simple questions a start asks a server."""

import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from eventlog.embedded import wire

Answering = Callable[[bytes], Path]


@pytest.fixture
def answering(tmp_path: Path) -> Iterator[Answering]:
    """A socket whose one client is answered with the given bytes, whatever it asks."""
    path = tmp_path / "s"
    threads = []
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()

        def serve(reply: bytes) -> Path:
            threads.append(threading.Thread(target=answer, args=(reply,)))
            threads[-1].start()
            return path

        def answer(reply: bytes) -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(100)
                connection.sendall(reply)

        yield serve
        for thread in threads:
            thread.join()


def test_a_pong_is_readiness(answering: Answering) -> None:
    assert wire.is_ready(answering(b"+PONG\r\n"), timeout_s=2)


def test_so_is_that_the_disk_is_full(answering: Answering) -> None:
    assert wire.is_ready(
        answering(b"-MISCONF Errors writing to the AOF file: No space left on device\r\n"), timeout_s=2
    )


def test_loading_is_told_from_failing(answering: Answering) -> None:
    with pytest.raises(wire.NoAnswer) as raised:
        wire.is_ready(answering(b"-LOADING Redis is loading the dataset in memory\r\n"), timeout_s=2)
    assert raised.value.code == "LOADING"


@pytest.mark.parametrize("reply", [b"", b"$x\r\n", b"-ERR no\r\n"])
def test_anything_else_is_no_answer(reply: bytes, answering: Answering) -> None:
    with pytest.raises(wire.NoAnswer) as raised:
        wire.is_ready(answering(reply), timeout_s=2)
    assert raised.value.code in ("", "ERR")


def test_nobody_there_is_no_answer(tmp_path: Path) -> None:
    with pytest.raises(wire.NoAnswer, match="nobody"):
        wire.is_ready(tmp_path / "nobody", timeout_s=2)


def test_a_setting_and_a_section_are_read(answering: Answering, tmp_path: Path) -> None:
    path = answering(b"*2\r\n$11\r\nappendfsync\r\n$6\r\nalways\r\n")
    assert wire.setting(path, "appendfsync", timeout_s=2) == "always"
    path = answering(b"$32\r\n# Server\r\nredis_version:8.2.3\r\n\r\n\r\n")
    assert wire.info(path, "server", timeout_s=2) == {"redis_version": "8.2.3"}

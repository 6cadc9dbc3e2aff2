"""Fixtures of the embedded Redis' tests: a data directory that nothing runs in afterwards."""

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from eventlog.embedded.binary import WHEELS
from tests.embedded.processes import eventually, lives


@pytest.fixture
def data_dir(tmp_path: Path) -> Iterator[Path]:
    """A data directory; whatever a failed test left running in it is stopped, by its pid."""
    folder = tmp_path / "data"
    yield folder
    leftover = [int(file.read_text()) for file in folder.glob("*.pid")]
    for pid in leftover:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
    eventually(lambda: not any(map(lives, leftover)), "the test's processes are gone")


@pytest.fixture
def wheels(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Makes it look as if of the wheels that bring a server only those named were installed."""

    def only(*packages: str) -> None:
        for package in WHEELS:
            monkeypatch.delitem(sys.modules, package, raising=False)
            if package not in packages:
                monkeypatch.setitem(sys.modules, package, None)

    return only


@pytest.fixture
def no_wheel(wheels: Callable[..., None]) -> None:
    """As if no wheel that brings a server were installed."""
    wheels()


@pytest.fixture
def only_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder that is all of PATH."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    return folder


@pytest.fixture
def program(only_path: Path, no_wheel: None) -> Callable[[str, str], Path]:
    """Puts a shell script of the given name and text on PATH, where there is nothing else."""

    def make(name: str, text: str) -> Path:
        path = only_path / name
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)
        return path

    return make

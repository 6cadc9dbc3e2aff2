"""Clients made by the generators that people use, each in the generators' own environment, append, read and take turns.

`make generators` sets that up; what of it is not to be had (Java, Node) is not tried.
"""

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.server.api import Api
from tests.server.test_openapi import DOCUMENT

HOME = Path(os.environ.get("EVENTLOG_TEST_GENERATORS", ".venv/generators")).absolute()
PYTHON, NODE = HOME / "bin/python", HOME / "node_modules"
PROGRAMS = Path(__file__).with_name("generated")


def run(folder: Path, *command: str | Path) -> None:
    answer = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert answer.returncode == 0, answer.stdout + answer.stderr


def by_openapi_python_client(folder: Path, *where: str) -> None:
    (folder / "settings.yaml").write_text("post_hooks: []")
    options = ("--path", "document.json", "--config", "settings.yaml", "--meta", "none", "--fail-on-warning")
    run(folder, HOME / "bin/openapi-python-client", "generate", *options, "--output-path", "made")
    run(folder, PYTHON, PROGRAMS / "openapi_python_client.py", *where)


def by_openapi_generator(folder: Path, *where: str) -> None:
    options = ("-i", "document.json", "-g", "python", "-o", ".", "--package-name", "made")
    run(folder, HOME / "bin/openapi-generator-cli", "generate", *options)
    run(folder, PYTHON, PROGRAMS / "openapi_generator.py", *where)


def by_openapi_typescript(folder: Path, *where: str) -> None:
    (folder / "node_modules").symlink_to(NODE)
    (folder / "package.json").write_text('{"type": "module"}')
    shutil.copy(PROGRAMS / "openapi_typescript.mts", folder / "program.mts")
    run(folder, NODE / ".bin/openapi-typescript", "document.json", "-o", "schema.d.mts")
    run(folder, NODE / ".bin/tsc", "--strict", "--module", "nodenext", "--target", "es2022", "program.mts")
    run(folder, "node", "program.mjs", *where)


@pytest.mark.parametrize(
    ("generator", "needs"),
    [
        (by_openapi_python_client, HOME / "bin/openapi-python-client"),
        (by_openapi_generator, HOME / "bin/openapi-generator-cli"),
        (by_openapi_typescript, NODE / ".bin/tsc"),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_a_generated_client_appends_reads_acquires_and_releases(
    server_url: str, api: Api, tmp_path: Path, generator: Callable[..., None], needs: Path
) -> None:
    if not needs.exists() or (generator is by_openapi_generator and shutil.which("java") is None):
        pytest.skip("`make generators` has not set it up here")
    (tmp_path / "document.json").write_text(json.dumps(DOCUMENT))
    generator(tmp_path, server_url, api.workspace)

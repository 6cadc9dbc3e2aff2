"""The borders between the rooms of the house, read from the source: who may import what."""

import ast
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[2]


class Import(NamedTuple):
    package: str  # the top-level name
    line: int
    lazy: bool  # inside a function: it happens when that is called


def imports(source: str) -> Iterator[Import]:
    """Every absolute import in `source`, under `if TYPE_CHECKING` too; `import_module("…")` counts."""

    def visit(node: ast.AST, lazy: bool) -> Iterator[Import]:
        match node:
            case ast.Import(names=names):
                yield from (Import(name.name.partition(".")[0], node.lineno, lazy) for name in names)
            case ast.ImportFrom(module=str(module), level=0):
                yield Import(module.partition(".")[0], node.lineno, lazy)
            case ast.Call(
                func=ast.Name(id="import_module" | "__import__") | ast.Attribute(attr="import_module"),
                args=[ast.Constant(value=str(module)), *_],
            ):
                yield Import(module.partition(".")[0], node.lineno, lazy)
        lazy = lazy or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        for child in ast.iter_child_nodes(node):
            yield from visit(child, lazy)

    yield from visit(ast.parse(source), lazy=False)


def lies_in(path: PurePosixPath, room: str) -> bool:
    """Whether `path` is the module or lies in the package `room`: `eventlog/cli` is cli.py and cli/**."""
    return path.with_suffix("") == PurePosixPath(room) or PurePosixPath(room) in path.parents


def trespasses(path: PurePosixPath, source: str) -> list[str]:
    """Every import in the file that crosses a border, as `file:line rule`."""
    found = []
    for package, line, lazy in imports(source):
        if package == "redis" and not lies_in(path, "eventlog/store"):
            found.append(f"{path}:{line} only eventlog/store imports redis")
        if package in {"fastapi", "starlette"} and not lies_in(path, "server"):
            found.append(f"{path}:{line} only server imports {package}")
        if package == "server" and lies_in(path, "eventlog"):
            if not lies_in(path, "eventlog/cli"):
                found.append(f"{path}:{line} in eventlog only the command line imports server")
            elif not lazy:
                found.append(f"{path}:{line} the command line imports server inside the command that needs it")
        if package in {"tests", "benchmarks", "fakeredis", "pytest"}:
            found.append(f"{path}:{line} the product does not import {package}")
    return found


def modules() -> list[PurePosixPath]:
    return [
        PurePosixPath(path.relative_to(ROOT).as_posix())
        for package in ("eventlog", "server")
        for path in sorted((ROOT / package).rglob("*.py"))
    ]


def test_there_are_modules_to_look_at() -> None:
    assert PurePosixPath("eventlog/events.py") in modules()


@pytest.mark.parametrize("path", modules(), ids=str)
def test_a_module_crosses_no_border(path: PurePosixPath) -> None:
    assert trespasses(path, (ROOT / path).read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("eventlog/log.py", "import redis"),
        ("eventlog/embedded.py", "from redis.asyncio import Redis"),
        ("eventlog/embedded/server.py", "def wait():\n    import redis.exceptions as e"),
        ("eventlog/storeroom.py", "import redis"),
        ("eventlog/backends/redis.py", "from importlib import import_module\nimport_module('redis')"),
        ("server/routes/events.py", "import redis"),
        ("eventlog/bus.py", "from starlette.responses import Response"),
        ("eventlog/cli/serve.py", "import fastapi"),
        ("eventlog/log.py", "def serve():\n    import server.app"),
        ("eventlog/cli.py", "from server.app import create_app"),
        ("eventlog/cli/serve.py", "if True:\n    import server"),
        ("eventlog/factory.py", "import fakeredis"),
    ],
)
def test_an_import_across_a_border_is_found(path: str, source: str) -> None:
    assert len(trespasses(PurePosixPath(path), source)) == 1


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("eventlog/store/run.py", "import redis.asyncio"),
        ("eventlog/backends/__init__.py", "from . import redis\nfrom .redis import RedisBackend"),
        ("server/app.py", "from fastapi import FastAPI\nimport server.deps"),
        ("eventlog/cli.py", "def serve():\n    from server.app import create_app"),
        ("eventlog/cli/serve.py", "async def serve():\n    import server.app"),
    ],
)
def test_an_import_within_the_borders_is_not(path: str, source: str) -> None:
    assert trespasses(PurePosixPath(path), source) == []

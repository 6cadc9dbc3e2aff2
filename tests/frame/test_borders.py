"""The borders between the rooms of the house, read from the source and held against `docs/architecture.md`."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[2]
SERVER = PurePosixPath("server/eventlog_server")
# A line of the table of rooms: | `room` | what lives there | `a` `b` |
_ROW = re.compile(r"^\| `([\w/]+)` \| .+ \|([^|]*)\|$", re.MULTILINE)


class Import(NamedTuple):
    module: tuple[str, ...]
    line: int
    lazy: bool  # inside a function: it happens when that is called


def parts_of(path: PurePosixPath) -> tuple[str, ...]:
    """The module in a file: ("eventlog", "log", "core"), ("eventlog_server", "app")."""
    path = path.relative_to("server") if SERVER in path.parents else path
    return path.parts[:-1] if path.stem == "__init__" else path.with_suffix("").parts


def imports(path: PurePosixPath, source: str) -> Iterator[Import]:
    """Every import in `source`, under `if TYPE_CHECKING` too; `import_module("…")` of a whole name counts."""
    package = path.parent if SERVER not in path.parents else path.parent.relative_to("server")

    def visit(node: ast.AST, lazy: bool) -> Iterator[Import]:
        match node:
            case ast.Import(names=names):
                yield from (Import(tuple(name.name.split(".")), node.lineno, lazy) for name in names)
            case ast.ImportFrom(module=module, level=level, names=names):
                base = package.parts[: len(package.parts) - level + 1] if level else ()
                target = base + tuple(module.split(".") if module else ())
                yield from (Import((*target, name.name), node.lineno, lazy) for name in names)
            case ast.Call(
                func=ast.Name(id="import_module" | "__import__") | ast.Attribute(attr="import_module"),
                args=[ast.Constant(value=str(module)), *_],
            ):
                yield Import(tuple(module.split(".")), node.lineno, lazy)
        lazy = lazy or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        for child in ast.iter_child_nodes(node):
            yield from visit(child, lazy)

    yield from visit(ast.parse(source), lazy=False)


def room_of(module: tuple[str, ...]) -> str:
    """The room that a module of ours lies in: `log`, `config`, `server`; the package's own front is `eventlog`."""
    if module[0] == "eventlog_server":
        return "server"
    return module[1] if len(module) > 1 and module[1] in ROOMS else "eventlog"


def drawn() -> dict[str, set[str]]:
    """What each room builds on, as the table of rooms in `docs/architecture.md` says."""
    page = (ROOT / "docs/architecture.md").read_text("utf-8")
    return {room.rstrip("/"): set(re.findall(r"`(\w+)`", below)) for room, below in _ROW.findall(page)}


ROOMS = {
    path.stem for path in (ROOT / "eventlog").iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()
} - {"__init__", "__main__"}
DRAWN = drawn()


def trespasses(path: PurePosixPath, source: str) -> list[str]:
    """Every import in the file that crosses a border, as `file:line rule`."""
    found = []
    here = room_of(parts_of(path))
    for module, line, lazy in imports(path, source):
        package = module[0]
        if package == "redis" and here != "store":
            found.append(f"{path}:{line} only store imports redis")
        if package in {"fastapi", "starlette", "uvicorn"} and here != "server":
            found.append(f"{path}:{line} only server imports {package}")
        if package in {"tests", "benchmarks", "fakeredis", "pytest"}:
            found.append(f"{path}:{line} the product does not import {package}")
        if package == "server":
            found.append(f"{path}:{line} the server's package is eventlog_server")
        if package not in {"eventlog", "eventlog_server"} or here == "eventlog":
            continue
        if module == ("eventlog", "__version__"):
            continue
        there = room_of(module)
        if there not in {here, *DRAWN.get(here, ())}:
            found.append(f"{path}:{line} {here} does not build on {there}")
        elif there == "server" and here != "server" and not lazy:
            found.append(f"{path}:{line} {here} imports the server inside the command that needs it")
    return found


def modules() -> list[PurePosixPath]:
    return [
        PurePosixPath(path.relative_to(ROOT).as_posix())
        for package in ("eventlog", SERVER)
        for path in sorted((ROOT / package).rglob("*.py"))
    ]


def test_every_room_is_drawn_once() -> None:
    assert set(DRAWN) == ROOMS | {"server"}


def test_what_is_drawn_flows_one_way() -> None:
    seen: set[str] = set()
    for room, below in DRAWN.items():
        assert below <= seen, f"{room} builds on what is drawn below it in the table: {below - seen}"
        seen.add(room)


def test_no_module_crosses_a_border() -> None:
    assert len(modules()) > 100
    assert [
        trespass for path in modules() for trespass in trespasses(path, (ROOT / path).read_text(encoding="utf-8"))
    ] == []


def test_every_direction_that_is_drawn_is_used() -> None:
    used: dict[str, set[str]] = {room: set() for room in DRAWN}
    for path in modules():
        here = room_of(parts_of(path))
        for module, _, _ in imports(path, (ROOT / path).read_text(encoding="utf-8")):
            if here in used and module[0] in {"eventlog", "eventlog_server"}:
                used[here].add(room_of(module))
    assert {room: below - used[room] for room, below in DRAWN.items() if below - used[room]} == {}


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("eventlog/log/core.py", "import redis"),
        ("eventlog/embedded/handle.py", "from redis.asyncio import Redis"),
        ("eventlog/embedded/server.py", "def wait():\n    import redis.exceptions as e"),
        ("eventlog/log/redis.py", "from importlib import import_module\nimport_module('redis')"),
        ("server/eventlog_server/routes/events.py", "import redis"),
        ("eventlog/bus/bus.py", "from starlette.responses import Response"),
        ("eventlog/cli/serve.py", "import fastapi"),
        ("eventlog/log/core.py", "def serve():\n    import eventlog_server.app"),
        ("eventlog/cli/serve.py", "from eventlog_server.app import create_app"),
        ("eventlog/cli/serve.py", "def serve():\n    import server"),
        ("eventlog/factory.py", "import fakeredis"),
        ("eventlog/store/calls.py", "from ..log.redis import RedisBackend"),
        ("eventlog/slots/redis.py", "from ..log import memory"),
        ("eventlog/model/events.py", "from ..plan.drive import run"),
        ("eventlog/plan/drive.py", "def f():\n    from .. import factory"),
    ],
)
def test_an_import_across_a_border_is_found(path: str, source: str) -> None:
    assert len(trespasses(PurePosixPath(path), source)) == 1


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("eventlog/store/run.py", "import redis.asyncio"),
        ("eventlog/log/__init__.py", "from . import redis\nfrom .redis import RedisBackend"),
        ("server/eventlog_server/app.py", "from fastapi import FastAPI\nfrom . import deps\nimport eventlog.factory"),
        ("eventlog/cli/serve.py", "async def serve():\n    import eventlog_server.app"),
        ("eventlog/log/core.py", "from ..errors import InvalidInput\nfrom .protocol import Backend"),
    ],
)
def test_an_import_within_the_borders_is_not(path: str, source: str) -> None:
    assert trespasses(PurePosixPath(path), source) == []

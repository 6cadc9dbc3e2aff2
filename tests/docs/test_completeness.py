"""A setting, script, key or error without docs is a defect."""

import re
from dataclasses import fields
from pathlib import Path

from eventlog_server.app import create_app
from eventlog_server.settings import ServerSettings

from eventlog import EventLogConfig
from eventlog.cli.app import app as command_line
from eventlog.store.keys import WorkspaceKeys

ROOT = Path(__file__).parents[2]


def _page(name: str) -> str:
    return (ROOT / "docs" / name).read_text("utf-8")


def test_every_setting_of_the_log_is_documented_with_its_variable() -> None:
    page = _page("configuration.md")
    names = [each.name for each in fields(EventLogConfig)]
    assert [name for name in names if f"`EVENTLOG_{name.upper()}` `{name}`" not in page] == []


def test_every_setting_of_the_server_is_documented_by_its_variable() -> None:
    page = _page("configuration.md")
    names = {each.name for each in fields(ServerSettings)} - {"log"}
    assert [name for name in sorted(names) if f"`EVENTLOG_{name.upper()}`" not in page] == []


def test_every_route_is_documented() -> None:
    page = _page("http.md")
    operations = [
        f"`{method.upper()} {path}`"
        for path, methods in create_app(ServerSettings()).openapi()["paths"].items()
        for method in methods
    ]
    assert operations
    assert [operation for operation in operations if operation not in page] == []


def test_every_problem_code_is_documented() -> None:
    codes = set(re.findall(r'\b\d{3}, "([A-Z_]+)"', (ROOT / "server/eventlog_server/problems.py").read_text("utf-8")))
    assert codes
    assert [code for code in sorted(codes) if f"`{code}`" not in _page("http.md")] == []


def test_every_command_is_documented() -> None:
    names = [command.name or command.callback.__name__ for command in command_line.registered_commands]  # type: ignore[union-attr]
    assert names
    assert [name for name in names if f"`eventlog {name}" not in _page("cli.md")] == []


def test_every_script_is_documented() -> None:
    page = _page("redis-layout.md")
    scripts = [path.stem for path in (ROOT / "eventlog").glob("*/lua/*.lua")]
    assert scripts
    assert [script for script in scripts if f"`{script}`" not in page] == []


def test_every_key_is_documented() -> None:
    page = _page("redis-layout.md")
    keys = WorkspaceKeys.of("w")
    assert [key for key in keys if not re.search(re.escape("`" + key) + r"(<\w+>)?(:held)?`", page)] == []
    assert [key for key in keys.queue("<q>") if f"`{key}`" not in page] == []


def test_the_architecture_names_every_room() -> None:
    page = _page("architecture.md")
    package = ROOT / "eventlog"
    rooms = [path.name + "/" for path in package.iterdir() if (path / "__init__.py").exists()]
    modules = [path.stem for path in package.glob("*.py") if not path.stem.startswith("__")]
    assert [room for room in rooms if room not in page] == []
    assert [module for module in modules if not re.search(rf"\b{module}\b", page)] == []


def test_every_word_of_the_glossary_stands_in_the_code() -> None:
    page = _page("architecture.md")
    table = page[page.index("| word | in the code | meaning |") : page.index("## The way of an append")]
    names = {name for row in table.splitlines()[2:] if row for name in re.findall(r"`(\w+)`", row.split("|")[2])}
    code = "\n".join(path.read_text("utf-8") for path in (ROOT / "eventlog").rglob("*.py"))
    assert len(names) > 25
    assert [
        name for name in sorted(names) if not re.search(rf"^(class|def|async def) {name}\b|^{name} = ", code, re.M)
    ] == []


def test_every_file_that_the_architecture_names_exists() -> None:
    page = _page("architecture.md")
    files = {path.name for package in ("eventlog", "server") for path in (ROOT / package).rglob("*") if path.is_file()}
    named = {name.rpartition("/")[2] for name in re.findall(r"`([\w/]+\.(?:py|lua))`", page)}
    assert len(named) > 20
    assert named - files == set()

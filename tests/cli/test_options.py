"""Options that follow from the library's tables, and help that shows all of their text."""

import pytest
import typer
import typer.main

from eventlog.cli import run
from eventlog.cli.app import app
from eventlog.model.events import FIELDS
from eventlog.model.filters import FILTERS

from .conftest import Here

_ROOT = typer.main.get_command(app)


def _options(command: str) -> dict[str, str]:
    """The long options of a command, each with its help."""
    found = _ROOT.commands[command]  # type: ignore[attr-defined]
    return {parameter.name: parameter.help for parameter in found.params if parameter.opts[0].startswith("--")}


@pytest.mark.parametrize("command", ["query", "follow"])
def test_each_filter_is_an_option(command: str) -> None:
    assert {field.name: field.help for field in FILTERS}.items() <= _options(command).items()


def test_each_field_of_an_event_is_an_option_of_append() -> None:
    assert {field.name: field.help for field in FIELDS}.items() <= _options("append").items()


@pytest.mark.parametrize("command", ["append", "query", "follow", "exec", "verify", "doctor"])
def test_help_shows_variables_and_defaults(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([command, "--help"]) == 0
    words = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert "[env: EVENTLOG_WORKSPACE; default: default]" in words


@pytest.mark.parametrize(
    ("url", "redis_too"),
    [
        *[("http://me:secret@log" + rest, False) for rest in ("?a=1", "#f", ":65536", "/a b", " ")],
        *[("redis://me:secret@log" + rest, True) for rest in ("/main", "?foo=1", ":port")],
        ("redsi://me:secret@log", True),
    ],
)
def test_a_bad_url_is_named_by_where_it_is_from_and_shows_no_password(
    url: str, redis_too: bool, here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*args: str) -> str:
        done = here(*args)
        said = done.stderr.decode()
        assert (done.returncode, "secret" in said) == (2, False)
        return said.removeprefix("eventlog: ").partition(":")[0]

    for command in (["query"], ["doctor"], ["slots", "ls"]):
        assert refused(*command, "--url", url) == "url"
    monkeypatch.setenv("EVENTLOG_URL", url)
    assert refused("query") == "EVENTLOG_URL"
    monkeypatch.delenv("EVENTLOG_URL")
    for bad in (url, "http://me:secret@log"):
        if bad != url or redis_too:
            assert refused("serve", "--redis-url", bad) == "redis_url"
            monkeypatch.setenv("EVENTLOG_REDIS_URL", bad)
            assert refused("query") == refused("serve") == "EVENTLOG_REDIS_URL"

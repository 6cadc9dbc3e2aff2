"""What is written: nothing in an event can reach the terminal as a command; colours only where a person looks."""

import json
import os
import pty
import subprocess
import sys
import tomllib
import unicodedata
from datetime import datetime

import pytest

from eventlog import Event, EventLog
from eventlog.cli import run
from eventlog.cli.times import parse_time
from eventlog.errors import InvalidInput
from eventlog.model.events import Body
from eventlog.printing.escape import escaped
from eventlog.printing.output import json_line, text_line

from .conftest import Here
from .program import ROOT, Program

HOSTILE = "\x1b[2J\x9b31m\x07\r\n\t\x7f\u202e\u2028\u2066\ufeff\u200b\U000e0041"


def test_no_character_that_acts_gets_through() -> None:
    for code in range(0x110000):
        char = chr(code)
        if unicodedata.category(char) in {"Cc", "Cf", "Zl", "Zp", "Cs", "Co"}:
            assert escaped(char).isascii()
            assert escaped(char).isprintable()


def test_text_that_is_harmless_stays_as_it_is() -> None:
    plain = "tool.invoked é 日本\u3000語 😀 \u00a0 {}\\"
    assert escaped(plain) == plain


def _hostile_event() -> Event:
    # As somebody might have written it into Redis past the library.
    payload = json.dumps({"x": HOSTILE}, ensure_ascii=False).encode()
    return Event(1763720000123, 1, Body("k" + HOSTILE, payload, "r" + HOSTILE, "l" + HOSTILE, "s" + HOSTILE, None), 1)


def test_no_field_of_an_event_can_smuggle_a_control_character_into_a_line() -> None:
    event = _hostile_event()
    assert all(char.isprintable() for char in text_line(event))
    raw = json_line(event)
    assert all(0x20 <= byte < 0x7F for byte in raw)
    assert json.loads(raw)["payload"] == {"x": HOSTILE}


def test_hostile_payloads_are_escaped_from_end_to_end(program: Program, log: EventLog) -> None:
    log.append("a", {"x": HOSTILE}, source="me\u202e")
    for form in ("text", "json"):
        out = program("query", "-o", form).stdout
        assert out.decode().rstrip("\n").isprintable()
        assert out.count(b"\n") == 1


def test_what_was_typed_is_escaped_in_error_lines(program: Program) -> None:
    done = program("append", "\x1b[31mkind")
    assert b"\x1b" not in done.stderr
    assert done.stderr.count(b"\n") == 1


def _on_terminal(program: Program, **variables: str) -> bytes:
    ours, theirs = pty.openpty()
    try:
        subprocess.run(
            [sys.executable, "-m", "eventlog", "query"],
            stdin=subprocess.DEVNULL,
            stdout=theirs,
            env={**program.environ, "TERM": "xterm", **variables},
            timeout=30,
            check=True,
        )
        return os.read(ours, 65536)
    finally:
        os.close(theirs)
        os.close(ours)


def test_colours_are_for_terminals_whose_user_wants_them(program: Program, log: EventLog) -> None:
    log.append("a")
    assert b"\x1b[" in _on_terminal(program)
    assert b"\x1b[" not in _on_terminal(program, NO_COLOR="1")
    assert b"\x1b[" not in _on_terminal(program, TERM="dumb")
    assert b"\x1b[" not in program("query").stdout


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("5m", 700.0),
        ("1h", 0.0),
        ("90s", 910.0),
        ("250ms", 999.75),
        ("1763720000.5", 1763720000.5),
        ("2025-11-21T10:13:20Z", 1763720000.0),
        ("2025-11-21T12:13:20+02:00", 1763720000.0),
        ("2025-11-21 10:13", datetime(2025, 11, 21, 10, 13).astimezone().timestamp()),
    ],
)
def test_times_are_read_as_people_type_them(text: str, seconds: float) -> None:
    assert parse_time(text, lambda: 1000.0) == seconds


@pytest.mark.parametrize("text", ["", "m", "5 years", "-5m", "\u0665m", "tomorrow", "1e3", "5m ago"])
def test_a_time_that_is_none_is_refused_by_name(text: str) -> None:
    with pytest.raises(InvalidInput, match=r"^since_time: "):
        parse_time(text, lambda: 1000.0)


def test_a_defect_is_one_line_unless_the_traceback_is_asked_for(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError("oh")

    monkeypatch.delenv("EVENTLOG_DEBUG", raising=False)
    monkeypatch.setattr("eventlog.cli.target.Target.open_log", fail)
    assert run(["query"]) == 70
    assert capsys.readouterr().err == "eventlog: defect: ZeroDivisionError: oh (EVENTLOG_DEBUG=1 shows where)\n"
    monkeypatch.setenv("EVENTLOG_DEBUG", "1")
    with pytest.raises(ZeroDivisionError):
        run(["query"])


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="Linux has /dev/full")
def test_output_that_cannot_be_written_is_told_in_one_line(program: Program, log: EventLog) -> None:
    log.append("a")
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", "eventlog", "query"],
            stdin=subprocess.DEVNULL,
            stdout=full,
            stderr=subprocess.PIPE,
            env=program.environ,
            timeout=30,
            check=False,
        )
    assert (done.returncode, done.stderr) == (1, b"eventlog: standard output: No space left on device\n")


def test_help_and_version_and_unknown_commands(here: Here) -> None:
    assert here("--version").stdout.startswith(b"eventlog 0.")
    overview = here("--help").stdout.decode()
    for command in ("serve", "demo", "append", "query", "follow", "verify", "doctor"):
        assert command in overview
        shown = here(command, "--help")
        assert (shown.returncode, b"Usage:" in shown.stdout) == (0, True)
    unknown = here("nonsense")
    assert (unknown.returncode, unknown.stderr.count(b"\n")) == (2, 1)


@pytest.mark.parametrize("group", [[], ["runs"], ["slots"]])
def test_a_group_of_commands_alone_is_answered_with_its_help_and_no_error(here: Here, group: list[str]) -> None:
    done = here(*group)
    assert (done.returncode, done.stderr) == (2, b"")
    assert b"Usage: " + " ".join(["eventlog", *group]).encode() in done.stdout


def test_the_module_and_the_console_script_are_the_same_program(program: Program) -> None:
    assert program("--version").stdout.startswith(b"eventlog 0.")
    (script,) = [one for one in _console_scripts() if one.startswith("eventlog ")]
    assert script == "eventlog = eventlog.cli:main"


def _console_scripts() -> list[str]:
    with open(ROOT / "pyproject.toml", "rb") as file:
        return [f"{name} = {target}" for name, target in tomllib.load(file)["project"]["scripts"].items()]


def shell(program: Program, line: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """A line for the shell in which `eventlog` is the program."""
    return subprocess.run(
        ["bash", "-c", f'eventlog() {{ "{sys.executable}" -m eventlog "$@"; }}; {line}'],
        input=stdin,
        capture_output=True,
        env=program.environ,
        timeout=60,
        check=False,
    )


LINES = b'{"kind":"a"}\n{"kind":"b"}\n'


@pytest.mark.parametrize(
    ("line", "code", "kinds"),
    [
        ("eventlog append a >&-", 0, ["a"]),
        ("eventlog append - <&- >&- 2>&-", 0, []),
        ("eventlog append 'no kind' 2>&-", 2, []),
        ("eventlog --help >&-", 0, []),
        ("eventlog append - 2>&1 | true; exit ${PIPESTATUS[0]}", 0, ["a", "b"]),
        ("eventlog --help | true; exit ${PIPESTATUS[0]}", 0, []),
        ("eventlog append - > /dev/full", 1, ["a", "b"]),
        ("eventlog append nonsense! 2> /dev/full", 2, []),
    ],
)
def test_streams_that_are_closed_or_full_cost_no_event_and_no_exit_code(
    program: Program, log: EventLog, line: str, code: int, kinds: list[str]
) -> None:
    done = shell(program, line, LINES)
    assert (done.returncode, [event.kind for event in log.query()]) == (code, kinds), done.stderr
    assert b"defect" not in done.stderr
    if code == 1:
        assert b"standard output: No space left on device" in done.stderr


def test_a_command_runs_and_is_recorded_without_standard_streams(program: Program, log: EventLog) -> None:
    done = shell(program, "eventlog exec --action b --max-concurrent 1 --run r -- sh -c 'echo hi; exit 3' <&- >&- 2>&-")
    assert done.returncode == 3
    assert log.run("r").status == "failed"
    assert [event.payload["line"] for event in log.query(kind="exec.output")] == ["hi"]

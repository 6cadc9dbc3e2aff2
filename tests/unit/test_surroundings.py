"""What lies about in the environment of a process: variables that nothing reads, and those of others."""

import logging
import re
from dataclasses import fields
from pathlib import Path

import pytest
from eventlog_server import ServerSettings

from eventlog import create_event_log
from eventlog.config import EventLogConfig
from eventlog.errors import InvalidInput
from eventlog.settings import OTHER_NAMES

ROOT = Path(__file__).parents[2]


def test_every_variable_that_anything_reads_is_known() -> None:
    sources = [*ROOT.glob("eventlog/**/*.py"), *ROOT.glob("server/**/*.py")]
    named = {name for path in sources for name in re.findall(r"\bEVENTLOG_([A-Z_]+[A-Z])\b", path.read_text("utf-8"))}
    of_server = {one.name.upper() for one in fields(ServerSettings) if one.name != "log"}
    of_log = {one.name.upper() for one in fields(EventLogConfig)}
    assert of_server <= OTHER_NAMES
    assert named - of_log <= OTHER_NAMES


@pytest.mark.parametrize("service", ["", "REDIS_", "HOST_"])
def test_the_variables_of_a_kubernetes_service_are_passed_over(service: str, caplog: pytest.LogCaptureFixture) -> None:
    environ = {
        f"EVENTLOG_{service}SERVICE_HOST": "10.43.0.1",
        f"EVENTLOG_{service}SERVICE_PORT": "8707",
        f"EVENTLOG_{service}SERVICE_PORT_HTTP": "8707",
        f"EVENTLOG_{service}PORT": "tcp://10.43.0.1:8707",
        **{
            f"EVENTLOG_{service}PORT_8707_TCP{what}": "tcp://10.43.0.1:8707"
            for what in ("", "_PROTO", "_PORT", "_ADDR")
        },
        f"EVENTLOG_{service}PORT_53_UDP": "udp://10.43.0.1:53",
    }
    with caplog.at_level(logging.WARNING):
        assert ServerSettings.load(environ=environ).port == 8707
        assert ServerSettings.load(environ={**environ, "EVENTLOG_WORKSPACE": "w"}).log.workspace == "w"
    assert caplog.text == ""


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("EVENTLOG_MAX_ENTIRES", "EVENTLOG_MAX_ENTRIES"),
        ("EVENTLOG_REDISURL", "EVENTLOG_REDIS_URL"),
        ("EVENTLOG_WORKSPACES", "EVENTLOG_WORKSPACE"),
        ("EVENTLOG_ALOWED_HOSTS", "EVENTLOG_ALLOWED_HOSTS"),
        ("EVENTLOG_ZZZ", None),
    ],
)
def test_a_variable_that_nothing_reads_is_warned_of_once(
    name: str, near: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            EventLogConfig.load(environ={name: "1", "EVENTLOG_HOST": "h", "EVENTLOG_RUN_ID": "r", "OTHER": "x"})
            ServerSettings.load(environ={name: "1"})
    assert [record.getMessage() for record in caplog.records] == [
        f"nothing reads the variable {name}" + (f"; did you mean {near}?" if near else "")
    ]


@pytest.mark.parametrize(
    "name", ["EVENTLOG_MAX_ENTRIES", "EVENTLOG_PORT", "EVENTLOG_TTL_SECONDS", "EVENTLOG_HEARTBEAT_S"]
)
@pytest.mark.parametrize(
    "value", ["abc", "1e3", "1_000", " 5", "+5", "5 ", "0x10", "٣", "nan", "inf", "1,5", "--5", "9" * 40]
)
def test_a_number_is_written_in_decimal_digits_as_over_http(name: str, value: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        ServerSettings.load(environ={name: value})
    assert refused.value.field == name
    assert "in decimal digits" in refused.value.problem


def test_an_empty_variable_is_none() -> None:
    assert ServerSettings.load(environ={"EVENTLOG_PORT": "", "EVENTLOG_MAX_ENTRIES": ""}).port == 8707


def test_the_environment_names_the_backend_where_neither_argument_nor_url_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVENTLOG_BACKEND", "off")
    with create_event_log() as log, create_event_log("memory") as other:
        assert (log.backend, other.backend) == ("disabled", "memory")
    monkeypatch.setenv("EVENTLOG_BACKEND", "http")
    with pytest.raises(InvalidInput, match="http"):
        create_event_log()

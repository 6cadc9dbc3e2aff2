"""The server's settings and where they come from."""

import pytest
from eventlog_server import ServerSettings

from eventlog.errors import InvalidInput


def test_the_defaults_are_loopback_and_bounded() -> None:
    settings = ServerSettings.load(environ={})
    assert (settings.host, settings.port, settings.body_max_bytes) == ("127.0.0.1", 8707, 1024 * 1024)
    assert settings.request_deadline_s < 2


def test_the_environment_is_read_and_what_is_given_wins() -> None:
    environ = {"EVENTLOG_HOST": "::1", "EVENTLOG_PORT": "9", "EVENTLOG_ACCESS_LOG": "true", "EVENTLOG_WORKSPACE": "w"}
    settings = ServerSettings.load(environ=environ, port=10, host=None)
    assert (settings.host, settings.port, settings.access_log, settings.log.workspace) == ("::1", 10, True, "w")


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("EVENTLOG_PORT", "http"),
        ("EVENTLOG_PORT", "65536"),
        ("EVENTLOG_BODY_MAX_BYTES", "1MB"),
        ("EVENTLOG_HEARTBEAT_S", "0"),
        ("EVENTLOG_REQUEST_DEADLINE_S", "nan"),
        ("EVENTLOG_KEY_PREFIX", "a b"),
    ],
)
def test_a_bad_value_names_its_variable(variable: str, value: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        ServerSettings.load(environ={variable: value})
    assert caught.value.field == variable


def test_a_bad_value_given_in_code_is_named_as_it_was_given() -> None:
    with pytest.raises(InvalidInput) as caught:
        ServerSettings.load(environ={"EVENTLOG_PORT": "1"}, port=-1)
    assert caught.value.field == "port"

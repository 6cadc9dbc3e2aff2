"""Configuration: files, the environment, which of them wins, and how a bad value is named."""

from dataclasses import FrozenInstanceError, replace
from pathlib import Path

import pytest
from eventlog_server import ServerSettings

from eventlog import EventLogConfig, ObservabilityConfig, create_event_log
from eventlog.errors import InvalidInput
from eventlog.model.events import Body
from eventlog.model.guard import DEFAULT_REDACT_PATTERNS, DEFAULT_REFUSED_FIELDS

YAML = """
observability:
  something_else: 1
  event_log:
    backend: memory
    ttl_seconds: 60
    max_entries: 50
    workspace: from-file
"""
TOML = """
[observability]
something_else = 1
[observability.event_log]
backend = "memory"
ttl_seconds = 60
max_entries = 50
workspace = "from-file"
"""


@pytest.fixture(params=["yaml", "toml"])
def file(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    path = tmp_path / f"config.{request.param}"
    path.write_text(YAML if request.param == "yaml" else TOML, "utf-8")
    return path


def test_a_file_is_read_in_both_formats(file: Path) -> None:
    config = EventLogConfig.load(file, environ={})
    assert (config.backend, config.ttl_seconds, config.max_entries, config.workspace) == (
        "memory",
        60.0,
        50,
        "from-file",
    )
    assert ObservabilityConfig.load(file, environ={}).event_log == config


def test_code_wins_over_the_environment_and_that_over_the_file(file: Path) -> None:
    environ = {"EVENTLOG_MAX_ENTRIES": "70", "EVENTLOG_WORKSPACE": "from-env", "EVENTLOG_TTL_SECONDS": ""}
    config = EventLogConfig.load(file, environ=environ, workspace="from-code", max_entries=None)
    assert (config.ttl_seconds, config.max_entries, config.workspace) == (60.0, 70, "from-code")


def test_without_anything_there_are_the_defaults() -> None:
    config = EventLogConfig.load(environ={})
    assert (config.ttl_seconds, config.max_entries, config.idempotency_window_seconds) == (3600.0, 10_000, 600.0)
    assert (config.payload_max_bytes, config.workspace, config.redis_url) == (65_536, "default", None)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("MAX_ENTRIES", "many"),
        ("TTL_SECONDS", "1h"),
        ("WORKSPACE", "a b"),
        ("PAYLOAD_MAX_BYTES", "1"),
        ("DEADLINE_SECONDS", "0"),
        ("KEY_PREFIX", "a{b}"),
        ("REFUSED_FIELDS", "cot,,scratchpad"),
        ("REDACT", "sometimes"),
        ("REDACT_FIELDS", "*"),
        ("REDACT_PATTERNS", "a{1,2}"),
        ("REDACT_PATTERNS", "(abc"),
        ("REDACT_PATTERNS", '["abc"'),
        ("REDACT_PATTERNS", '["a", 5]'),
    ],
)
def test_a_bad_variable_is_named(name: str, value: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        EventLogConfig.load(environ={f"EVENTLOG_{name}": value})
    assert refused.value.field == f"EVENTLOG_{name}"


@pytest.mark.parametrize(
    ("value", "names"),
    [
        ("cot, scratch_pad", ("cot", "scratch_pad")),
        ("none", ()),
        ("diary,default", ("diary", *DEFAULT_REFUSED_FIELDS)),
        ('["a,b", "default"]', ("a,b", *DEFAULT_REFUSED_FIELDS)),
        ("[]", ()),
        (' [ "a" ] ', ("a",)),
        ("NONE", ()),
        ("", DEFAULT_REFUSED_FIELDS),
    ],
)
def test_a_list_is_words_with_commas_or_json_and_may_extend_what_is_built_in(
    value: str, names: tuple[str, ...]
) -> None:
    assert EventLogConfig.load(environ={"EVENTLOG_REFUSED_FIELDS": value}).refused_fields == names


def test_the_lists_of_the_guard_are_read_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text(
        "[observability.event_log]\nrefused_fields = []\nredact = true\n"
        "redact_fields = ['pin']\nredact_patterns = ['\\d{4,8}', 'default']\n",
        "utf-8",
    )
    config = EventLogConfig.load(path, environ={"EVENTLOG_REDACT_FIELDS": "puk"})
    assert (config.refused_fields, config.redact, config.redact_fields) == ((), True, ("puk",))
    assert config.redact_patterns == (r"\d{4,8}", *DEFAULT_REDACT_PATTERNS)
    body = Body.of("k", {"puk": 1, "cot": "x", "n": "call 55512"})
    assert config.guard.screen(body).payload_json == b'{"puk":"[redacted]","cot":"x","n":"call [redacted]"}'


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("redact", "true", True),
        ("redact", "OFF", False),
        ("redact", "1", True),
        ("max_entries", "70", 70),
        ("max_entries", "-1", -1),
        ("ttl_seconds", "0.5", 0.5),
        ("ttl_seconds", "60", 60.0),
        ("data_dir", "/tmp/x", Path("/tmp/x")),
        ("redis_url", "redis://h", "redis://h"),
    ],
)
def test_a_variable_has_the_type_of_its_setting(name: str, text: str, value: object) -> None:
    found = getattr(EventLogConfig.load(environ={f"EVENTLOG_{name.upper()}": text}), name)
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max_entries", True),
        ("max_entries", 5.5),
        ("max_entries", float("inf")),
        ("ttl_seconds", True),
        ("ttl_seconds", None),
        ("deadline_seconds", float("nan")),
        ("payload_max_bytes", 1),
        ("redact", 2),
        ("workspace", 5),
        ("redis_url", 5),
        ("data_dir", 5),
        ("refused_fields", 5),
        ("redact_patterns", ("a", 5)),
    ],
)
def test_a_bad_value_of_a_config_that_is_made_in_code_is_named(name: str, value: object) -> None:
    with pytest.raises(InvalidInput) as refused:
        EventLogConfig(**{name: value})  # type: ignore[arg-type]
    assert refused.value.field == name


def test_a_config_cannot_be_changed_and_a_changed_copy_is_checked() -> None:
    config = EventLogConfig(max_entries="7")  # type: ignore[arg-type]
    assert config.max_entries == 7
    with pytest.raises(FrozenInstanceError):
        config.max_entries = 8  # type: ignore[misc]
    assert replace(config, max_entries=8).max_entries == 8
    with pytest.raises(InvalidInput):
        replace(config, workspace="a b")


def test_what_falls_back_is_named_by_its_variable_where_it_is_from_one(caplog: pytest.LogCaptureFixture) -> None:
    environ = {"EVENTLOG_MAX_ENTRIES": "0", "EVENTLOG_TELEMETRY_SAMPLES": "-1", "EVENTLOG_TTL_SECONDS": "-1"}
    config = EventLogConfig.load(environ=environ, ttl_seconds=0)
    assert (config.retention.ttl_ms, config.retention.max_entries, config.telemetry.capacity) == (
        3_600_000,
        10_000,
        5000,
    )
    said = [
        ("ttl_seconds", "0.0 is not from 0.001 to 31622400; the default 3600 counts"),
        ("EVENTLOG_MAX_ENTRIES", "0 is not from 1 to 100000000; the default 10000 counts"),
        ("EVENTLOG_TELEMETRY_SAMPLES", "-1 is not from 0 to 1000000; the default 5000 counts"),
    ]
    assert config.fallbacks() == said
    assert {f"{name}: {problem}" for name, problem in said} == {record.getMessage() for record in caplog.records}
    assert EventLogConfig(telemetry_samples=0, max_entries=1, ttl_seconds=0.001).fallbacks() == []


def test_a_bad_value_in_code_is_named_as_in_code_even_if_a_variable_is_set() -> None:
    with pytest.raises(InvalidInput) as refused:
        EventLogConfig.load(environ={"EVENTLOG_WORKSPACE": "fine"}, workspace="not fine")
    assert refused.value.field == "workspace"


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"workspace": "a/b"}, "workspace: 'a/b' does not match [A-Za-z0-9_.-]{1,64}"),
        ({"max_entrys": 5}, "max_entrys: there is no setting of this name"),
        ({"redact_patterns": ("(",)}, "redact_patterns: '(' is no regular expression: missing )"),
    ],
)
def test_a_problem_is_named_once_and_in_our_words(given: dict[str, object], words: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        EventLogConfig.load(environ={}, **given)
    assert str(refused.value).startswith(words)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://me:secret@h:1/0", "redis://…@h:1/0"),
        ("rediss://:sec@ret@h", "rediss://…@h"),
        ("unix://me:secret@/run/s?db=1", "unix://…@/run/s?db=1"),
        ("redis://h/0?password=secret&db=1", "redis://h/0?password=…&db=1"),
        ("rediss://h?ssl_password=sec@ret", "rediss://h?ssl_password=…"),
        ("unix:///run/a@b", "unix:///run/a@b"),
        ("redis://h", "redis://h"),
    ],
)
def test_a_config_shows_what_was_set_and_no_password(url: str, shown: str) -> None:
    config = EventLogConfig(redis_url=url, workspace="w")
    assert repr(config) == f"EventLogConfig(workspace='w', redis_url='{shown}')"
    assert repr(config) in repr(ObservabilityConfig(event_log=config))
    assert repr(ServerSettings(log=config)) == f"ServerSettings(log={config!r})"
    assert "secret" not in f"{config}{ServerSettings(log=config, port=0)}"
    assert repr(EventLogConfig()) == "EventLogConfig()"


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("observability: {event_log: {max_entries: many}}", "max_entries"),
        ("observability: {event_log: {max_entrys: 5}}", "max_entrys"),
        ("observability: {event_log: [1]}", "observability.event_log"),
    ],
)
def test_a_bad_key_of_a_file_is_named(tmp_path: Path, text: str, field: str) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(text, "utf-8")
    with pytest.raises(InvalidInput) as refused:
        EventLogConfig.load(path, environ={})
    assert refused.value.field == field


@pytest.mark.parametrize(("name", "text"), [("a.yaml", "a: [1"), ("a.toml", "= 5"), ("a.yaml", None)])
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, name: str, text: str | None) -> None:
    path = tmp_path / name
    if text is not None:
        path.write_text(text, "utf-8")
    with pytest.raises(InvalidInput) as refused:
        EventLogConfig.load(path, environ={})
    assert refused.value.field == str(path)


@pytest.mark.parametrize("text", ["", "observability:", "other: 1", "observability: {event_log: }"])
def test_a_file_without_the_section_gives_the_defaults(tmp_path: Path, text: str) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(text, "utf-8")
    assert EventLogConfig.load(path, environ={}) == EventLogConfig.load(environ={})


def test_the_factory_reads_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVENTLOG_MAX_ENTRIES", "3")
    monkeypatch.setenv("EVENTLOG_WORKSPACE", "from-env")
    with create_event_log("memory") as log:
        assert (log.info().max_entries, log.info().workspace) == (3, "from-env")
    with create_event_log("memory", max_entries=4) as log:
        assert log.info().max_entries == 4

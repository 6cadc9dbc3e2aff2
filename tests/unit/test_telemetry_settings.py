"""Where the capacity of rings comes from: code, environment, file, default; the run's own is in the contract suite."""

from pathlib import Path

import pytest

from eventlog import EventLogConfig, create_async_event_log, create_event_log
from eventlog.errors import InvalidInput
from eventlog.telemetry.terms import RingTerms


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "settings.toml"
    path.write_text("[observability.event_log]\ntelemetry_samples = 70\ntelemetry_grace_seconds = 7\n", "utf-8")
    return path


def test_code_wins_over_the_environment_that_over_a_file_that_over_the_default(file: Path) -> None:
    environ = {"EVENTLOG_TELEMETRY_SAMPLES": "50", "EVENTLOG_TELEMETRY_GRACE_SECONDS": "2.5"}
    assert EventLogConfig.load(environ={}).telemetry == RingTerms(5000, 300_000)
    assert EventLogConfig.load(file, environ={}).telemetry == RingTerms(70, 7_000)
    assert EventLogConfig.load(file, environ=environ).telemetry == RingTerms(50, 2_500)
    assert EventLogConfig.load(file, environ=environ, telemetry_samples=0).telemetry == RingTerms(0, 2_500)


def test_a_log_takes_its_capacity_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVENTLOG_TELEMETRY_SAMPLES", "3")
    with create_event_log("memory") as log:
        log.append("run.started", run_id="r")
        log.push_telemetry("r", [{"guest": {"n": n}} for n in range(5)])
        page = log.telemetry("r")
        assert (page.capacity, page.missed, log.telemetry_capacity) == (3, 2, 3)
    with create_event_log("memory", telemetry_samples=9) as log:
        assert log.telemetry_capacity == 9
    assert create_async_event_log("memory").telemetry_capacity == 3


def test_a_capacity_that_is_no_number_is_refused_by_the_name_of_its_variable() -> None:
    with pytest.raises(InvalidInput) as refused:
        EventLogConfig.load(environ={"EVENTLOG_TELEMETRY_SAMPLES": "many"})
    assert refused.value.field == "EVENTLOG_TELEMETRY_SAMPLES"

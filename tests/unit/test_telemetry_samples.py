"""What is a sample and what is not, its wire form, and settings that make no sense."""

import logging
from typing import Any

import pytest

from eventlog.errors import InvalidInput, PayloadTooLarge
from eventlog.telemetry.sample import (
    MOST_PUSHED,
    SAMPLE_MAX_BYTES,
    Kept,
    Posted,
    Sample,
    TelemetryPage,
    checked_sample,
    checked_samples,
)
from eventlog.telemetry.terms import DEFAULT_SAMPLES, RingTerms

HOST = {"rss_bytes": 1_000, "cpu_percent": 12.5, "io_read_bytes": 0, "io_write_bytes": 7}
WHOLE = {"stage_name": "build", "source": "node", "host": HOST, "guest": {"heap": [1, None, {"é": "\u2028"}]}}


def test_a_sample_is_kept_as_it_was_posted() -> None:
    posted = checked_sample({**WHOLE, "age_ms": 250})
    assert (posted.stage_name, posted.age_ms) == ("build", 250)
    sample = Sample.of(Kept(7, 1_000_250, posted.stage_name, posted.data))
    assert sample.to_dict() == {"seq": 7, "timestamp": 1000.25, **WHOLE}
    assert Sample.from_dict(sample.to_dict()) == sample


def test_what_is_absent_is_left_out_of_the_wire_form() -> None:
    posted = checked_sample({"guest": {}, "host": None, "source": None, "stage_name": None})
    sample = Sample.of(Kept(1, 0, None, posted.data))
    assert sample.to_dict() == {"seq": 1, "timestamp": 0.0, "guest": {}}
    assert (sample.host, sample.source, sample.stage_name) == (None, None, None)
    assert Sample.from_dict(sample.to_dict()) == sample


def test_a_page_goes_over_the_wire_and_back() -> None:
    page = TelemetryPage("r", [Sample(3, 1.5, guest={"a": 1}), Sample(4, 1.5, "s", "x", {"rss_bytes": 2})], 9, 2, 50)
    assert page.to_dict()["samples"][0] == {"seq": 3, "timestamp": 1.5, "guest": {"a": 1}}
    assert TelemetryPage.from_dict(page.to_dict()) == page


@pytest.mark.parametrize(
    ("sample", "field"),
    [
        (None, "samples[1]"),
        ([], "samples[1]"),
        ("host", "samples[1]"),
        ({}, "samples[1]"),
        ({"stage_name": "build"}, "samples[1]"),
        ({"host": None}, "samples[1]"),
        ({"guest": {}, "more": 1}, "samples[1].more"),
        ({"guest": {}, "seq": 1}, "samples[1].seq"),
        ({"guest": {}, 5: 1}, "samples[1].5"),
        ({"guest": {}, "stage_name": ""}, "samples[1].stage_name"),
        ({"guest": {}, "stage_name": "a\nb"}, "samples[1].stage_name"),
        ({"guest": {}, "stage_name": 5}, "samples[1].stage_name"),
        ({"guest": {}, "source": "x" * 257}, "samples[1].source"),
        ({"guest": {}, "source": "\ud800"}, "samples[1].source"),
        ({"host": []}, "samples[1].host"),
        ({"host": {"rss": 1}}, "samples[1].host.rss"),
        ({"host": {"rss_bytes": "1"}}, "samples[1].host.rss_bytes"),
        ({"host": {"rss_bytes": True}}, "samples[1].host.rss_bytes"),
        ({"host": {"rss_bytes": None}}, "samples[1].host.rss_bytes"),
        ({"host": {"rss_bytes": -1}}, "samples[1].host.rss_bytes"),
        ({"host": {"rss_bytes": 10**400}}, "samples[1].host.rss_bytes"),
        ({"host": {"cpu_percent": float("nan")}}, "samples[1].host.cpu_percent"),
        ({"host": {"cpu_percent": float("inf")}}, "samples[1].host.cpu_percent"),
        ({"guest": []}, "samples[1].guest"),
        ({"guest": "{}"}, "samples[1].guest"),
        ({"guest": {"a": float("nan")}}, "samples[1].guest.a"),
        ({"guest": {"a": object()}}, "samples[1].guest.a"),
        ({"guest": {"a": 2**64}}, "samples[1].guest.a"),
        ({"guest": {"a": "\ud800"}}, "samples[1].guest.a"),
        ({"guest": {}, "age_ms": -1}, "samples[1].age_ms"),
        ({"guest": {}, "age_ms": float("nan")}, "samples[1].age_ms"),
        ({"guest": {}, "age_ms": True}, "samples[1].age_ms"),
        ({"guest": {}, "age_ms": 10**9}, "samples[1].age_ms"),
    ],
)
def test_what_is_no_sample_is_refused_by_its_place(sample: Any, field: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        checked_samples([{"guest": {}}, sample])
    assert refused.value.field == field
    assert str(refused.value).startswith(f"{field}: ")


def test_a_sample_or_a_push_that_is_too_large_is_refused() -> None:
    room = SAMPLE_MAX_BYTES - len(checked_sample({"guest": {"a": ""}}).data)
    assert len(checked_sample({"guest": {"a": "x" * room}}).data) == SAMPLE_MAX_BYTES
    with pytest.raises(PayloadTooLarge, match=r"samples\[0\]: 8193 bytes encoded, the limit is 8192"):
        checked_samples([{"guest": {"a": "x" * (room + 1)}}])
    assert len(checked_samples([{"guest": {}}] * MOST_PUSHED)) == MOST_PUSHED
    with pytest.raises(PayloadTooLarge, match="more than 500 samples"):
        checked_samples({"guest": {}} for _ in range(MOST_PUSHED + 1))


@pytest.mark.parametrize("samples", [None, 5, "ab", b"ab", {"guest": {}}])
def test_samples_are_a_list(samples: object) -> None:
    with pytest.raises(InvalidInput, match="samples: must be a list of samples"):
        checked_samples(samples)


def test_an_age_may_be_a_fraction_and_none_is_no_age() -> None:
    assert checked_sample({"guest": {}, "age_ms": 1.6}) == Posted(None, 2, b'{"guest":{}}')
    assert checked_sample({"guest": {}}).age_ms == 0


@pytest.mark.parametrize("samples", [-1, float("nan"), float("inf"), 10**7, "many", True, None])
@pytest.mark.parametrize("grace", [-0.5, float("nan"), 1e12, "long"])
def test_terms_that_make_no_sense_fall_back_with_a_warning_each(
    caplog: pytest.LogCaptureFixture, samples: object, grace: object
) -> None:
    with caplog.at_level(logging.WARNING, "eventlog"):
        assert RingTerms.of(samples, grace) == RingTerms(DEFAULT_SAMPLES, 300_000)
    assert [record.args[0] for record in caplog.records if record.args] == [  # type: ignore[index]
        "telemetry_samples",
        "telemetry_grace_seconds",
    ]


def test_terms_that_make_sense_are_taken_in_silence(caplog: pytest.LogCaptureFixture) -> None:
    assert RingTerms.of(0, 0) == RingTerms(0, 0)
    assert RingTerms.of(1_000_000, 0.25) == RingTerms(1_000_000, 250)
    assert not caplog.records

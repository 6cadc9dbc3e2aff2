"""The content guard stands before every append, in every colour and on every backend."""

import asyncio
import logging

import pytest

from eventlog import create_async_event_log, create_event_log
from eventlog.errors import InvalidInput, PayloadTooLarge, RejectedContent
from eventlog.factory import LogOptions
from tests.contract.colours import Colour
from tests.contract.worlds import World

HIDDEN = {"steps": [{"text": "visible"}, {"chainOfThought": "hush"}]}


def test_an_event_with_hidden_chain_of_thought_is_refused_and_warned_about(
    log: Colour, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "eventlog"), pytest.raises(RejectedContent) as caught:
        log.append("turn.started", HIDDEN)
    assert caught.value.field == "payload.steps[1].chainOfThought"
    told = [record.getMessage() for record in caplog.records if record.name == "eventlog"]
    assert any(caught.value.field in line and "reasoning.summary" in line for line in told)
    assert "hush" not in caplog.text + str(caught.value)
    assert log.query() == []
    assert log.append("turn.started", {"reasoning": {"summary": "visible"}, "cot": 1.2}).offset == 1


def test_a_batch_with_one_such_event_is_refused_as_a_whole_and_names_it(log: Colour) -> None:
    with pytest.raises(RejectedContent) as caught:
        log.append_many([{"kind": "a"}, {"kind": "b", "payload": HIDDEN}, {"kind": "c", "payload": {"cot": "x"}}])
    assert (caught.value.index, caught.value.field) == (1, "payload.steps[1].chainOfThought")
    assert str(caught.value).startswith("events[1].payload.steps[1].chainOfThought: ")
    assert log.info().last_offset == 0


def test_the_one_such_event_of_a_large_batch_is_named_by_its_place(log: Colour) -> None:
    events = [{"kind": "a", "payload": {"n": n, "text": "a chain of thought" + "é" * (n % 2)}} for n in range(450)]
    assert [event.payload for event in log.append_many(events)] == [event["payload"] for event in events]
    events[333] = {"kind": "a", "payload": {"cot": "x"}}
    with pytest.raises(RejectedContent) as caught:
        log.append_many(events)
    assert caught.value.index == 333
    assert log.info().last_offset == 450


def test_a_refused_event_uses_up_neither_its_key_nor_its_seq(log: Colour) -> None:
    with pytest.raises(RejectedContent):
        log.append("a", {"cot": "x"}, run_id="r", idempotency_key="k")
    event = log.append("a", {"cot": ""}, run_id="r", idempotency_key="k")
    assert (event.offset, event.seq, event.duplicate) == (1, 1, False)


def test_the_refused_names_are_a_setting(world: World) -> None:
    log = world.open(refused_fields=("diary",))
    assert log.append("a", HIDDEN).payload == HIDDEN
    with pytest.raises(RejectedContent):
        log.append("a", {"Diary": "x"})
    everything = world.open(refused_fields=(), workspace="other")
    assert everything.append("a", {**HIDDEN, "diary": "x"}).offset == 1


def test_secrets_are_redacted_before_they_are_stored_if_asked_for(world: World) -> None:
    payload = {"db_password": "hunter2", "text": "the key is AKIAIOSFODNN7EXAMPLE", "n": [1, 2.5, None]}
    clean = {"db_password": "[redacted]", "text": "the key is [redacted]", "n": [1, 2.5, None]}
    log = world.open(redact=True)
    assert log.append("a", payload).payload == clean
    assert [event.payload for event in log.append_many([{"kind": "b"}, {"kind": "c", "payload": payload}])] == [
        {},
        clean,
    ]
    assert [event.payload for event in log.query()] == [clean, {}, clean]
    assert world.open(workspace="other").append("a", payload).payload == payload


def test_a_redacted_event_may_be_repeated_like_any_other(world: World) -> None:
    log = world.open(redact=True)
    first = log.append("a", {"password": "hunter2"}, idempotency_key="k")
    again = log.append("a", {"password": "hunter2"}, idempotency_key="k")
    assert (again.duplicate, again.id, again.payload) == (True, first.id, {"password": "[redacted]"})


def test_a_payload_that_redaction_makes_too_long_is_refused(world: World) -> None:
    log = world.open(redact=True, payload_max_bytes=20)
    with pytest.raises(PayloadTooLarge):
        log.append("a", {"password": "x"})
    with pytest.raises(PayloadTooLarge, match=r"events\[1\]"):
        log.append_many([{"kind": "a"}, {"kind": "a", "payload": {"password": "x"}}])
    assert log.info().last_offset == 0


def test_what_guests_say_of_themselves_in_samples_passes_the_guard_too(world: World) -> None:
    log = world.open(redact=True)
    log.append("a", run_id="r")
    with pytest.raises(RejectedContent) as caught:
        log.push_telemetry("r", [{"host": {"rss_bytes": 1}}, {"guest": {"steps": [{"cot": "hush"}]}}])
    assert caught.value.field == "samples[1].guest.steps[0].cot"
    (kept,) = log.push_telemetry("r", [{"guest": {"cot": 1.2, "api_key": "hunter2"}}])
    assert kept.guest == {"cot": 1.2, "api_key": "[redacted]"}
    assert log.telemetry("r").samples == [kept]


def test_the_parts_of_a_sample_are_no_fields_of_a_payload(world: World) -> None:
    log = world.open(redact=True, redact_fields=("host", "guest"), refused_fields=("source",))
    log.append("a", run_id="r")
    sample = {"source": "s", "host": {"rss_bytes": 1}, "guest": {"host": "db1", "n": 2}}
    (kept,) = log.push_telemetry("r", [sample])
    assert (kept.source, kept.host, kept.guest) == ("s", {"rss_bytes": 1}, {"host": "[redacted]", "n": 2})


@pytest.mark.parametrize("backend", ["disabled", "memory"])
def test_no_backend_is_without_the_guard(backend: str) -> None:
    async def append_in_a_task() -> None:
        async with create_async_event_log(backend) as twin:
            with pytest.raises(RejectedContent):
                await twin.append("a", HIDDEN)

    with create_event_log(backend) as log, pytest.raises(RejectedContent):
        log.append("a", HIDDEN)
    asyncio.run(append_in_a_task())


@pytest.mark.parametrize(
    "options", [{"refused_fields": ("_",)}, {"redact_fields": ("",)}, {"redact_patterns": ("(",)}], ids=str
)
def test_settings_that_make_no_sense_are_named(options: LogOptions) -> None:
    with pytest.raises(InvalidInput) as caught:
        create_event_log("memory", **options)
    assert caught.value.field == next(iter(options))

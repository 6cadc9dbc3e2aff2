"""The sampler: its owner never waits, nothing is pushed twice, the newest are kept, and it ends when it is told to."""

import asyncio
import logging
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest

from eventlog import create_async_event_log, create_event_log
from eventlog.errors import BackendUnavailable, InvalidInput, LogClosed, NotFound
from eventlog.telemetry import sampler as module
from eventlog.telemetry.sampler import SamplerStats, TelemetrySampler, asample_run, sample_run
from tests.support.redis_process import eventually

QUICK_S = 0.01


class Sink:
    """Takes pushes, and meets each with what `meets` says; keeps what a log would."""

    def __init__(self, meets: Callable[[int], Exception | None] = lambda _: None, *, keeps: bool = True) -> None:
        self.calls: list[dict[str, Any]] = []
        self.kept: list[Mapping[str, Any]] = []
        self.known: set[str] = set()
        self._meets, self._keeps = meets, keeps

    def __call__(
        self,
        run_id: str,
        samples: Sequence[Mapping[str, Any]],
        /,
        *,
        capacity: int | None = None,
        idempotency_key: str | None = None,
    ) -> Sequence[object]:
        self.calls.append({"run_id": run_id, "n": len(samples), "capacity": capacity, "key": idempotency_key})
        trouble = self._meets(len(self.calls))
        # A lost reply: what was asked is carried out, but nobody is told.
        if trouble is None or getattr(trouble, "outcome_unknown", False):
            if idempotency_key not in self.known:
                self.kept += samples
            self.known.add(str(idempotency_key))
        if trouble is not None:
            raise trouble
        return samples if self._keeps else []


class Counter:
    """Measures nothing: each sample says how many there were before."""

    def __init__(self) -> None:
        self.taken = 0

    def __call__(self) -> dict[str, int | float]:
        self.taken += 1
        return {"rss_bytes": self.taken - 1}


def numbers(sink: Sink) -> list[int]:
    return [sample["host"]["rss_bytes"] for sample in sink.kept]


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.message for record in caplog.records if record.name == "eventlog"]


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_RETRY_S", QUICK_S)
    monkeypatch.setattr(module, "_FIRST_S", QUICK_S)


def test_samples_come_by_themselves_each_once_and_in_order_with_a_last_one_at_the_end() -> None:
    sink = Sink()
    with TelemetrySampler(sink, "r", interval_s=QUICK_S, metrics=Counter(), source="me", capacity=7) as sampler:
        eventually(lambda: len(sink.kept) >= 5, "samples arrive")
    assert numbers(sink) == list(range(len(sink.kept)))
    assert {(call["run_id"], call["capacity"]) for call in sink.calls} == {("r", 7)}
    assert all(sample["source"] == "me" and 0 <= sample["age_ms"] < 20_000 for sample in sink.kept)
    assert sampler.stats() == SamplerStats(len(sink.kept), len(sink.kept), 0, 0, "")
    assert not sampler.running


def test_a_stop_right_after_the_start_still_takes_a_sample() -> None:
    sink = Sink()
    with TelemetrySampler(sink, "r", interval_s=3600, metrics=Counter()):
        pass
    assert len(sink.kept) >= 1


@pytest.mark.parametrize(("passed_s", "age_ms"), [(0.0, 0), (1.5, 1500), (10**7, 24 * 3600 * 1000), (-5.0, 0)])
def test_a_sample_is_as_old_as_it_is_when_it_is_pushed(passed_s: float, age_ms: int) -> None:
    sink = Sink()
    now_s = [100.0]
    sampler = TelemetrySampler(sink, "r", interval_s=3600, metrics=Counter(), clock=lambda: now_s[0])
    sampler.sample()
    now_s[0] += passed_s
    sampler.start()
    sampler.stop()
    assert sink.kept[0]["age_ms"] == age_ms


def test_a_sample_may_be_asked_for_at_any_moment() -> None:
    sink = Sink()
    sampler = TelemetrySampler(sink, "r", interval_s=3600, metrics=Counter())
    assert sampler.sample()
    sampler.start()
    assert sampler.sample()
    sampler.stop()
    assert not sampler.sample()
    assert numbers(sink) == list(range(len(sink.kept)))
    assert len(sink.kept) >= 3


def test_the_stage_is_the_current_one_when_the_sample_is_taken() -> None:
    sink = Sink()
    stages: list[str | None] = []
    sampler = TelemetrySampler(sink, "r", interval_s=3600, metrics=Counter(), stage=lambda: stages[-1])
    for stage in ("load", "sort", None):
        stages.append(stage)
        sampler.sample()
    sampler.start()
    sampler.stop()
    assert [sample.get("stage_name") for sample in sink.kept][:3] == ["load", "sort", None]
    named = TelemetrySampler(sink, "r", metrics=Counter(), stage="build")
    named.sample()
    named.start()
    named.stop()
    assert sink.kept[-1]["stage_name"] == "build"


def test_who_measures_may_fail_without_harm(caplog: pytest.LogCaptureFixture) -> None:
    def broken() -> Any:
        raise ValueError("no idea")

    sink = Sink()
    with TelemetrySampler(sink, "r", interval_s=QUICK_S, metrics=broken) as sampler:
        eventually(lambda: "no idea" in sampler.stats().problem, "the trouble is told")
    assert (sink.kept, sampler.stats().taken) == ([], 0)
    assert len(warnings(caplog)) == 1
    assert "nothing is sampled" in warnings(caplog)[0]


@pytest.mark.parametrize("answer", [ValueError("no idea"), "", "x" * 257, 5])
def test_a_stage_that_cannot_be_told_leaves_samples_without_one_and_one_warning(
    answer: object, caplog: pytest.LogCaptureFixture
) -> None:
    said: list[object] = [answer]

    def stage() -> Any:
        if isinstance(said[-1], Exception):
            raise said[-1]
        return said[-1]

    sink = Sink()
    with TelemetrySampler(sink, "r", interval_s=QUICK_S, metrics=Counter(), stage=stage) as sampler:
        eventually(lambda: sampler.stats().pushed >= 3, "samples arrive")
        assert sampler.stats().problem.startswith("no stage: ")
        said.append("sort")
        eventually(lambda: not sampler.stats().problem, "the trouble is over")
    assert "stage_name" not in sink.kept[0]
    assert sink.kept[-1]["stage_name"] == "sort"
    (warning,) = warnings(caplog)
    assert "have no stage" in warning


def test_a_process_that_never_was_is_told_and_warned_about_once(caplog: pytest.LogCaptureFixture) -> None:
    sink = Sink()
    with TelemetrySampler(sink, "r", interval_s=QUICK_S, pid=2**22 + 1) as sampler:
        eventually(lambda: sampler.stats().problem != "", "the trouble is told")
        assert not sampler.sample()
    assert (sink.calls, sampler.stats()) == ([], SamplerStats(0, 0, 0, 0, f"process {2**22 + 1} is gone"))
    assert warnings(caplog) == [f"telemetry of run r: nothing is sampled: process {2**22 + 1} is gone"]


def test_a_process_that_ends_is_told_without_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    sink = Sink()
    with (
        subprocess.Popen(["sleep", "60"]) as process,
        TelemetrySampler(sink, "r", interval_s=QUICK_S, pid=process.pid) as sampler,
    ):
        eventually(lambda: sampler.stats().pushed >= 1, "samples arrive")
        process.kill()
        process.wait()
        eventually(lambda: "is gone" in sampler.stats().problem, "the trouble is told")
    assert "is gone" in sampler.stats().problem
    assert warnings(caplog) == []


def test_a_process_that_is_gone_ends_nothing_but_its_samples() -> None:
    sink = Sink()
    with TelemetrySampler(sink, "r", interval_s=QUICK_S, metrics=lambda: None) as sampler:
        assert not sampler.sample()
    assert (sink.calls, sampler.stats()) == ([], SamplerStats(0, 0, 0, 0, ""))


def test_its_owner_never_waits_for_a_log_that_hangs() -> None:
    hangs = threading.Event()

    def hang(_: int) -> None:
        hangs.wait(30)

    sink = Sink(hang)
    began_s = time.monotonic()
    sampler = TelemetrySampler(sink, "r", interval_s=QUICK_S, metrics=Counter(), buffer=10)
    sampler.start()
    for _ in range(1000):
        sampler.sample()
    assert time.monotonic() - began_s < 5
    stats = sampler.stats()
    assert stats.waiting == 10
    assert stats.dropped == stats.taken - 10 > 900
    assert [call["n"] for call in sink.calls] <= [5], "a batch leaves room for what is newer"
    began_s = time.monotonic()
    sampler.stop(0.2)
    assert time.monotonic() - began_s < 5
    stats = sampler.stats()
    assert stats.taken == stats.pushed + stats.dropped + stats.waiting
    hangs.set()
    eventually(lambda: not sampler.running, "its threads end")
    stats = sampler.stats()
    assert (stats.pushed, stats.waiting) == (len(sink.kept), 0)


def test_while_the_log_is_away_the_newest_are_kept_and_one_warning_is_given(caplog: pytest.LogCaptureFixture) -> None:
    away = True
    sink = Sink(lambda _: BackendUnavailable("away") if away else None)
    with caplog.at_level(logging.WARNING, "eventlog"):
        sampler = TelemetrySampler(sink, "r", interval_s=3600, metrics=Counter(), buffer=20)
        for _ in range(100):
            sampler.sample()
        sampler.start()
        eventually(lambda: sampler.stats().problem == "away", "it has tried")
        away = False
        eventually(lambda: sampler.stats().waiting == 0, "all is pushed")
        sampler.stop()
    kept = numbers(sink)
    assert kept == sorted(set(kept))
    assert kept[0] >= 80
    assert set(range(95, sampler.stats().taken)) <= set(kept)
    assert sampler.stats().dropped == sampler.stats().taken - len(kept) >= 80
    assert sampler.stats().problem == ""
    assert len([record for record in caplog.records if "dropped" in record.message]) == 1


def test_a_batch_whose_outcome_is_unknown_is_pushed_again_as_it_was_under_its_key() -> None:
    sink = Sink(lambda call: BackendUnavailable("lost", outcome_unknown=True) if call % 3 else None)
    with TelemetrySampler(sink, "r", interval_s=QUICK_S, metrics=Counter()) as sampler:
        eventually(lambda: sampler.stats().pushed >= 5, "some get through")
    keys = [call["key"] for call in sink.calls]
    assert all(keys[i] == keys[i - i % 3] for i in range(len(keys))), "three calls a batch, the third told"
    assert {len({call["n"] for call in sink.calls if call["key"] == key}) for key in keys} == {1}
    assert numbers(sink) == list(range(len(sink.kept)))


def test_a_run_that_is_not_there_yet_is_waited_for() -> None:
    sink = Sink(lambda call: NotFound("no such run") if call <= 5 else None)
    with TelemetrySampler(sink, "r", interval_s=QUICK_S, metrics=Counter()) as sampler:
        eventually(lambda: sampler.stats().pushed >= 5, "samples arrive")
    assert numbers(sink) == list(range(len(sink.kept)))
    assert sampler.stats().dropped == 0


def test_a_run_that_never_comes_does_not_hold_up_the_stop(caplog: pytest.LogCaptureFixture) -> None:
    sink = Sink(lambda _: NotFound("no such run"))
    sampler = TelemetrySampler(sink, "r", interval_s=QUICK_S, metrics=Counter())
    sampler.start()
    eventually(lambda: len(sink.calls) >= 3, "it tries")
    began_s = time.monotonic()
    sampler.stop(60)
    assert time.monotonic() - began_s < 20
    stats = sampler.stats()
    assert (stats.pushed, stats.waiting, stats.problem) == (0, 0, "no such run")
    assert stats.dropped == stats.taken > 0
    sampler.stop()
    assert warnings(caplog) == [
        f"telemetry of run r: {stats.taken} samples are lost, as sampling was stopped: no such run"
    ]


def test_what_a_log_that_is_away_did_not_take_by_the_stop_is_warned_about_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    sink = Sink(lambda _: BackendUnavailable("away"))
    sampler = TelemetrySampler(sink, "r", interval_s=3600, metrics=Counter())
    sampler.start()
    eventually(lambda: sampler.stats().problem == "away", "it has tried")
    sampler.stop(0.1)
    eventually(lambda: not sampler.running, "its threads end")
    stats = sampler.stats()
    assert (stats.pushed, stats.waiting, stats.dropped, stats.problem) == (0, 0, stats.taken, "away")
    sampler.stop()
    assert warnings(caplog) == [f"telemetry of run r: {stats.taken} samples are lost, as sampling was stopped: away"]


def test_samples_that_the_log_refuses_cost_only_themselves(caplog: pytest.LogCaptureFixture) -> None:
    sink = Sink(lambda call: InvalidInput("stage_name", "is none") if call == 1 else None)
    with TelemetrySampler(sink, "r", interval_s=QUICK_S, metrics=Counter()) as sampler:
        eventually(lambda: sampler.stats().pushed >= 3, "later ones arrive")
    stats = sampler.stats()
    assert stats.dropped == sink.calls[0]["n"]
    assert numbers(sink) == list(range(stats.dropped, stats.taken))
    assert len(warnings(caplog)) == 1
    assert "refused" in warnings(caplog)[0]


def test_what_nobody_foresaw_costs_a_batch_and_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    sink = Sink(lambda call: RuntimeError("boom") if call == 1 else None)
    caplog.set_level(logging.WARNING, "eventlog")
    with TelemetrySampler(sink, "r", interval_s=QUICK_S, metrics=Counter()) as sampler:
        eventually(lambda: sampler.stats().pushed >= 3, "later ones arrive")
    assert sampler.stats().dropped == sink.calls[0]["n"]
    assert "boom" in caplog.text


@pytest.mark.parametrize("sink", [Sink(keeps=False), Sink(lambda _: LogClosed("the log was closed"))])
def test_where_nothing_is_kept_sampling_ends_with_one_warning(sink: Sink, caplog: pytest.LogCaptureFixture) -> None:
    metrics = Counter()
    sampler = TelemetrySampler(sink, "r", interval_s=QUICK_S, metrics=metrics)
    sampler.start()
    eventually(lambda: not sampler.running, "it ends by itself")
    assert len(sink.calls) == 1
    taken = metrics.taken
    assert not sampler.sample()
    assert metrics.taken == taken
    sampler.stop()
    assert sampler.stats().dropped == sampler.stats().taken
    assert warnings(caplog) == [f"telemetry of run r: sampling ends: {sampler.stats().problem}"]


def test_a_capacity_of_nothing_takes_no_sample_and_starts_no_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "HostMetrics", _forbidden)
    sink = Sink()
    before = threading.active_count()
    with TelemetrySampler(sink, "r", interval_s=QUICK_S, capacity=0) as sampler:
        assert threading.active_count() == before
        assert not sampler.sample()
    assert (sink.calls, sampler.stats()) == ([], SamplerStats(0, 0, 0, 0, ""))
    for off in (create_event_log("memory", telemetry_samples=0), create_event_log("disabled")):
        with off:
            off.append("run.started", run_id="r")
            with sample_run(off, "r", interval_s=QUICK_S) as sampler:
                assert threading.active_count() == before
            assert sampler.stats().taken == 0
    with create_event_log("memory") as log, sample_run(log, "r", capacity=0) as sampler:
        assert threading.active_count() == before


def _forbidden(*_: object) -> Any:
    raise AssertionError("nothing is measured")


def test_start_and_stop_may_be_called_twice_and_stop_before_start() -> None:
    sink = Sink()
    sampler = TelemetrySampler(sink, "r", interval_s=3600, metrics=Counter())
    sampler.start()
    threads = threading.active_count()
    sampler.start()
    assert threading.active_count() == threads
    sampler.stop()
    taken = sampler.stats().taken
    sampler.stop()
    sampler.start()
    assert (sampler.running, sampler.stats().taken) == (False, taken)
    never = TelemetrySampler(sink, "r", metrics=Counter())
    never.stop()
    never.start()
    assert not never.running


@pytest.mark.parametrize(
    "given",
    [
        {"interval_s": 0},
        {"interval_s": -1.0},
        {"interval_s": float("nan")},
        {"buffer": 0},
        {"run_id": "a/b"},
        {"run_id": None},
        {"pid": 0},
        {"pid": -5},
        {"pid": "7"},
        {"pid": True},
        {"capacity": -1},
        {"capacity": "5"},
        {"stage": ""},
        {"stage": 5},
        {"source": "x" * 257},
    ],
)
def test_what_makes_no_sense_is_refused_at_once(given: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput) as refused:
        TelemetrySampler(Sink(), **{"run_id": "r", **given})
    assert refused.value.field == next(iter(given))


def test_the_wrong_twin_is_refused_at_once_by_the_name_of_the_right_one() -> None:
    async def main() -> None:
        async with create_async_event_log("memory") as log:
            with pytest.raises(InvalidInput, match="asample_run"):
                sample_run(log, "r")  # type: ignore[arg-type]
            with pytest.raises(InvalidInput, match="asample_run"):
                TelemetrySampler(log.push_telemetry, "r")  # type: ignore[arg-type]
        with create_event_log("memory") as blocking, pytest.raises(InvalidInput, match="use sample_run"):
            asample_run(blocking, "r")  # type: ignore[arg-type]

    asyncio.run(main())


def test_a_block_is_sampled_into_a_log() -> None:
    with create_event_log("memory") as log:
        log.append("run.started", run_id="r")
        with sample_run(log, "r", stage="build", source="test", capacity=50, interval_s=QUICK_S) as sampler:
            eventually(lambda: sampler.stats().pushed >= 3, "samples arrive")
        page = log.telemetry("r")
        assert len(page.samples) == sampler.stats().pushed
        assert page.capacity == 50
        assert all(one.host and one.host["rss_bytes"] > 0 and one.stage_name == "build" for one in page.samples)


def test_a_block_on_asyncio_is_sampled_without_stopping_its_loop() -> None:
    async def main() -> None:
        async with create_async_event_log("memory") as log:
            await log.append("run.started", run_id="r")
            longest_s = 0.0
            async with asample_run(log, "r", stage="build", interval_s=QUICK_S) as sampler:
                until_s = time.monotonic() + 30
                while sampler.stats().pushed < 5 and time.monotonic() < until_s:
                    before_s = time.monotonic()
                    await asyncio.sleep(0.001)
                    longest_s = max(longest_s, time.monotonic() - before_s)
            page = await log.telemetry("r")
            assert len(page.samples) == sampler.stats().pushed >= 5
            assert longest_s < 1

    asyncio.run(main())


def test_a_loop_that_is_gone_ends_the_sampling() -> None:
    log = create_async_event_log("memory")

    async def begin() -> TelemetrySampler:
        await log.append("run.started", run_id="r")
        entered = asample_run(log, "r", interval_s=QUICK_S)
        sampler = await entered.__aenter__()
        kept.append(entered)
        return sampler

    kept: list[object] = []
    sampler = asyncio.run(begin())
    eventually(lambda: not sampler.running, "it ends by itself", patience_s=60)
    sampler.stop()

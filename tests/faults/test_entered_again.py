"""Calls in signal handlers and finalizers, in the middle of a call of the same thread, and calls that a handler ends.

At each line: nobody hangs, what was taken arrives once and in order, and the next call finds all as it should be.
"""

import threading
from itertools import islice

from eventlog import EventBus, bus, create_event_log, telemetry
from eventlog.log import DirectLog
from eventlog.model.events import Body, Event
from eventlog.plan import threads
from eventlog.runs import merge
from eventlog.runs.merge import follow_merged
from eventlog.slots import SlotQueue, memory, memory_acts, memory_queue
from eventlog.telemetry.sampler import TelemetrySampler
from tests.support.interrupts import at_each_step, within
from tests.support.redis_process import eventually

PATIENCE_S = 20.0


def kinds(given: EventBus) -> list[str]:
    return [event.kind for event in given.replay()]


def emits_and_reads(here: EventBus) -> None:
    subscription = here.subscribe(replay=False)
    here.emit({"kind": "a", "run_id": "r"})
    next(subscription)
    here.emit({"kind": "b", "run_id": "r"})
    here.stats()
    subscription.close()


def test_an_event_emitted_in_the_middle_of_anything_that_a_bus_does_is_published_once() -> None:
    buses: list[EventBus] = []

    def emits() -> None:
        buses[-1].emit({"kind": "handler", "run_id": "r"})
        buses[-1].emit_sync({"kind": "handler", "run_id": "r"})
        assert buses[-1].stats().emitted <= 4

    for interrupt in at_each_step(within(bus), at_least=15, handler=emits):
        buses.append(here := EventBus())
        interrupt.during(lambda here=here: emits_and_reads(here))
        expected = ["a", "b"] if interrupt.left else ["a", "b", "handler", "handler"]
        eventually(lambda here=here, expected=expected: sorted(kinds(here)) == expected, "all is published")
        events = here.replay()
        assert [event.offset for event in events] == [event.seq for event in events] == list(range(1, len(events) + 1))
        assert here.stats().emitted == len(events)
        assert [event.kind for event in islice(here.subscribe(), len(events))] == kinds(here)


def test_a_bus_whose_call_was_interrupted_goes_on() -> None:
    for interrupt in at_each_step(within(bus), at_least=15):
        here = EventBus()
        reader = here.subscribe()
        interrupt.during(lambda here=here: emits_and_reads(here))
        here.emit({"kind": "after"})
        here.close()
        read = list(reader)
        assert [event.offset for event in read] == [event.offset for event in here.replay()]
        assert [event.offset for event in read] == list(range(1, len(read) + 1))
        assert read[-1].kind == "after"


def test_an_interrupted_emission_wakes_all_that_wait() -> None:
    for interrupt in at_each_step(within(bus), at_least=5):
        here = EventBus()
        subscriptions = [here.subscribe() for _ in range(3)]
        got: list[str] = []

        def read(subscription: bus.Subscription, got: list[str] = got) -> None:
            got.append(next(subscription).kind)

        readers = [threading.Thread(target=read, args=(each,), daemon=True) for each in subscriptions]
        for reader in readers:
            reader.start()
        eventually(lambda subs=subscriptions: all(each.waiters for each in subs), "all wait")
        interrupt.during(lambda here=here: here.emit({"kind": "a"}))
        if not here.history_size:
            here.emit({"kind": "a"})
        for reader in readers:
            reader.join(PATIENCE_S)
        assert got == ["a"] * 3


def sampler(kept: list[int]) -> TelemetrySampler:
    def push(run_id: str, samples: list[object], **_: object) -> list[object]:
        kept.append(len(samples))
        return samples

    return TelemetrySampler(push, "r", metrics=lambda: {"rss_bytes": 1}, interval_s=3600)


def test_a_sampler_that_is_stopped_in_the_middle_of_anything_ends() -> None:
    samplers: list[TelemetrySampler] = []

    def samples(one: TelemetrySampler) -> None:
        with one:
            one.sample()
            one.stats()

    for interrupt in at_each_step(within(telemetry, threads), at_least=5, handler=lambda: samplers[-1].stop()):
        kept: list[int] = []
        samplers.append(one := sampler(kept))
        interrupt.during(lambda one=one: samples(one))
        eventually(lambda one=one: not one.running, "it ends")
        stats = one.stats()
        assert (stats.pushed, stats.waiting) == (sum(kept), 0)
        assert stats.taken == stats.pushed + stats.dropped


def test_a_sampler_whose_call_was_interrupted_ends_when_it_is_stopped() -> None:
    def samples(one: TelemetrySampler) -> None:
        one.start()
        one.sample()
        one.stats()
        one.stop()

    for interrupt in at_each_step(within(telemetry, threads), at_least=5):
        kept: list[int] = []
        one = sampler(kept)
        interrupt.during(lambda one=one: samples(one))
        one.stop()
        assert not one.running
        stats = one.stats()
        assert stats.taken == stats.pushed + stats.dropped
        assert stats.waiting == 0


def stream(name: str) -> list[Event]:
    return [Event(1_000 + n, n, Body.of(name, {}), None) for n in range(1, 4)]


def merged() -> merge.MergedFollower:
    return follow_merged({"a": stream("a"), "b": stream("b")}, hold_back_s=5.0)


def merging(one: merge.MergedFollower) -> None:
    for _ in one:
        one.stats()


def assert_ended() -> None:
    assert not [each for each in threading.enumerate() if each.name.startswith("eventlog-merge")]


def test_a_merged_stream_may_be_closed_in_the_middle_of_anything() -> None:
    streams: list[merge.MergedFollower] = []
    for interrupt in at_each_step(within(merge, threads), at_least=5, handler=lambda: streams[-1].close()):
        streams.append(one := merged())
        interrupt.during(lambda one=one: merging(one))
        one.close()
        assert_ended()


def test_a_merged_stream_that_was_interrupted_closes() -> None:
    for interrupt in at_each_step(within(merge, threads), at_least=5):
        one = merged()
        interrupt.during(lambda one=one: merging(one))
        one.close()
        assert_ended()


def queue_of(here: SlotQueue) -> tuple[int, int]:
    stats = here.stats("build")
    return stats.active_count, stats.queue_length


def works_under_slots(here: SlotQueue) -> None:
    with here.acquire("build", "first", max_concurrent=1):
        here.enqueue("build", "second", max_concurrent=1)
        here.set_limit("build", 5)
    here.renew("build", "second")
    here.leave("build", "second")


def memory_slots() -> tuple[DirectLog, SlotQueue]:
    log = create_event_log("memory")
    assert isinstance(log, DirectLog)
    return log, log.slots()


def assert_told_in_order(log: DirectLog) -> None:
    """Of each execution: queued, granted, released, each once."""
    told: dict[str, list[str]] = {}
    for event in log.query(kind="slot.*"):
        told.setdefault(event.payload["execution_id"], []).append(event.kind.removeprefix("slot."))
    for execution, transitions in told.items():
        assert transitions in (["granted", "released"], ["queued", "granted", "released"]), execution


def test_slots_in_memory_are_whole_whatever_a_handler_does_in_the_middle_of_a_call() -> None:
    logs: list[DirectLog] = []

    def takes_a_slot() -> None:
        with logs[-1].slots().acquire("build", "handler", timeout_s=0.01, max_concurrent=3):
            pass

    for interrupt in at_each_step(
        within(memory, memory_queue, memory_acts), at_least=30, handler=takes_a_slot, many=True
    ):
        log, here = memory_slots()
        here.set_limit("build", 5)
        logs.append(log)
        interrupt.during(lambda here=here: works_under_slots(here))
        assert queue_of(here) == (0, 0)
        assert_told_in_order(log)
        here.close()
        log.close()


def test_slots_in_memory_are_whole_after_an_interrupt() -> None:
    for interrupt in at_each_step(within(memory, memory_queue, memory_acts), at_least=30, many=True):
        log, here = memory_slots()
        interrupt.during(lambda here=here: works_under_slots(here))
        here.leave("build", "first")
        here.leave("build", "second")
        with here.acquire("build", "after", timeout_s=0, max_concurrent=1):
            assert queue_of(here) == (1, 0)
        assert queue_of(here) == (0, 0)
        here.close()
        log.close()

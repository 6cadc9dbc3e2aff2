"""A shared bus in several processes, and on a Redis that goes away."""

import asyncio
import threading

import pytest

from eventlog import Event
from eventlog.bus.bus import EventBus
from eventlog.bus.shared import SharedBus
from eventlog.errors import BackendUnavailable
from tests.faults.bus_workers import BusWorker
from tests.faults.opening import open_async_log, open_log
from tests.support.redis_process import RedisProcess, eventually


@pytest.mark.parametrize("style", ["threads", "loop"])
def test_two_processes_on_one_bus_see_what_both_emit_in_the_same_order(own_server: RedisProcess, style: str) -> None:
    with (
        BusWorker(style=style, url=own_server.url, name="a", count=1000) as one,
        BusWorker(style="threads", url=own_server.url, name="b", count=1000) as other,
        open_log(own_server.url) as log,
    ):
        for worker in (one, other):
            worker.until("ready")
        log.append("go")
        eventually(lambda: log.info().last_offset == 2001, "both have emitted", patience_s=60)
        log.append("end")
        one.finish()
        other.finish()
        seen = [list(worker.of("got")) for worker in (one, other)]
        assert seen[0] == seen[1] == [[e.offset, e.kind, e.payload.get("n")] for e in log.query()]
    assert [n for _, kind, n in seen[0] if kind == "a"] == list(range(1000))
    assert len(seen[0]) == 2002


def test_subscribers_wait_for_a_redis_that_is_killed_and_comes_back(own_server: RedisProcess) -> None:
    with open_log(own_server.url) as log, EventBus(max_queue_size=5, log=log) as bus:
        live, slow = bus.subscribe(), bus.subscribe()
        given: list[Event] = []
        reader = threading.Thread(target=lambda: given.extend(live))
        reader.start()
        emitted = [bus.emit_sync({"kind": "before"}) for _ in range(20)]
        eventually(lambda: bus.stats().delivered >= 20, "it is given what was before")
        own_server.kill()
        late = bus.subscribe()
        with pytest.raises(BackendUnavailable):
            bus.emit_sync({"kind": "lost"})
        own_server.start()
        emitted += [bus.emit_sync({"kind": "after"}) for _ in range(20)]
        bus.close()
        reader.join(20)
        assert given == list(slow) == list(late) == log.query()
        assert [event for event in given if event.kind != "lost"] == emitted


def test_a_redis_that_stays_away_is_told_to_subscribers_when_their_patience_ends(own_server: RedisProcess) -> None:
    with open_log(own_server.url, deadline_s=0.3) as log:
        bus = EventBus(max_queue_size=5, log=log, patience_s=0.5)
        live, slow = bus.subscribe(), bus.subscribe()
        for _ in range(20):
            bus.emit({"kind": "a"})
        for _ in range(20):
            next(live)
        own_server.stop()
        for subscription in (live, slow, bus.subscribe()):
            with pytest.raises(BackendUnavailable):
                for _ in subscription:
                    pass
        shared = bus._source
        assert isinstance(shared, SharedBus)
        eventually(lambda: not shared._following, "nobody follows")
        own_server.start()
        again = bus.subscribe()
        event = bus.emit_sync({"kind": "b"})
        assert list(zip(range(21), again, strict=False))[-1][1] == event
        bus.close()


def test_a_failure_on_an_event_loop_is_raised_to_who_awaits_and_logged_where_nobody_does(
    own_server: RedisProcess, caplog: pytest.LogCaptureFixture
) -> None:
    async def main(bus: EventBus) -> None:
        bus.emit({"kind": "a"})
        with pytest.raises(BackendUnavailable):
            await bus.emit({"kind": "b"})
        await bus.close()

    async def on_an_asyncio_log() -> None:
        async with open_async_log(own_server.url, deadline_s=0.3) as log:
            await main(EventBus(log=log))

    own_server.stop()
    with open_log(own_server.url, deadline_s=0.3) as log:
        asyncio.run(main(EventBus(log=log)))
    asyncio.run(on_an_asyncio_log())
    assert [record.message[:24] for record in caplog.records if "not emitted" in record.message] == [
        "an event was not emitted"
    ] * 2


def test_a_process_ends_with_subscribers_that_wait(own_server: RedisProcess) -> None:
    with BusWorker(style="left open", url=own_server.url) as worker:
        worker.finish(20)
    assert worker.errors == ""

"""A dispatcher before a log whose Redis goes away: producers go on, nothing arrives twice, counts are exact."""

import asyncio
from concurrent.futures import ThreadPoolExecutor

from eventlog.dispatch.dispatchers import AsyncEventDispatcher, EventDispatcher
from tests.faults.opening import open_async_log, open_log
from tests.faults.proxy import CUTS, ChaosProxy, Fault
from tests.support.redis_process import RedisProcess, eventually

ROOM = 1_000_000


def test_what_was_handed_over_while_redis_was_away_arrives_once_when_it_is_back(own_server: RedisProcess) -> None:
    with open_log(own_server.url, deadline_s=0.5) as log:
        with EventDispatcher(log, inflight_oversubscription=ROOM, call_timeout_s=60, drain_timeout_s=60) as dispatcher:
            for n in range(3_000):
                if n == 1_000:
                    eventually(lambda: dispatcher.stats().delivered, "some are delivered")
                    own_server.kill()
                if n == 2_000:
                    own_server.start()
                dispatcher.dispatch(event_name="a", data={"n": n}, operation_id="r")
        stats = dispatcher.stats()
        assert (stats.delivered, stats.in_flight) == (3_000, 0)
        events = log.query(run_id="r")
        assert [event.payload["n"] for event in events] == list(range(3_000))
        assert log.verify().clean


def test_the_same_on_asyncio(own_server: RedisProcess) -> None:
    async def scenario() -> None:
        async with open_async_log(own_server.url, deadline_s=0.5) as log:
            async with AsyncEventDispatcher(
                log, inflight_oversubscription=ROOM, call_timeout_s=60, drain_timeout_s=60
            ) as dispatcher:
                for n in range(3_000):
                    if n == 1_000:
                        await asyncio.to_thread(own_server.kill)
                    if n == 2_000:
                        await asyncio.to_thread(own_server.start)
                    dispatcher.dispatch(event_name="a", data={"n": n}, operation_id="r")
            assert dispatcher.stats().delivered == 3_000
            assert [event.payload["n"] for event in await log.query(run_id="r")] == list(range(3_000))

    asyncio.run(scenario())


def test_replies_that_are_lost_double_nothing(own_server: RedisProcess, proxy: ChaosProxy) -> None:
    with open_log(proxy.url, deadline_s=0.3) as log:
        with EventDispatcher(log, inflight_oversubscription=ROOM, call_timeout_s=60, drain_timeout_s=60) as dispatcher:
            for n in range(200):
                if n % 20 == 0:
                    proxy.plan(CUTS[(n // 20) % len(CUTS)], Fault.SWALLOWED)
                dispatcher.dispatch(event_name="a", data={"n": n})
                if n % 5 == 4:
                    eventually(lambda: not dispatcher.stats().in_flight, "the batch is delivered")
        assert dispatcher.stats().delivered == 200
    with open_log(own_server.url) as log:
        assert [event.payload["n"] for event in log.query()] == list(range(200))


def test_producers_are_not_held_up_by_a_redis_that_hangs(own_server: RedisProcess) -> None:
    with open_log(own_server.url, deadline_s=30) as log:
        log.append("warm")
        dispatcher = EventDispatcher(log, call_timeout_s=60)
        own_server.pause()
        try:
            with ThreadPoolExecutor(8) as pool:
                list(pool.map(lambda n: dispatcher.dispatch(event_name="a", data={"n": n}), range(10_000)))
            stats = dispatcher.stats()
            assert (stats.dispatched, stats.delivered, stats.in_flight) == (10_000, 0, 4_000)
            assert not dispatcher.shutdown(timeout_s=0.1)
        finally:
            own_server.resume()
        stats = dispatcher.stats()
        assert stats.in_flight == 0


def test_redis_that_stays_away_costs_the_events_and_no_more(own_server: RedisProcess) -> None:
    with open_log(own_server.url, deadline_s=0.1) as log:
        own_server.kill()
        dispatcher = EventDispatcher(log, call_timeout_s=0.5)
        for _ in range(100):
            dispatcher.dispatch(event_name="a")
        assert dispatcher.shutdown(timeout_s=30)
        stats = dispatcher.stats()
        assert (stats.dispatched, stats.delivered, stats.in_flight) == (100, 0, 0)
        assert stats.failed + stats.timed_out >= 40, "as many as may be in flight were tried"

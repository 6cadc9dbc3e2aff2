"""A call ends within its deadline, whatever Redis does, and says whether the write may have been carried out."""

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Thread, Timer

import pytest

from eventlog.errors import BackendUnavailable
from tests.faults.opening import open_async_log, open_log
from tests.faults.proxy import ChaosProxy, Fault
from tests.support.redis_process import RedisProcess

# More than a busy machine keeps a thread from running, and less than a second deadline would take.
SLACK_S = 1.0


@contextmanager
def ends_within(seconds: float) -> Iterator[None]:
    started = time.monotonic()
    yield
    took = time.monotonic() - started
    assert took <= seconds, f"took {took:.2f} s instead of {seconds} s"


def test_a_first_append_to_a_frozen_redis_ends_within_the_deadline(own_server: RedisProcess) -> None:
    with open_log(own_server.url, deadline_s=1.5) as log:
        own_server.pause()
        with ends_within(1.5 + SLACK_S), pytest.raises(BackendUnavailable):
            log.append("a")
        own_server.resume()
        log.append("b")


def test_an_append_larger_than_the_socket_buffers_ends_within_the_deadline(own_server: RedisProcess) -> None:
    large = [{"kind": "a", "payload": {"text": "x" * 60_000}}] * 200
    with open_log(own_server.url, deadline_s=1.5) as log:
        log.append("a")
        own_server.pause()
        with ends_within(1.5 + SLACK_S), pytest.raises(BackendUnavailable) as caught:
            log.append_many(large, idempotency_key="k")
        assert caught.value.outcome_unknown
        own_server.resume()
        log.append_many(large, idempotency_key="k")
        assert log.info().length == 201


def test_an_append_to_a_frozen_redis_has_an_unknown_outcome_and_one_key_makes_it_one_entry(
    own_server: RedisProcess,
) -> None:
    with open_log(own_server.url, deadline_s=1.0) as log:
        log.append("a")
        own_server.pause()
        with ends_within(1.0 + SLACK_S), pytest.raises(BackendUnavailable) as caught:
            log.append("b", idempotency_key="k")
        assert caught.value.outcome_unknown
        own_server.resume()
        event = log.append("b", idempotency_key="k")
        assert [e.kind for e in log.query()] == ["a", "b"]
        assert event.offset == 2


@pytest.mark.parametrize("size", [1, 500])
def test_a_redis_frozen_for_less_than_the_deadline_costs_nothing_but_time(own_server: RedisProcess, size: int) -> None:
    with open_log(own_server.url, deadline_s=5.0) as log:
        log.append("first")
        own_server.pause()
        waker = Timer(3.0, own_server.resume)
        waker.start()
        events = log.append_many([{"kind": "a"}] * size)
        waker.join()
        assert [e.offset for e in events] == list(range(2, size + 2))
        assert log.info().last_offset == size + 1
        assert log.verify().clean


def test_without_redis_the_error_is_clear_and_all_recovers_by_itself(own_server: RedisProcess) -> None:
    with open_log(own_server.url, deadline_s=1.0) as log:
        log.append("a")
        own_server.stop()
        for call in (lambda: log.append("b"), lambda: log.query(), lambda: log.info()):
            with ends_within(1.0 + SLACK_S), pytest.raises(BackendUnavailable, match="Redis"):
                call()
        own_server.start()
        assert log.append("c").offset == 2
        assert [e.kind for e in log.query()] == ["a", "c"]


def test_a_redis_that_swallows_requests_is_given_up_within_the_deadline(proxy: ChaosProxy) -> None:
    with open_log(proxy.url, deadline_s=1.0) as log:
        log.append("a")
        proxy.plan(*[Fault.SWALLOWED] * 20)
        with ends_within(1.0 + SLACK_S), pytest.raises(BackendUnavailable) as caught:
            log.append("b")
        assert caught.value.outcome_unknown
        proxy.calm()
        assert log.append("c").offset == 2


def test_a_swallowed_request_leaves_time_for_another_connection(proxy: ChaosProxy) -> None:
    with open_log(proxy.url, deadline_s=2.0) as log:
        log.append("a")
        proxy.plan(Fault.SWALLOWED)
        with ends_within(2.0 + SLACK_S):
            assert log.append("b").offset == 2
        assert log.info().length == 2


def test_stale_connections_of_a_full_pool_do_not_use_up_a_short_deadline(own_server: RedisProcess) -> None:
    with open_log(own_server.url, deadline_s=0.6) as log:
        log.append("a")
        own_server.pause()
        readers = [Thread(target=log.info) for _ in range(8)]
        for reader in readers:
            reader.start()
        time.sleep(0.1)
        own_server.resume()
        for reader in readers:
            reader.join()
        own_server.restart()
        assert log.append("b").offset == 2


async def appended(log: object, count: int) -> list[object]:
    return await asyncio.gather(*(log.append("x") for _ in range(count)), return_exceptions=True)  # type: ignore[attr-defined]


def test_no_task_waits_longer_than_its_own_deadline_and_that_of_one_call(own_server: RedisProcess) -> None:
    """Many calls' worth of appends queue up before a frozen Redis: the last is not kept for many deadlines."""

    async def scenario() -> None:
        async with open_async_log(own_server.url, deadline_s=0.7) as log:
            await log.append("a")
            own_server.pause()
            with ends_within(2 * 0.7 + 2 * SLACK_S):
                results = await appended(log, 5000)
            assert all(isinstance(result, BackendUnavailable) for result in results)
            sent = sum(result.outcome_unknown for result in results if isinstance(result, BackendUnavailable))
            assert 0 < sent < 5000, "those that were never sent are known not to be in the log"
            own_server.resume()
            assert (await log.append("b")).offset <= sent + 2

    asyncio.run(scenario())


def test_no_thread_waits_longer_than_its_own_deadline_and_that_of_one_call(own_server: RedisProcess) -> None:
    failures: list[BackendUnavailable] = []

    with open_log(own_server.url, deadline_s=0.7) as log:
        log.append("a")

        def append() -> None:
            try:
                log.append_many([{"kind": "x"}] * 600)
            except BackendUnavailable as error:
                failures.append(error)

        own_server.pause()
        threads = [Thread(target=append) for _ in range(20)]
        with ends_within(2 * 0.7 + 2 * SLACK_S):
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        assert len(failures) == 20
        assert not all(failure.outcome_unknown for failure in failures)
        own_server.resume()
        log.append("b")

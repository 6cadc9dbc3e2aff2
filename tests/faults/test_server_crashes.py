"""redis-server killed and started again, and the disk or memory it lacks."""

import asyncio
import contextlib
import os
from collections.abc import Callable
from contextlib import ExitStack

import pytest
from redis import Redis

from eventlog import Event
from eventlog.errors import BackendFull
from eventlog.log.blocking import EventLog
from eventlog.plan.drive import run
from eventlog.store.links import SyncLink
from eventlog.store.server_info import inspect_redis
from tests.faults.opening import open_async_log, open_log
from tests.faults.test_chaos import STYLES, hold_to_what_was_acknowledged
from tests.faults.workers import Worker
from tests.support.redis_process import Binary, RedisProcess, all_engines, await_replica, binaries, eventually

EACH_BINARY = pytest.mark.parametrize("binary", binaries(), ids=lambda binary: binary.name)


@pytest.mark.chaos
@pytest.mark.timeout(240)
def test_a_server_killed_under_load_keeps_every_acknowledged_append() -> None:
    each, kills = 1500, 4
    with RedisProcess(appendfsync="always") as server, ExitStack() as stack:
        workers = [
            stack.enter_context(Worker(style=style, url=server.url, name=f"w{i}", count=each, deadline_s=60.0))
            for i, style in enumerate(STYLES[:4])
        ]
        reader = stack.enter_context(
            Worker(style="follow", url=server.url, since=0, until_offset=4 * each, deadline_s=60.0)
        )
        for _ in range(kills):
            for _ in range(100):
                workers[0].until("acked")
            server.kill()
            server.start()
        for worker in workers:
            worker.finish()
        reader.finish()
        assert hold_to_what_was_acknowledged(server, workers, all_of=each) == 4 * each
        assert [offset for offset, _, _ in reader.of("got")] == list(range(1, 4 * each + 1))
        assert not list(reader.of("gap"))


def torn(server: RedisProcess, cut: int) -> None:
    """Kill it, cut bytes off the end of its append-only file, as a power failure may, and start it again."""
    server.kill()
    file = next(server.data_dir.glob("appendonlydir/*.incr.aof"))
    os.truncate(file, file.stat().st_size - cut)
    server.start()


@pytest.mark.parametrize("colour", ["open", "anew", "async"])
@pytest.mark.parametrize("binary", all_engines(), ids=lambda binary: binary.name)
def test_half_of_a_transaction_does_not_come_back_at_the_second_start(binary: Binary, colour: str) -> None:
    """Whether the log was open at the time, is opened anew, or is used on asyncio."""
    # With `everysec` what was acknowledged may not be in the file yet.
    with RedisProcess(binary=binary, appendfsync="always") as server, server.client() as redis:

        async def append() -> Event:
            async with open_async_log(server.url) as log:
                return await log.append("new")

        with open_log(server.url) as log:
            log.append_many([{"kind": "a"}] * 3)
            log.append_many([{"kind": "batch"}] * 5)
            torn(server, 150)
            if colour == "async":
                assert asyncio.run(append()).offset == 4
            elif colour == "anew":
                with open_log(server.url) as another:
                    assert another.append("new").offset == 4
            else:
                assert log.append("new").offset == 4
        eventually(lambda: not redis.info("persistence")["aof_rewrite_in_progress"], "the file is rewritten")
        server.kill()
        server.start()
        with open_log(server.url) as log:
            assert [event.offset for event in log.query()] == [1, 2, 3, 4]
            assert log.verify().clean


@pytest.mark.parametrize("binary", all_engines(), ids=lambda binary: binary.name)
def test_where_a_rewrite_is_forbidden_an_operator_is_told(binary: Binary) -> None:
    with RedisProcess("--rename-command", "BGREWRITEAOF", "", binary=binary) as server:
        for started in (1, 2):
            with open_log(server.url) as log:
                assert log.append("a").offset == started
            with contextlib.closing(SyncLink(server.url, 1)) as link:
                info = run(inspect_redis(deadline_s=5), link.execute)
            assert info is not None
            warnings = info.warnings()
            # Valkey cuts off the whole transaction.
            expected = started == 2 and binary.kind == "redis"
            assert any("Run BGREWRITEAOF" in warning for warning in warnings) is expected
            server.restart()


def fill_the_memory(log: EventLog, redis: Redis, room_bytes: int) -> None:
    """Append until Redis refuses, then leave it short of memory for good."""
    redis.config_set("maxmemory", redis.info("memory")["used_memory"] + room_bytes)

    def until_refused() -> None:
        while True:
            log.append_many([{"kind": "filler", "run_id": "r", "payload": {"text": "x" * 2000}}] * 7)

    with pytest.raises(BackendFull, match="OOM"):
        until_refused()
    redis.config_set("maxmemory", redis.info("memory")["used_memory"] - room_bytes // 2)


@EACH_BINARY
def test_a_redis_without_memory_refuses_whole_appends_and_goes_on_when_it_has_some(binary: Binary) -> None:
    with (
        RedisProcess("--maxmemory-policy", "noeviction", binary=binary) as server,
        open_log(server.url) as log,
        server.client() as redis,
    ):
        first = log.append_many([{"kind": "before", "run_id": "r", "idempotency_key": "first"}])[0]
        fill_the_memory(log, redis, 1_000_000)
        last = log.info().last_offset
        assert last % 7 == 1, "batches are appended as a whole"
        attempts: list[Callable[[], Event]] = [
            lambda: log.append("plain"),
            lambda: log.append("keyed", idempotency_key="k", run_id="new"),
            lambda: log.append("conditional", expected_offset=last),
        ]
        for attempt in attempts:
            with pytest.raises(BackendFull) as caught:
                attempt()
            assert not caught.value.outcome_unknown
        assert [event.offset for event in log.query()] == list(range(1, last + 1)), "reads go on"
        assert log.verify().clean
        assert not redis.exists("eventlog:{w1}:run:new")
        redis.config_set("maxmemory", 0)
        after = log.append("after", idempotency_key="k", run_id="r")
        assert (after.offset, after.seq, after.duplicate) == (last + 1, last + 1, False)
        assert log.append("before", idempotency_key="first", run_id="r").id == first.id
        assert log.verify().clean


@EACH_BINARY
def test_a_log_that_filled_the_memory_can_be_cleared(binary: Binary) -> None:
    with (
        RedisProcess("--maxmemory-policy", "noeviction", binary=binary) as server,
        open_log(server.url) as log,
        server.client() as redis,
    ):
        fill_the_memory(log, redis, 2_000_000)
        last = log.info().last_offset
        assert log.clear() == last

        def appends_again() -> bool:
            with contextlib.suppress(BackendFull):  # Redis frees what was unlinked in the background
                return log.append("after").offset == last + 1
            return False

        eventually(appends_again, "appending goes on")
        assert log.verify().clean


@EACH_BINARY
def test_a_read_only_replica_refuses_appends_clearly_and_serves_reads(binary: Binary) -> None:
    with (
        RedisProcess("--repl-diskless-sync-delay", "0", binary=binary, tcp=True) as primary,
        RedisProcess(binary=binary, tcp=True, appendonly=False) as replica,
    ):
        with open_log(primary.url) as log:
            log.append("a")
        with replica.client() as redis, open_log(replica.url, deadline_s=1.0) as log:
            redis.replicaof("127.0.0.1", primary.port)
            await_replica(primary, replica)
            with pytest.raises(BackendFull, match="read-only replica") as caught:
                log.append("b")
            assert not caught.value.outcome_unknown
            assert [event.kind for event in log.query()] == ["a"]
            redis.replicaof("NO", "ONE")
            assert log.append("c").offset == 2


def test_a_server_restarted_during_a_call_costs_nothing_but_time(own_server: RedisProcess) -> None:
    with open_log(own_server.url, deadline_s=20.0) as log:
        for n in range(20):
            own_server.restart()
            assert log.append("a", {"n": n}).offset == n + 1
        assert log.verify().clean

"""Many processes append while their connections are cut at random: nothing is lost, nothing is doubled."""

import os
import random
import threading
from contextlib import ExitStack

import pytest

from tests.faults.opening import open_log
from tests.faults.proxy import CUTS, ChaosProxy, Fault
from tests.faults.workers import Worker
from tests.support.redis_process import RedisProcess

pytestmark = pytest.mark.chaos

EACH = 2000
STYLES = ("single", "batches", "threads", "tasks") * 2


def hold_to_what_was_acknowledged(server: RedisProcess, workers: list[Worker], *, all_of: int | None = EACH) -> int:
    """Every append that returned is in the log once, where it said; offsets are dense. Returns the last offset."""
    with open_log(server.url) as log:
        events = log.query(since=0)
        assert [event.offset for event in events] == list(range(1, len(events) + 1)), "offsets are dense"
        audit = log.verify()
        assert audit.clean, audit.problems
        assert audit.state.last.offset == len(events)
    place = {(event.kind, event.payload["n"]): event.offset for event in events if "n" in event.payload}
    assert len(place) == len([e for e in events if "n" in e.payload]), "nothing is doubled"
    for worker in workers:
        name = worker.given["name"]
        acked = {(name, n): offset for offset, n in worker.of("acked")}
        if all_of is not None:
            assert len(acked) == all_of
        assert {key: place.get(key) for key in acked} == acked, "all is where the append said"
    return len(events)


@pytest.mark.timeout(240)
def test_eight_processes_lose_and_double_nothing_while_connections_are_cut(
    own_server: RedisProcess, proxy: ChaosProxy
) -> None:
    seed = int(os.environ.get("EVENTLOG_TEST_SEED", random.randrange(2**32)))
    print(f"EVENTLOG_TEST_SEED={seed}")
    proxy.strike_at_random(seed, 0.03, *CUTS, Fault.DELAYED)
    done = threading.Event()

    def kill_clients() -> None:
        with own_server.client() as redis:
            while not done.wait(0.1):
                redis.client_kill_filter(_type="normal", skipme=True)

    killer = threading.Thread(target=kill_clients)
    killer.start()
    try:
        with ExitStack() as stack:
            workers = [
                stack.enter_context(
                    Worker(style=style, url=proxy.url, name=f"w{i}", count=EACH, seed=seed + i, deadline_s=60.0)
                )
                for i, style in enumerate(STYLES)
            ]
            reader = stack.enter_context(
                Worker(style="follow", url=proxy.url, since=0, until_offset=EACH * len(STYLES), deadline_s=60.0)
            )
            for worker in workers:
                worker.finish()
            reader.finish()
    finally:
        done.set()
        killer.join()
    assert hold_to_what_was_acknowledged(own_server, workers) == EACH * len(STYLES)
    assert [offset for offset, _, _ in reader.of("got")] == list(range(1, EACH * len(STYLES) + 1))
    assert not list(reader.of("gap"))
    assert all(proxy.struck[fault] > 10 for fault in CUTS), proxy.struck


def test_scripts_flushed_under_load_are_loaded_again(own_server: RedisProcess) -> None:
    with ExitStack() as stack:
        workers = [
            stack.enter_context(Worker(style=style, url=own_server.url, name=f"w{i}", count=1000))
            for i, style in enumerate(STYLES[:4])
        ]
        with own_server.client() as redis:
            while any(worker.process.poll() is None for worker in workers):
                redis.script_flush()
        for worker in workers:
            worker.finish()
    assert hold_to_what_was_acknowledged(own_server, workers, all_of=1000) == 4000

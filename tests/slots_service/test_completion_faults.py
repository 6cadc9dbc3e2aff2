"""Replies that are lost, requests that arrive late: no completion is lost by it, and none is acted upon twice."""

import random
from collections.abc import Iterator

import pytest

from eventlog import create_event_log
from eventlog.enforcement.completed import COMPLETED, GROUP
from eventlog.enforcement.completion import CompletionListener
from eventlog.log.consumer_group import GroupConsumer
from eventlog.plan.drive import run
from eventlog.store.keys import WorkspaceKeys
from eventlog.store.links import SyncLink
from tests.faults.proxy import CUTS, ChaosProxy, Fault
from tests.support.redis_process import RedisProcess, eventually


@pytest.fixture
def proxy(redis_server: RedisProcess) -> Iterator[ChaosProxy]:
    with ChaosProxy(redis_server) as proxy:
        yield proxy


@pytest.mark.parametrize("fault", [*CUTS, Fault.HELD], ids=lambda fault: fault.name)
def test_a_take_whose_reply_is_lost_gives_its_events_all_the_same(
    redis_server: RedisProcess, proxy: ChaosProxy, key_prefix: str, fault: Fault
) -> None:
    keys = WorkspaceKeys.of("w", key_prefix)
    link = SyncLink(proxy.url, 1)
    group = GroupConsumer(keys, GROUP, COMPLETED, take_over_s=60, deadline_s=5)

    def executions() -> list[str]:
        taken = run(group.take(), link.execute)
        group.done(taken.events)
        return [event.payload["execution_id"] for event in taken.events]

    with create_event_log("redis", url=redis_server.url, workspace="w", key_prefix=key_prefix) as log:
        assert executions() == []
        log.append_many({"kind": COMPLETED, "payload": {"execution_id": name}} for name in ("e1", "e2"))
        proxy.plan(fault)
        assert executions() == ["e1", "e2"]
        assert proxy.struck[fault] == 1
        log.append(COMPLETED, {"execution_id": "e3"})
        if fault is Fault.HELD:
            eventually(lambda: proxy.held == 1, "the first request is kept back")
            proxy.release()
            eventually(lambda: executions() == ["e3"], "a late copy takes nothing away")
        else:
            assert executions() == ["e3"]
        assert executions() == []
        proxy.plan(fault)
        run(group.leave(), link.execute)
    link.close()


def test_a_listener_behind_a_bad_line_releases_every_execution_once(
    redis_server: RedisProcess, proxy: ChaosProxy, key_prefix: str
) -> None:
    seed, count = random.randrange(1 << 32), 150
    options = {"workspace": "w", "key_prefix": key_prefix}
    with (
        create_event_log("redis", url=redis_server.url, **options) as log,
        create_event_log("redis", url=proxy.url, **options) as far,
        CompletionListener(far, take_over_s=0.5) as listener,
    ):
        slots = log.slots()
        for n in range(count):
            slots.enqueue("build", f"e{n}")
        proxy.strike_at_random(seed, 0.2, *CUTS, Fault.DELAYED)
        for n in range(count):
            log.append(COMPLETED, {"execution_id": f"e{n}"})
        eventually(lambda: slots.stats("build").active_count == 0, f"all are released (seed {seed})")
        proxy.calm()
        eventually(lambda: listener.stats().seen >= count, "all is done")
        released = [event.payload["execution_id"] for event in log.query(kind="slot.released")]
        assert sorted(released) == sorted(f"e{n}" for n in range(count)), f"seed {seed}"
        assert log.verify().clean
    assert sum(proxy.struck.values()) > 0

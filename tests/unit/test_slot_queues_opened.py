"""Slot queues without Redis: how they are opened, and what the disabled ones answer."""

import asyncio
from collections.abc import Callable

import pytest

from eventlog import create_async_event_log, create_event_log
from eventlog.errors import InvalidInput
from eventlog.factory import create_async_slot_queue, create_slot_queue
from eventlog.slots.policy import Policy
from tests.support.redis_process import RedisProcess


def test_disabled_slots_are_granted_to_everybody_under_growing_tokens() -> None:
    with create_slot_queue("disabled") as slots:
        held = [slots.acquire("build", "e1", max_concurrent=1) for _ in range(3)]
        tokens = [slot.fencing_token for slot in held]
        assert tokens == sorted(set(tokens))
        held[0].renew(60)
        assert held[0].valid
        assert all(slot.release() for slot in held)
        assert slots.try_acquire("build", "e1", max_concurrent=1) is not None
        assert slots.enqueue("build", "e2", max_concurrent=1).state == "granted"


def test_disabled_slots_keep_nothing() -> None:
    with create_slot_queue("off") as slots:
        slots.enqueue("build", "e1", group_key="g")
        assert slots.backend == "disabled"
        assert slots.queues() == []
        assert slots.queues_of("e1") == []
        assert slots.state("build", "e1", group_key="g").state == "none"
        assert (slots.stats("build", group_key="g").active_count, slots.stats("build").holders) == (0, ())
        slots.put_policy("global", Policy(max_concurrent=1))
        assert slots.policies() == {}
        assert slots.clear_all() == slots.clear("build") == (0, 0)
        assert not slots.cancel("build", "e1")
        renewed = slots.renew("build", "e1", fencing_token=7)
        assert (renewed.state, renewed.fencing_token) == ("granted", 7)
        assert slots.renew("build", "e1").fencing_token > 7


def test_disabled_slots_on_asyncio() -> None:
    async def main() -> None:
        async with create_async_slot_queue("none") as slots, slots.acquire("build", "e1", max_concurrent=1) as slot:
            assert slot.valid
            async with slots.acquire("build", "e2", max_concurrent=1) as other:
                assert other.fencing_token > slot.fencing_token

    asyncio.run(main())


def test_the_default_is_a_limit_that_holds_between_processes(redis_server: RedisProcess) -> None:
    with create_slot_queue(url=redis_server.url) as slots:
        assert slots.backend == "redis"


@pytest.mark.parametrize("name", ["cassandra", "http://127.0.0.1:8707", ""])
@pytest.mark.parametrize("create", [create_slot_queue, create_async_slot_queue])
def test_a_limit_that_nobody_keeps_is_not_made(create: Callable[..., object], name: str) -> None:
    with pytest.raises(InvalidInput, match="backend"):
        create(name)


def test_a_log_has_one_set_of_slot_queues_and_closes_them() -> None:
    with create_event_log("memory") as log:
        slots = log.slots()
        assert log.slots() is slots
        slots.enqueue("build", "e1")
        assert [event.kind for event in log.query()] == ["slot.granted"]

    async def main() -> None:
        async with create_async_event_log("memory") as log:
            assert log.slots() is log.slots()
            await log.slots().enqueue("build", "e1")
            assert [event.kind for event in await log.query()] == ["slot.granted"]

    asyncio.run(main())

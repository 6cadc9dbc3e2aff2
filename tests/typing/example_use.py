"""How the library is used, held to the types by mypy (see test_types.py). It is not run."""

from collections.abc import AsyncIterator
from typing import assert_type

from eventlog import (
    AsyncEventLog,
    Audit,
    Event,
    EventLog,
    Follower,
    Gap,
    LogInfo,
    Page,
    create_async_event_log,
    create_event_log,
)


def blocking() -> None:
    log = create_event_log("redis", url="redis://localhost", workspace="w1", ttl_seconds=60, max_entries=10)
    assert_type(log, EventLog)
    event = log.append("turn.started", {"turn": 1}, run_id="r1", idempotency_key="k", expected_offset=3)
    assert_type(event, Event)
    assert_type(event.offset, int)
    assert_type(event.timestamp, float)
    assert_type(event.run_id, str | None)
    assert_type(log.append_many([{"kind": "a"}, {"kind": "b", "payload": {}}], idempotency_key="k"), list[Event])
    assert_type(log.query(since=event.id, limit=100, kind="tool.*"), list[Event])
    assert_type(log.query(event, kind=["a", "b"], visibility="public", order="desc"), list[Event])
    page = log.page(0, run_id="r1", since_time=5.0)
    assert_type(page, Page)
    assert_type(page.gap, Gap | None)
    assert_type(page.cursor, str)
    assert_type(log.get(event.id), Event)
    assert_type(log.info(), LogInfo)
    assert_type(log.verify(), Audit)
    assert_type(log.clear(), int)
    missed: list[Gap] = []
    follower = log.follow(since=page.cursor, run_id="r1", until_terminal=True, on_gap=missed.append)
    assert_type(follower, Follower)
    for followed in follower:
        assert_type(followed, Event)
    with create_event_log() as other:
        assert_type(other, EventLog)
    log.append("a", {}, runid="r1")  # type: ignore[call-arg]  # a name that does not exist
    log.append(5)  # type: ignore[arg-type]
    log.query(kinds="a")  # type: ignore[call-arg]
    create_event_log(max_entry=5)  # type: ignore[call-arg]


async def waiting() -> None:
    async with create_async_event_log("redis", url="redis://localhost") as log:
        assert_type(log, AsyncEventLog)
        event = await log.append("turn.started", {"turn": 1}, run_id="r1")
        assert_type(event, Event)
        assert_type(await log.append_many([{"kind": "a"}]), list[Event])
        assert_type(await log.query(since=event.id, limit=100, kind="tool.*"), list[Event])
        assert_type(await log.page(0), Page)
        assert_type(log.follow(since=0), AsyncIterator[Event])
        async for followed in log.follow(since=event):
            assert_type(followed, Event)

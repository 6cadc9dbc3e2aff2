"""How the library is used, held to the types by mypy (see test_types.py). It is not run."""

from typing import assert_type

from eventlog import (
    AsyncEventLog,
    AsyncEventLogClient,
    AsyncSlotQueue,
    Event,
    EventBus,
    EventDispatcher,
    EventLog,
    EventLogClient,
    Gap,
    Policy,
    SlotQueue,
    astage,
    create_async_event_log,
    create_async_slot_queue,
    create_event_log,
    create_slot_queue,
    fold_stages,
    parallel_merge,
    sample_run,
    stage,
)
from eventlog.client import AsyncRemoteSlots, RemoteSlots
from eventlog.log import AsyncFollower, Follower
from eventlog.model import Audit, LogInfo, Page
from eventlog.runs import ReplayPage, RunsPage, RunSummary, StageHandle, StageView
from eventlog.slots import AsyncSlot, QueueStats, Slot, SlotState
from eventlog.telemetry import Sample, TelemetryPage


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
        assert_type(log.follow(since=0), AsyncFollower)
        async for followed in log.follow(since=event):
            assert_type(followed, Event)


def runs(log: EventLog) -> None:
    assert_type(log.runs(10, status="running"), RunsPage)
    assert_type(log.run("r1"), RunSummary)
    assert_type(log.run("r1").lanes, dict[str, int])
    assert_type(log.replay("r1", lane_id="main", since_seq=3, kind="tool.*"), list[Event])
    assert_type(log.replay_page("r1", since="0").missed, dict[str, int])
    assert_type(log.replay_page("r1"), ReplayPage)
    assert_type(log.stages("r1"), list[StageView])
    assert_type(fold_stages(log.replay("r1")), list[StageView])
    assert_type(parallel_merge({"main": log.replay("r1")}), list[Event])
    assert_type(log.push_telemetry("r1", [{"guest": {"gpu": 0.5}}]), list[Sample])
    assert_type(log.telemetry("r1", from_seq=5), TelemetryPage)
    with stage(log, "build", run_id="r1") as handle, sample_run(log, "r1", stage="build"):
        assert_type(handle, StageHandle)
        assert_type(handle.attempt, int)
    log.runs(status="done")  # type: ignore[arg-type]
    log.replay("r1", order="desc")  # type: ignore[call-arg]


def handed_over(log: EventLog) -> None:
    with EventDispatcher(log, max_workers=2) as dispatcher:
        assert_type(dispatcher.dispatch(event_name="tool.invoked", data={"tool": "grep"}, operation_id="r1"), None)
        assert_type(dispatcher.stats().delivered, int)
    with EventBus(log=log) as bus:
        for event in bus.subscribe(run_id="r1"):
            assert_type(event, Event)
        assert_type(bus.emit_sync({"kind": "a"}), Event | None)
        assert_type(bus.replay(run_id="r1"), list[Event])


def any_backend(url: str) -> None:
    log: EventLog = create_event_log(url=url, workspace="w1", deadline_seconds=2)
    assert_type(log.append("a", {"n": 1}, run_id="r1"), Event)
    assert_type(log.track_event("tool.invoked", {"tool": "grep"}, "r1"), Event)
    assert_type(log.follow(since=0), Follower)
    runs(log)
    log.append("a", {}, runid="r1")  # type: ignore[call-arg]  # a name that does not exist
    create_event_log(url=5)  # type: ignore[arg-type]


async def any_backend_on_a_loop(url: str) -> None:
    log: AsyncEventLog = create_async_event_log(url=url)
    assert_type(await log.append("a", run_id="r1"), Event)
    follower = log.follow(since=0, run_id="r1", until_terminal=True)
    assert_type(follower, AsyncFollower)
    assert_type(follower.cursor, str)
    async for followed in follower:
        assert_type(followed, Event)


def slots_of_any_backend(url: str) -> None:
    slots: SlotQueue = create_slot_queue(url=url, workspace="w1")
    with slots.acquire("build", execution_id="e1", max_concurrent=3, timeout_s=60, lease_s=30) as slot:
        assert_type(slot, Slot)
        assert_type(slot.fencing_token, int)
    assert_type(slots.try_acquire("build", "e1"), Slot | None)
    assert_type(slots.attach("build", "e1"), Slot | None)
    assert_type(slots.enqueue("build", "e1", queue_timeout_s=5), SlotState)
    assert_type(slots.state("build", "e1", wait_s=1), SlotState)
    assert_type(slots.release("build", "e1", fencing_token=3), bool)
    assert_type(slots.stats("build"), QueueStats)
    assert_type(slots.queues_of("e1"), list[str])
    assert_type(slots.put_policy("global", Policy(max_concurrent=3)), int)
    slots.stats("build", all=True)  # type: ignore[call-arg]
    slots.release("build", "e1", fencing_token="3")  # type: ignore[arg-type]


async def slots_of_any_backend_on_a_loop(url: str) -> None:
    slots: AsyncSlotQueue = create_async_slot_queue(url=url, workspace="w1")
    async with slots.acquire("build", max_concurrent=3) as slot:
        assert_type(slot, AsyncSlot)
    assert_type(await slots.try_acquire("build", "e1"), AsyncSlot | None)
    assert_type(await slots.stats("build"), QueueStats)


def behind_a_server() -> None:
    with EventLogClient("http://localhost:8707", workspace="w1") as log:
        runs(log)
        assert_type(log.append("a"), Event)
        assert_type(log.track_event("tool.invoked", {"tool": "grep"}, "r1"), Event)
        assert_type(log.slots(), RemoteSlots)


async def behind_a_server_on_a_loop() -> None:
    async with AsyncEventLogClient("http://localhost:8707", workspace="w1") as log:
        assert_type(await log.append("a"), Event)
        assert_type(await log.run("r1"), RunSummary)
        assert_type(log.slots(), AsyncRemoteSlots)
        async with astage(log, "build", run_id="r1") as handle:
            assert_type(handle.attempt, int)

"""The server gives slots back when executions complete, in every workspace, over few connections."""

import contextlib
import uuid
from typing import Any

import httpx
import pytest
import redis
from eventlog_server import ServerSettings, background, completions
from eventlog_server.logs import Logs

from eventlog import create_event_log, create_slot_queue
from eventlog.config import EventLogConfig
from eventlog.enforcement.completed import GROUP
from eventlog.plan.drive import run
from eventlog.plan.effects import Command
from eventlog.store.links import SyncLink
from tests.server.conftest import Serve
from tests.support.redis_process import RedisProcess, eventually


class Workspace:
    """The slots of one workspace, over HTTP."""

    def __init__(self, url: str, name: str, client: httpx.Client) -> None:
        self._base = f"{url}/v1/workspaces/{name}"
        self._client = client

    def queue(self, *executions: str) -> None:
        for execution in executions:
            asked = {"execution_id": execution, "max_concurrent": 1}
            assert self._client.post(f"{self._base}/actions/build/slots", json=asked).status_code in (200, 202)

    def complete(self, execution: str) -> None:
        event = {"kind": "execution.completed", "payload": {"execution_id": execution, "status": "failed"}}
        assert self._client.post(f"{self._base}/events", json=event).status_code == 201

    def state(self, execution: str, wait_seconds: float = 0) -> str:
        answer = self._client.get(
            f"{self._base}/actions/build/slots/{execution}", params={"wait_seconds": wait_seconds}
        )
        return str(answer.json()["state"]) if answer.status_code == 200 else "none"


@pytest.fixture
def client() -> Any:
    with httpx.Client(timeout=30) as client:
        yield client


def test_a_completion_hands_the_slot_to_the_next(server_url: str, workspace: str, client: httpx.Client) -> None:
    here = Workspace(server_url, workspace, client)
    here.queue("e1", "e2", "e3")
    for done, following in (("e1", "e2"), ("e2", "e3")):
        here.complete(done)
        assert here.state(following, wait_seconds=20) == "granted"
        assert here.state(done) == "none"


def test_in_memory_too(client: httpx.Client) -> None:
    with background(ServerSettings(port=0, log=EventLogConfig(backend="memory"))) as address:
        here, there = (Workspace(address.url, name, client) for name in ("w1", "w2"))
        here.queue("e1", "e2")
        there.queue("e1", "e2")
        here.complete("e1")
        assert here.state("e2", wait_seconds=20) == "granted"
        assert there.state("e1") == "granted"


@pytest.mark.parametrize("backend", ["redis", "memory"])
def test_a_lease_that_ends_is_handed_on_though_nobody_asks(
    backend: str, redis_server: RedisProcess, workspace: str, client: httpx.Client
) -> None:
    log = EventLogConfig(backend=backend, redis_url=redis_server.url)
    with background(ServerSettings(port=0, log=log)) as address:
        base = f"{address.url}/v1/workspaces/{workspace}"
        for execution in ("e1", "e2"):
            asked = {"execution_id": execution, "max_concurrent": 1, "lease_seconds": 0.5}
            client.post(f"{base}/actions/build/slots", json=asked).raise_for_status()

        def told() -> list[tuple[str, str]]:
            events = client.get(f"{base}/events", params={"kind": "slot.*"}).json()["events"]
            return [(event["kind"], event["payload"]["execution_id"]) for event in events]

        eventually(lambda: ("slot.granted", "e2") in told(), "the next has the slot")
        eventually(lambda: ("slot.expired", "e2") in told(), "the last lease is told to have ended")
        assert told()[2:4] == [("slot.expired", "e1"), ("slot.granted", "e2")]


def test_it_can_be_turned_off(redis_server: RedisProcess, serve: Serve, client: httpx.Client) -> None:
    with serve(redis_server.url, completions=False) as url:
        here = Workspace(url, "w1", client)
        here.queue("e1", "e2")
        here.complete("e1")
        assert here.state("e2", wait_seconds=1) == "queued"


def test_the_variable_turns_it_off() -> None:
    assert ServerSettings.load(environ={}).completions
    assert not ServerSettings.load(environ={"EVENTLOG_COMPLETIONS": "false"}).completions


def test_workspaces_whose_slots_are_used_elsewhere_are_found(
    redis_server: RedisProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("eventlog_server.completions._DISCOVER_S", 0.2)
    prefix = f"t{uuid.uuid4().hex[:12]}"
    config = EventLogConfig(redis_url=redis_server.url, key_prefix=prefix)
    with (
        background(ServerSettings(port=0, log=config)),
        create_event_log("redis", url=redis_server.url, workspace="elsewhere", key_prefix=prefix) as log,
    ):
        slots = log.slots()
        slots.enqueue("build", "e1")
        log.append("execution.completed", {"execution_id": "e1"})
        eventually(lambda: slots.state("build", "e1").state == "none", "e1 is released")


def test_a_workspace_whose_slots_are_not_in_use_costs_nothing(redis_server: RedisProcess) -> None:
    prefix = f"t{uuid.uuid4().hex[:12]}"
    config = EventLogConfig(redis_url=redis_server.url, key_prefix=prefix)
    sent: list[Command] = []

    def execute(command: Command) -> Any:
        sent.append(command)
        return link.execute(command)

    with contextlib.closing(SyncLink(redis_server.url, 1)) as link:
        for name in ("idle", "idle2", "in-use"):
            with create_slot_queue("redis", url=redis_server.url, workspace=name, key_prefix=prefix) as slots:
                slots.enqueue("build", "e1")
                if name != "in-use":
                    slots.release("build", "e1")
        loop = completions._Loop(Logs(ServerSettings(log=config)))
        run(loop.upkeep(), execute)
        assert set(loop.works) == {"in-use"}
        assert not [command for command in sent if "idle" in str(command.args)]


def test_many_workspaces_are_served_over_a_bounded_number_of_connections(client: httpx.Client) -> None:
    with RedisProcess(appendonly=False) as server, server.client() as looking:
        with background(ServerSettings(port=0, log=EventLogConfig(redis_url=server.url))) as address:
            workspaces = [Workspace(address.url, f"w{n}", client) for n in range(60)]
            for one in workspaces:
                one.queue("e1")
            connections = len(looking.client_list())
            for one in workspaces:
                one.complete("e1")
            for one in workspaces:
                eventually(lambda one=one: one.state("e1") == "none", "e1 is released")  # type: ignore[misc]
            assert len(looking.client_list()) <= connections + 5
            assert connections <= 20
        for n in (0, 59):
            assert looking.xinfo_consumers(f"eventlog:{{w{n}}}:log", GROUP) == []


def test_two_servers_share_the_work(redis_server: RedisProcess, client: httpx.Client) -> None:
    config = EventLogConfig(redis_url=redis_server.url, key_prefix=f"t{uuid.uuid4().hex[:12]}")
    settings = ServerSettings(port=0, log=config)
    with background(settings) as one, background(settings) as other:
        here, there = Workspace(one.url, "w1", client), Workspace(other.url, "w1", client)
        here.queue(*(f"e{n}" for n in range(10)))
        for n in range(9):
            (here, there)[n % 2].complete(f"e{n}")
            assert there.state(f"e{n + 1}", wait_seconds=20) == "granted"


@pytest.mark.parametrize("appendonly", [True, False], ids=["with its data", "empty"])
def test_it_outlives_a_restart_of_redis(client: httpx.Client, appendonly: bool) -> None:
    with (
        RedisProcess(appendonly=appendonly, appendfsync="always") as server,
        background(ServerSettings(port=0, log=EventLogConfig(redis_url=server.url))) as address,
    ):
        here = Workspace(address.url, "w1", client)
        here.queue("e1", "e2")
        here.complete("e1")
        assert here.state("e2", wait_seconds=20) == "granted"
        server.restart()
        here.queue("e2", "e3")
        here.complete("e2")
        assert here.state("e3", wait_seconds=20) == "granted"


def test_a_redis_that_is_away_at_the_start_is_waited_for(client: httpx.Client, redis_server: RedisProcess) -> None:
    with RedisProcess() as server:
        server.stop()
        with background(ServerSettings(port=0, log=EventLogConfig(redis_url=server.url))) as address:
            server.start()
            here = Workspace(address.url, "w1", client)
            here.queue("e1", "e2")
            here.complete("e1")
            assert here.state("e2", wait_seconds=20) == "granted"


def test_a_group_of_the_same_name_counts_each_completion_once(
    server_url: str, redis_server: RedisProcess, workspace: str, client: httpx.Client
) -> None:
    here = Workspace(server_url, workspace, client)
    here.queue("e1", "e2")
    for _ in range(3):
        here.complete("e1")
    assert here.state("e2", wait_seconds=20) == "granted"
    with redis.Redis.from_url(redis_server.url, decode_responses=True) as looking:
        (log,) = looking.scan_iter(match=f"*:{{{workspace}}}:log", count=1000)
        eventually(lambda: looking.xpending(log, GROUP)["pending"] == 0, "all is acknowledged")
        events = looking.xrange(log)
    assert [fields["kind"] for _, fields in events].count("slot.released") == 1

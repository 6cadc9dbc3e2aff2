"""`RemoteSlots`, and `eventlog slots` and `exec` with `--url http://…`, through a real server on a real Redis."""

import json
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from eventlog import EventLog, EventLogConfig, create_event_log
from eventlog.client import RemoteSlots
from eventlog.client.slot_operations import SlotCalls
from eventlog.errors import (
    AlreadyHeld,
    BackendUnavailable,
    InvalidInput,
    LeaseLost,
    QueueFull,
    QueueTimeout,
    QuotaExceeded,
    RateLimited,
    SlotCancelled,
    VersionConflict,
)
from eventlog.slots.blocking import Slot, SlotQueue
from eventlog.slots.policy import Policy, Rate, Scope
from eventlog.slots.protocol import Cleared
from tests.client.way import Way
from tests.support.redis_process import RedisProcess, eventually

from .program import Program
from .serving import Server, serving


@pytest.fixture(scope="module")
def shared(redis_server: RedisProcess) -> Iterator[tuple[Server, dict[str, str]]]:
    """One server for all tests that do not stop it, and the variables of what it serves."""
    variables = {"EVENTLOG_REDIS_URL": redis_server.url, "EVENTLOG_KEY_PREFIX": f"t{uuid.uuid4().hex[:12]}"}
    with serving(Program(variables)) as running:
        yield running, variables


@pytest.fixture
def server(shared: tuple[Server, dict[str, str]]) -> Server:
    """A server that must be left running."""
    return shared[0]


@pytest.fixture
def variables(shared: tuple[Server, dict[str, str]]) -> dict[str, str]:
    """Every test has a workspace of its own."""
    return {**shared[1], "EVENTLOG_WORKSPACE": f"w{uuid.uuid4().hex[:12]}"}


@pytest.fixture
def log(variables: dict[str, str]) -> Iterator[EventLog]:
    with create_event_log("redis", config=EventLogConfig.load(environ=variables)) as opened:
        yield opened


@pytest.fixture
def direct(log: EventLog) -> SlotQueue:
    """The same queues, straight on Redis."""
    return log.slots()


@pytest.fixture
def remote(server: Server, log: EventLog) -> Iterator[RemoteSlots]:
    with RemoteSlots(server.url, workspace=log.workspace) as opened:
        yield opened


@pytest.fixture
def own_server(program: Program) -> Iterator[Server]:
    """A server that may be stopped."""
    with serving(program) as running:
        yield running


def _waits(direct: SlotQueue, execution: str, action: str = "build") -> None:
    eventually(
        lambda: execution in [waiter.execution_id for waiter in direct.stats(action).waiters], f"{execution} waits"
    )


def test_a_slot_is_held_while_the_block_runs(remote: RemoteSlots, direct: SlotQueue) -> None:
    with remote.acquire("build", "e1", max_concurrent=1, lease_s=20) as slot:
        stats = direct.stats("build")
        assert [(holder.execution_id, holder.fencing_token) for holder in stats.holders] == [("e1", slot.fencing_token)]
        assert (slot.action, slot.group_key, slot.execution_id) == ("build", None, "e1")
        assert (slot.valid, slot.lost) == (True, False)
        assert 15 < slot.expires_in_s <= 20
        assert slot.waited_s < 5
    assert not slot.valid
    assert direct.stats("build").active_count == 0
    assert slot.release() is False, "it may be repeated"


def test_waiting_ends_when_the_slot_comes(remote: RemoteSlots, direct: SlotQueue) -> None:
    first = remote.acquire("build", "e1", max_concurrent=1)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(remote.acquire, "build", "e2", max_concurrent=1, timeout_s=20)
        _waits(direct, "e2")
        assert first.release() is True
        second = waiting.result(20)
    assert second.fencing_token > first.fencing_token
    assert second.valid
    assert second.release() is True


def test_many_wait_in_the_order_in_which_they_came(remote: RemoteSlots, direct: SlotQueue) -> None:
    names = [f"e{n}" for n in range(8)]
    tokens: list[tuple[int, str]] = []

    def work(name: str) -> None:
        with remote.acquire("build", name, max_concurrent=1, timeout_s=20) as slot:
            tokens.append((slot.fencing_token, name))

    first = remote.acquire("build", "first", max_concurrent=1)
    with ThreadPoolExecutor(len(names)) as pool:
        working = []
        for name in names:
            working.append(pool.submit(work, name))
            _waits(direct, name)
        first.release()
        for one in working:
            one.result(30)
    assert tokens == sorted(tokens)
    assert [name for _, name in tokens] == names


def test_the_lease_renews_itself(remote: RemoteSlots, direct: SlotQueue) -> None:
    with remote.acquire("build", "e1", max_concurrent=1, lease_s=0.5) as slot:
        expires_at = direct.stats("build").holders[0].lease_expires_at
        eventually(
            lambda: direct.stats("build").holders[0].lease_expires_at > expires_at + 1, "it was renewed over and over"
        )
        assert slot.valid
        slot.renew(30)
        assert slot.expires_in_s > 25
    assert direct.stats("build").active_count == 0


def test_who_holds_is_told_that_it_lost_its_slot(remote: RemoteSlots, direct: SlotQueue) -> None:
    told = threading.Event()
    slots: list[Slot] = []

    def lost(slot: Slot) -> None:
        slots.append(slot)
        told.set()

    slot = remote.acquire("build", "e1", max_concurrent=1, lease_s=0.5, on_lost=lost)
    assert direct.clear("build") == Cleared(1, 0)
    assert told.wait(20)
    assert slots == [slot]
    assert (slot.valid, slot.lost) == (False, True)
    with pytest.raises(LeaseLost):
        slot.raise_if_lost()
    with pytest.raises(LeaseLost):
        slot.renew()
    assert slot.release() is False


def test_a_late_release_frees_no_slot_of_a_younger_acquisition(remote: RemoteSlots, direct: SlotQueue) -> None:
    slot = remote.acquire("build", "e1", max_concurrent=1)
    direct.clear("build")
    younger = direct.acquire("build", "e1", max_concurrent=1)
    assert slot.release() is False
    assert direct.state("build", "e1").fencing_token == younger.fencing_token


def test_an_execution_that_holds_its_slot_is_told_so(remote: RemoteSlots) -> None:
    slot = remote.acquire("build", "e1")
    for attempt in (remote.acquire, remote.try_acquire):
        with pytest.raises(AlreadyHeld) as told:
            attempt("build", "e1")
        assert told.value.fencing_token == slot.fencing_token
    assert remote.state("build", "e1").state == "granted", "who was told has taken nothing away"


def test_an_execution_that_was_queued_goes_on_with_its_place(
    remote: RemoteSlots, direct: SlotQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    sits = threading.Event()
    look = SlotCalls._look
    monkeypatch.setattr(SlotCalls, "_look", lambda *asked: (sits.set(), look(*asked))[1])
    first = remote.acquire("build", "e1", max_concurrent=1)
    assert remote.enqueue("build", "e2", max_concurrent=1).position == 1
    assert remote.enqueue("build", "e3", max_concurrent=1).position == 2
    for attempt in (remote.try_acquire, lambda *who: remote.acquire(*who, timeout_s=0)):
        with pytest.raises(AlreadyHeld) as told:
            attempt("build", "e2")
        assert told.value.fencing_token is None
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(remote.acquire, "build", "e2", timeout_s=20)
        assert sits.wait(20)
        first.release()
        assert waiting.result(20).execution_id == "e2"
    assert direct.state("build", "e3").position == 1


def test_who_waits_for_too_long_is_out_of_the_line(remote: RemoteSlots, direct: SlotQueue) -> None:
    with remote.acquire("build", "e1", max_concurrent=1):
        began = time.monotonic()
        with pytest.raises(QueueTimeout) as told:
            remote.acquire("build", "e2", max_concurrent=1, timeout_s=0.4)
        assert 0.4 <= time.monotonic() - began < 5
        assert (told.value.queue, told.value.execution_id) == ("build", "e2")
        with pytest.raises(QueueTimeout):
            remote.acquire("build", "e3", max_concurrent=1, timeout_s=0)
        assert remote.try_acquire("build", "e4", max_concurrent=1) is None
        assert direct.stats("build").queue_length == 0
    with remote.acquire("build", "e5", timeout_s=0, max_concurrent=1) as slot:
        assert slot.valid


def test_who_is_cancelled_while_it_waits_is_told_so(remote: RemoteSlots, direct: SlotQueue) -> None:
    with remote.acquire("build", "e1", max_concurrent=1), ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(remote.acquire, "build", "e2", max_concurrent=1, timeout_s=20)
        _waits(direct, "e2")
        assert remote.cancel("build", "e1") is False, "a holder keeps its slot"
        assert remote.cancel("build", "e2") is True
        with pytest.raises(SlotCancelled):
            waiting.result(20)
        assert remote.cancel("build", "e2") is False


def test_who_does_not_hear_of_its_grant_is_told_that_the_lease_was_lost(
    remote: RemoteSlots, direct: SlotQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    direct.enqueue("build", "e1", max_concurrent=1)
    look = SlotCalls._look

    def late(calls: SlotCalls, *args: Any) -> Any:
        direct.release("build", "e1")
        eventually(lambda: direct.state("build", "e2").state == "none", "the grant has come and gone")
        return (yield from look(calls, *args))

    monkeypatch.setattr(SlotCalls, "_look", late)
    with pytest.raises(LeaseLost):
        remote.acquire("build", "e2", max_concurrent=1, lease_s=0.2, timeout_s=20)


def test_refusals_have_the_same_names_and_numbers(remote: RemoteSlots, direct: SlotQueue) -> None:
    remote.enqueue("build", "e1", max_concurrent=1)
    remote.enqueue("build", "e2", max_concurrent=1, max_queue_length=1)
    with pytest.raises(QueueFull) as full:
        remote.acquire("build", "e3", max_concurrent=1, max_queue_length=1)
    assert (full.value.queue, full.value.execution_id, full.value.length, full.value.limit) == ("build", "e3", 1, 1)
    direct.put_policy("action/rated", Policy(rate_limit=Rate(1, 3600)))
    direct.put_policy("action/quota", Policy(quota=Rate(1, 366 * 86_400)))
    remote.enqueue("rated", "e1")
    remote.enqueue("quota", "e1")
    with pytest.raises(RateLimited) as rated:
        remote.acquire("rated", "e2", timeout_s=5)
    assert 3000 < rated.value.retry_after_s <= 3600
    with pytest.raises(QuotaExceeded):
        remote.try_acquire("quota", "e2")
    with pytest.raises(LeaseLost):
        remote.renew("build", "nobody")


def test_the_calls_of_a_queue_have_the_same_answers_through_a_server(remote: RemoteSlots, direct: SlotQueue) -> None:
    granted = remote.enqueue("build", "e1", max_concurrent=1, group_key="eu", lease_s=40, owner="me")
    assert granted.fencing_token == direct.state("build", "e1", group_key="eu").fencing_token
    remote.enqueue("build", "e2", max_concurrent=1, group_key="eu")
    mine, theirs = remote.stats("build", group_key="eu"), direct.stats("build", group_key="eu")
    assert {**mine.to_dict(), "time": 0} == {**theirs.to_dict(), "time": 0}
    assert [one.action for one in remote.queues()] == [one.action for one in direct.queues()] == ["build"]
    renewed = remote.renew("build", "e1", fencing_token=granted.fencing_token, lease_s=50, group_key="eu")
    assert renewed.lease_expires_at == pytest.approx(renewed.time + 50, abs=0.01)
    assert remote.state("build", "e2", group_key="eu").position == 1
    assert remote.state("build", "e3", group_key="eu").state == "none"
    assert remote.release("build", "e1", fencing_token=1, group_key="eu") is False
    assert remote.release("build", "e1", group_key="eu") is True
    assert remote.state("build", "e2", group_key="eu", wait_s=20).state == "granted"
    remote.enqueue("build", "e4", max_concurrent=1, group_key="eu")
    assert remote.leave("build", "e4", group_key="eu") == "cancelled"
    assert remote.leave("build", "e4", group_key="eu") == "none"
    assert remote.clear("build", group_key="eu") == Cleared(1, 0)
    remote.enqueue("build", "e5")
    assert remote.clear_all() == Cleared(1, 0)


def test_limits_and_policies_are_the_same_through_a_server(remote: RemoteSlots, direct: SlotQueue) -> None:
    policy = Policy(max_concurrent=3, rate_limit=Rate(5, 1.5), quota=Rate(9, 60), max_queue_length=7)
    version = remote.put_policy("pack/p", policy, expected_version=0)
    remote.put_policy("global", Policy(log_transitions=False, queue_timeout_seconds=5))
    remote.set_limit("build", 2, group_key="eu")
    assert remote.policies() == direct.policies()
    assert remote.get_policy("pack/p") == direct.get_policy("pack/p") == (version, policy)
    assert remote.get_policy("action/none") is None
    with pytest.raises(VersionConflict) as told:
        remote.put_policy("pack/p", Policy(), expected_version=version + 7)
    assert (told.value.expected, told.value.version) == (version + 7, version)
    remote.delete_policy("pack/p", expected_version=version)
    remote.delete_policy("global")
    remote.set_limit("build", None, group_key="eu")
    assert remote.policies() == direct.policies() == {}


@pytest.mark.parametrize(
    ("call", "field"),
    [
        (lambda slots: slots.acquire("a b", "e"), "action"),
        (lambda slots: slots.acquire("a", "e", lease_s=0), "lease_s"),
        (lambda slots: slots.acquire("a", "e", timeout_s=-1), "timeout_s"),
        (lambda slots: slots.enqueue("a", "e/f"), "execution_id"),
        (lambda slots: slots.enqueue("a", "e", queue_timeout_s=-1), "queue_timeout_s"),
        (lambda slots: slots.state("a", ""), "execution_id"),
        (lambda slots: slots.state("a", "e", wait_s=-1), "wait_s"),
        (lambda slots: slots.renew("a", "e", lease_s="1"), "lease_s"),
        (lambda slots: slots.release("a", "e", fencing_token=0), "fencing_token"),
        (lambda slots: slots.set_limit("a", 0), "max_concurrent"),
        (lambda slots: slots.put_policy("packs/a", Policy()), "scope"),
        (lambda slots: slots.put_policy("queue/a", Policy()), "scope"),
        (lambda slots: slots.put_policy("global", Policy(), expected_version=-1), "expected_version"),
    ],
)
def test_what_is_wrong_is_named_by_its_python_name(call: object, field: str) -> None:
    with RemoteSlots("http://127.0.0.1:1") as slots, pytest.raises(InvalidInput) as told:
        call(slots)  # type: ignore[operator]
    assert told.value.field == field


@pytest.mark.parametrize("name", [".", "..", "a.b", "a:b-c_d"])
def test_every_name_survives_the_way(remote: RemoteSlots, name: str) -> None:
    remote.enqueue(name, name, group_key=name)
    assert remote.state(name, name, group_key=name).state == "granted"
    assert remote.stats(name, group_key=name).active_count == 1
    remote.put_policy(f"action/{name}", Policy(max_concurrent=1))
    assert Scope("action", name) in remote.policies()
    assert remote.release(name, name, group_key=name) is True


def test_no_server_is_told_within_the_deadline() -> None:
    began = time.monotonic()
    with RemoteSlots("http://127.0.0.1:1", deadline_s=0.5) as slots:
        for call in (slots.queues, lambda: slots.acquire("a", "e"), lambda: slots.try_acquire("a", "e")):
            with pytest.raises(BackendUnavailable):
                call()
    assert time.monotonic() - began < 10


@pytest.fixture
def way(server: Server) -> Iterator[Way]:
    """Where the server's answers may be lost."""
    with Way(server.url) as opened:
        yield opened


@pytest.fixture
def behind(way: Way, log: EventLog) -> Iterator[RemoteSlots]:
    """The queues by that way."""
    with RemoteSlots(way.url, workspace=log.workspace) as opened:
        yield opened


@pytest.mark.parametrize("call", ["acquire", "try_acquire"])
def test_a_slot_whose_answer_was_lost_is_had_all_the_same(
    way: Way, behind: RemoteSlots, direct: SlotQueue, call: str
) -> None:
    way.lose_answer_to = "POST"
    with getattr(behind, call)("build", "e1", max_concurrent=1) as slot:
        assert way.cuts == 1
        assert direct.state("build", "e1").fencing_token == slot.fencing_token
    assert direct.stats("build").active_count == 0


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
def test_no_lost_answer_costs_a_slot_or_a_place(way: Way, behind: RemoteSlots, direct: SlotQueue, method: str) -> None:
    first = behind.acquire("build", "e1", max_concurrent=1)
    way.lose_answer_to = method
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(behind.acquire, "build", "e2", max_concurrent=1, timeout_s=20)
        _waits(direct, "e2")
        first.renew()
        first.release()
        second = waiting.result(20)
    assert second.fencing_token > first.fencing_token
    assert way.cuts == 1
    second.release()
    assert direct.stats("build").active_count == 0


def test_who_waits_and_who_holds_outlive_a_restart_of_the_server(own_server: Server, log: EventLog) -> None:
    direct = log.slots()
    with RemoteSlots(own_server.url, workspace=log.workspace) as slots, ThreadPoolExecutor(1) as pool:
        first = slots.acquire("build", "e1", max_concurrent=1, lease_s=20)
        waiting = pool.submit(slots.acquire, "build", "e2", max_concurrent=1, timeout_s=60)
        _waits(direct, "e2")
        own_server.stop()
        own_server.start()
        assert first.valid
        first.renew()
        assert first.release() is True
        second = waiting.result(30)
        assert second.valid
        second.release()


def test_a_process_that_is_interrupted_while_it_waits_leaves_the_line(
    server: Server, remote: RemoteSlots, direct: SlotQueue
) -> None:
    waiter = f"""
import sys
from eventlog.client import RemoteSlots
with RemoteSlots({server.url!r}, workspace={remote.workspace!r}) as slots:
    slots.acquire("build", "e2", max_concurrent=1)
"""
    with remote.acquire("build", "e1", max_concurrent=1):
        process = subprocess.Popen([sys.executable, "-c", waiter], stderr=subprocess.DEVNULL)
        try:
            _waits(direct, "e2")
            process.send_signal(signal.SIGINT)
            assert process.wait(20) != 0
            assert direct.stats("build").queue_length == 0
        finally:
            process.kill()
            process.wait(20)


def test_the_command_line_works_on_slots_through_a_server(server: Server, direct: SlotQueue) -> None:
    program = Program({"EVENTLOG_URL": server.url, "EVENTLOG_WORKSPACE": direct.workspace})
    held = program("slots", "acquire", "build", "e1", "--max-concurrent", "1", "-o", "json")
    assert held.returncode == 0, held.stderr
    token = json.loads(held.stdout)["fencing_token"]
    assert direct.state("build", "e1").fencing_token == token
    assert program("slots", "acquire", "build", "e2", "--timeout", "0").returncode == 75
    assert b"build" in program("slots", "ls").stdout
    assert program("slots", "limit", "build", "2").returncode == 0
    assert direct.stats("build").max_concurrent == 2
    assert program("slots", "release", "build", "e1", "--fencing-token", str(token)).stdout == b"released\n"


def test_a_command_runs_under_a_slot_through_a_server(server: Server, log: EventLog) -> None:
    program = Program({"EVENTLOG_URL": server.url, "EVENTLOG_WORKSPACE": log.workspace})
    seen = "import os; print(os.environ['EVENTLOG_FENCING_TOKEN'])"
    command = ["--execution-id", "e1", "--", sys.executable, "-c", seen]
    refused = program("exec", "--action", "build", *command)
    assert (refused.returncode, b"--no-limit" in refused.stderr, log.info().last_offset) == (2, True, 0)
    done = program("exec", "--action", "build", "--no-limit", *command)
    assert (done.returncode, done.stderr) == (0, b"")
    kinds = [event.kind for event in log.query()]
    assert [kind for kind in kinds if kind.startswith("slot.")] == ["slot.granted", "slot.released"]
    assert {"run.started", "exec.output", "execution.completed", "run.finished"} <= set(kinds)
    granted = next(event for event in log.query() if event.kind == "slot.granted")
    assert done.stdout.decode().strip() == str(granted.payload["fencing_token"])

"""The chain over real processes: enforce and wait, work, a completion appended by another process, the next goes on."""

import contextlib
import random
import signal
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from eventlog import create_event_log
from eventlog.log.blocking import EventLog
from eventlog.slots.policy import Policy
from tests.slots_service.workers import Member
from tests.support.redis_process import RedisProcess, eventually

ACTION = "deploy"
Start = Callable[..., Member]


@pytest.fixture
def start(redis_server: RedisProcess, key_prefix: str) -> Iterator[Start]:
    """Starts a process of the chain; all end with the test."""
    with contextlib.ExitStack() as members:

        def begin(style: str, url: str = redis_server.url, **given: Any) -> Member:
            return members.enter_context(Member(style=style, url=url, key_prefix=key_prefix, action=ACTION, **given))

        yield begin


@pytest.fixture
def log(redis_server: RedisProcess, key_prefix: str) -> Iterator[EventLog]:
    """The workspace's log, at whose action one execution may run at a time."""
    with create_event_log("redis", url=redis_server.url, workspace="w", key_prefix=key_prefix) as log:
        log.slots().put_policy(f"action/{ACTION}", Policy(max_concurrent=1))
        yield log


def complete(log: EventLog, execution_id: str, *, times: int = 1, status: str = "succeeded") -> None:
    """Have the completing process say that an execution is complete."""
    completion = {"execution_id": execution_id, "status": status}
    log.append("please.complete", {"times": times, "completion": completion})


def stop(listener: Member) -> dict[str, int]:
    """End a listener orderly; returns its stats."""
    listener.process.send_signal(signal.SIGTERM)
    stats: dict[str, int] = listener.until("stats")[1]
    listener.finish()
    return stats


def in_line(log: EventLog, count: int) -> None:
    eventually(lambda: log.slots().stats(ACTION).queue_length == count, f"{count} wait")


def story(log: EventLog, kind: str) -> list[str]:
    return [event.payload["execution_id"] for event in log.query(kind=kind)]


def test_each_completion_lets_the_next_execution_proceed(log: EventLog, start: Start) -> None:
    start("complete").until("following")
    listener = start("listen")
    listener.until("listening")
    first = start("enforce", executions=["e1"])
    _, _, fence, already_held = first.until("granted")
    assert not already_held
    waiting = []
    for position, name in enumerate(("e2", "e3"), 1):
        waiting.append(start("enforce", executions=[name]))
        in_line(log, position)
    fences = [fence]
    workers = [first, *waiting]
    for n, worker in enumerate(workers, 1):
        assert log.slots().state(ACTION, f"e{n}").state == "granted"
        complete(log, f"e{n}", status=("succeeded", "failed", "cancelled")[n - 1])
        assert worker.until("ended") == ["ended", f"e{n}"]
        worker.finish()
        if n < len(workers):
            fences.append(workers[n].until("granted")[2])
    assert fences == sorted(set(fences))
    stats = stop(listener)
    assert (stats["seen"], stats["released"], stats["unknown"], stats["missed"]) == (3, 3, 0, 0)
    assert story(log, "slot.granted") == story(log, "slot.released") == ["e1", "e2", "e3"]
    assert log.verify().clean


def test_a_listener_that_was_killed_and_another_that_is_started_later_lose_nothing(log: EventLog, start: Start) -> None:
    start("complete").until("following")
    listener = start("listen")
    listener.until("listening")
    workers = [start("enforce", executions=["e1"])]
    workers[0].until("granted")
    workers.append(start("enforce", executions=["e2"]))
    in_line(log, 1)
    listener.kill()
    complete(log, "e1")
    eventually(lambda: story(log, "execution.completed") == ["e1"], "e1 is complete")
    assert log.slots().state(ACTION, "e1").state == "granted", "nobody listens"
    again = start("listen")
    workers[0].until("ended")
    workers[1].until("granted")
    complete(log, "e2")
    workers[1].until("ended")
    again.until("listening")
    assert stop(again)["released"] == 2
    assert story(log, "slot.released") == ["e1", "e2"]


def test_duplicates_and_completions_of_those_that_still_wait_disturb_nobody(log: EventLog, start: Start) -> None:
    completer = start("complete")
    listeners = [start("listen") for _ in range(2)]
    for member, word in ((completer, "following"), *((listener, "listening") for listener in listeners)):
        member.until(word)
    first = start("enforce", executions=["e1"])
    first.until("granted")
    slots = log.slots()
    for name in ("e2", "e3"):
        slots.enqueue(ACTION, name)
    last = start("enforce", executions=["e4"])
    in_line(log, 3)
    complete(log, "e3", times=2)
    in_line(log, 2)
    complete(log, "e1", times=3)
    first.until("ended")
    eventually(lambda: slots.state(ACTION, "e2").state == "granted", "e2 is granted")
    complete(log, "e2", times=2)
    last.until("granted")
    complete(log, "e4")
    last.until("ended")
    stats = [stop(listener) for listener in listeners]
    total = {name: sum(one[name] for one in stats) for name in ("seen", "released", "cancelled", "unknown")}
    assert total == {"seen": 8, "released": 3, "cancelled": 1, "unknown": 4}
    assert story(log, "slot.released") == ["e1", "e2", "e4"]
    assert story(log, "slot.cancelled") == ["e3"]


def test_an_enforcer_that_dies_gives_its_slot_up_with_its_lease_and_one_that_comes_back_goes_on(
    log: EventLog, start: Start
) -> None:
    start("complete").until("following")
    start("listen").until("listening")
    first = start("enforce", executions=["e1"], lease_s=3.0)
    fence = first.until("granted")[2]
    first.kill()
    again = start("enforce", executions=["e1"], lease_s=3.0)
    assert again.until("granted") == ["granted", "e1", fence, True]
    again.kill()
    other = start("enforce", executions=["e2"], lease_s=3.0)
    assert other.until("granted")[2] > fence
    assert story(log, "slot.expired") == ["e1"]
    complete(log, "e2")
    other.until("ended")


def test_redis_restarted_in_between_costs_nothing(key_prefix: str, start: Start) -> None:
    with (
        RedisProcess(appendfsync="always") as server,
        create_event_log("redis", url=server.url, workspace="w", key_prefix=key_prefix) as log,
    ):
        log.slots().put_policy(f"action/{ACTION}", Policy(max_concurrent=1))
        start("complete", url=server.url).until("following")
        listener = start("listen", url=server.url)
        listener.until("listening")
        first = start("enforce", url=server.url, executions=["e1"], lease_s=20.0)
        first.until("granted")
        second = start("enforce", url=server.url, executions=["e2"], lease_s=20.0)
        in_line(log, 1)
        server.kill()
        server.start()
        complete(log, "e1")
        second.until("granted")
        server.restart()
        complete(log, "e2")
        eventually(lambda: log.slots().stats(ACTION).active_count == 0, "e2 is released")
        assert stop(listener)["released"] == 2
        assert story(log, "slot.released") == ["e1", "e2"]
        assert log.verify().clean


@pytest.mark.chaos
def test_listeners_that_are_killed_at_random_release_every_execution_once(log: EventLog, start: Start) -> None:
    seed = random.randrange(1 << 32)
    chosen = random.Random(seed)
    count = 60
    slots = log.slots()
    slots.put_policy(f"action/{ACTION}", Policy(max_concurrent=count))
    for n in range(count):
        slots.enqueue(ACTION, f"e{n}")
    listeners = [start("listen") for _ in range(2)]
    for listener in listeners:
        listener.until("listening")
    done = 0
    while done < count:
        some = [f"e{n}" for n in range(done, min(done + chosen.randint(1, 20), count))]
        log.append_many({"kind": "execution.completed", "payload": {"execution_id": name}} for name in some)
        done += len(some)
        at = chosen.randrange(2)
        listeners[at].kill()
        listeners[at] = start("listen")
    eventually(lambda: slots.stats(ACTION).active_count == 0, f"all are released (seed {seed})")
    assert sorted(story(log, "slot.released")) == sorted(f"e{n}" for n in range(count)), f"seed {seed}"
    for listener in listeners:
        listener.until("listening")
        stop(listener)
    assert log.verify().clean

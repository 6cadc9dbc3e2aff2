"""`eventlog slots`: looking at queues, and holding slots from scripts."""

import re
import signal
from collections.abc import Iterator
from typing import Any

import orjson
import pytest

from eventlog import EventLog
from eventlog.slots.blocking import SlotQueue
from eventlog.slots.policy import Policy, Rate
from tests.support.redis_process import eventually

from .conftest import Here
from .program import Program


@pytest.fixture
def slots(log: EventLog) -> Iterator[SlotQueue]:
    with log.slots() as opened:
        yield opened


def _said(here: Here, *args: str) -> str:
    done = here("slots", *args)
    assert done.returncode == 0, done.stderr
    text: str = done.stdout.decode()
    return text


def test_queues_are_listed_with_who_holds_and_waits(here: Here, slots: SlotQueue) -> None:
    assert _said(here, "ls").split() == ["QUEUE", "HELD", "WAITING", "LONGEST"]
    slots.enqueue("build", "e1", max_concurrent=1)
    slots.enqueue("build", "e2", max_concurrent=1)
    slots.enqueue("deploy", "e3", group_key="east")
    _, build, deploy = _said(here, "ls").splitlines()
    assert build.split()[:3] == ["build", "1/1", "1"]
    assert deploy.split() == ["deploy/east", "1", "0"]
    as_json = [orjson.loads(line) for line in _said(here, "ls", "-o", "json").splitlines()]
    assert [(queue["action"], queue["active_count"], queue["queue_length"]) for queue in as_json] == [
        ("build", 1, 1),
        ("deploy", 1, 0),
    ]


def test_one_queue_is_shown_with_its_limits_holders_and_waiters(here: Here, slots: SlotQueue) -> None:
    slots.enqueue("build", "e1", max_concurrent=1, owner="host:7")
    slots.enqueue("build", "e2", max_concurrent=1)
    head, totals, holder, waiter = _said(here, "show", "build").splitlines()
    assert head.startswith("build: 1/1 held, 1 waiting; at most 1 at once")
    assert totals == "so far: 2 acquired or queued, 0 completed, 0 expired, 0 timed out, 0 cancelled"
    assert holder.split()[0] == "e1"
    assert "token" in holder
    assert holder.endswith("host:7")
    assert waiter.split()[0] == "e2"
    assert "position 1" in waiter
    as_json = orjson.loads(_said(here, "show", "build", "-o", "json"))
    assert [one["execution_id"] for one in as_json["holders"] + as_json["waiters"]] == ["e1", "e2"]


def test_a_queue_is_named_as_it_is_listed(here: Here, slots: SlotQueue) -> None:
    slots.enqueue("deploy", "e1", max_concurrent=1, group_key="g1")
    assert "deploy/g1" in _said(here, "ls")
    shown = [_said(here, "show", *named) for named in (["deploy/g1"], ["deploy", "--group", "g1"])]
    assert len({re.sub(r"\d+(\.\d)? m?s", "some s", text) for text in shown}) == 1, "time goes on between the two"
    _said(here, "release", "deploy/g1", "e1")
    assert slots.stats("deploy", group_key="g1").active_count == 0
    assert here("slots", "show", "deploy/g1", "--group", "g2").returncode == 2


@pytest.mark.parametrize("form", ["text", "json"])
def test_a_queue_that_was_never_used_is_not_found(here: Here, slots: SlotQueue, form: str) -> None:
    slots.set_limit("nothing", 3)
    done = here("slots", "show", "nothing", "-o", form)
    assert (done.returncode, done.stdout) == (1, b"")
    assert b"nobody has used nothing within the last week; it would have at most 3 at once" in done.stderr


@pytest.mark.parametrize(
    ("limits", "said"),
    [
        ({}, "no limits"),
        ({"max_concurrent": 3}, "at most 3 at once"),
        (
            {"rate_limit": Rate(10, 0.5), "quota": Rate(1, 86_400), "log_transitions": False},
            "10 grants in any 0.5 s, 1 grant in each 86400 s; not logged",
        ),
        (
            {"max_queue_length": 7, "queue_timeout_seconds": 60.0, "log_transitions": True},
            "at most 7 waiting, 60 s to wait",
        ),
    ],
)
def test_limits_are_shown_in_words(here: Here, slots: SlotQueue, limits: dict[str, Any], said: str) -> None:
    slots.put_policy("global", Policy(**limits))
    slots.enqueue("build", "e1")
    assert _said(here, "show", "build").splitlines()[0].endswith(f"held, 0 waiting; {said}")
    assert _said(here, "policy") == f"global: {said}\n"


def test_who_leaves_the_line_is_told_so(here: Here, slots: SlotQueue) -> None:
    slots.enqueue("build", "e1", max_concurrent=1)
    slots.enqueue("build", "e2", max_concurrent=1)
    assert _said(here, "release", "build", "e2") == "left the line\n"


def test_without_policies_a_note_says_so(here: Here) -> None:
    done = here("slots", "policy")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"--- no policy is set ---\n")


def test_a_slot_stays_held_between_commands_until_it_is_released(here: Here, slots: SlotQueue) -> None:
    token = int(_said(here, "acquire", "build", "e1", "--max-concurrent", "1", "--lease", "20"))
    [holder] = slots.stats("build").holders
    assert (holder.execution_id, holder.fencing_token) == ("e1", token)
    left_s = float(_said(here, "renew", "build", "e1", "--fencing-token", str(token), "--lease", "100"))
    assert 95 < left_s <= 100
    assert _said(here, "release", "build", "e1", "--fencing-token", str(token + 1)) == "held no slot\n"
    assert _said(here, "release", "build", "e1", "--fencing-token", str(token)) == "released\n"
    assert _said(here, "release", "build", "e1") == "held no slot\n"
    assert slots.stats("build").active_count == 0


def test_a_lease_that_is_lost_cannot_be_renewed(here: Here) -> None:
    done = here("slots", "renew", "build", "e1")
    assert done.returncode == 1
    assert b"does not hold a slot" in done.stderr


def test_the_state_of_an_acquired_slot_comes_as_json_too(here: Here) -> None:
    state = orjson.loads(_said(here, "acquire", "build", "e1", "-o", "json"))
    assert state["state"] == "granted"
    assert state["fencing_token"] > 0
    assert state["lease_expires_at"] > state["time"]


@pytest.mark.parametrize("timeout", ["0", "0.2"])
def test_without_a_slot_in_time_the_exit_code_is_75_and_the_line_is_left(
    here: Here, slots: SlotQueue, timeout: str
) -> None:
    with slots.acquire("build", "first", max_concurrent=1):
        done = here("slots", "acquire", "build", "e1", "--timeout", timeout)
        assert (done.returncode, done.stdout) == (75, b"")
        assert slots.stats("build").queue_length == 0


def test_interrupted_it_leaves_the_line(program: Program, slots: SlotQueue) -> None:
    command = ("slots", "acquire", "build", "e1")
    with slots.acquire("build", "first", max_concurrent=1), program.start(*command) as running:
        eventually(lambda: slots.stats("build").queue_length == 1, "it queues")
        running.signal(signal.SIGINT)
        assert running.end() == 130
        assert slots.stats("build").queue_length == 0


def test_a_waiter_is_cancelled_and_a_holder_is_not(here: Here, slots: SlotQueue) -> None:
    slots.enqueue("build", "e1", max_concurrent=1)
    slots.enqueue("build", "e2", max_concurrent=1)
    assert _said(here, "cancel", "build", "e2") == "cancelled\n"
    assert _said(here, "cancel", "build", "e1") == "did not wait\n"
    assert slots.stats("build").active_count == 1


def test_a_raised_limit_hands_slots_out_at_once(here: Here, slots: SlotQueue) -> None:
    for number in range(3):
        slots.enqueue("build", f"e{number}", max_concurrent=1)
    _said(here, "limit", "build", "2")
    assert (slots.stats("build").active_count, slots.stats("build").max_concurrent) == (2, 2)
    _said(here, "limit", "build", "none")
    assert slots.stats("build").max_concurrent == 1


def test_policies_are_set_shown_listed_and_removed(here: Here, slots: SlotQueue) -> None:
    assert _said(here, "policy") == ""
    shown = _said(
        here, "policy", "action/build", "--max-concurrent", "3", "--rate", "10/60", "--quota", "5/0.5", "--no-log"
    )
    assert shown == "action/build: at most 3 at once, 10 grants in any 60 s, 5 grants in each 0.5 s; not logged\n"
    stored = slots.get_policy("action/build")
    assert stored is not None
    assert stored.policy == Policy(3, Rate(10, 60), Rate(5, 0.5), log_transitions=False)
    _said(here, "policy", "global", "--max-queue-length", "9", "--queue-timeout", "2.5")
    assert [line.partition(":")[0] for line in _said(here, "policy").splitlines()] == ["action/build", "global"]
    [as_json] = _said(here, "policy", "global", "-o", "json").splitlines()
    assert orjson.loads(as_json)["queue_timeout_seconds"] == 2.5
    _said(here, "policy", "action/build", "--remove")
    assert here("slots", "policy", "action/build").returncode == 1


def test_a_reset_takes_everybody_out(here: Here, slots: SlotQueue) -> None:
    for action in ("build", "deploy"):
        for number in range(3):
            slots.enqueue(action, f"e{number}", max_concurrent=1)
    assert _said(here, "reset", "build") == "1 holder and 2 waiters taken out\n"
    assert slots.stats("deploy").active_count == 1
    assert _said(here, "reset", "--all") == "1 holder and 2 waiters taken out\n"
    assert slots.stats("deploy").queue_length == 0


@pytest.mark.parametrize(
    ("args", "named"),
    [
        (["show", "no spaces"], "action"),
        (["acquire", "build", "no spaces"], "execution_id"),
        (["acquire", "build", "e1", "--max-concurrent", "0"], "max_concurrent"),
        (["acquire", "build", "e1", "--lease", "nan"], "lease_s"),
        (["limit", "build", "0"], "max_concurrent"),
        (["limit", "build", "-"], "max_concurrent"),
        (["policy", "--max-concurrent", "1"], "scope"),
        (["policy", "everything"], "scope"),
        (["policy", "global", "--rate", "10"], "rate"),
        (["policy", "global", "--quota", "0/5"], "quota"),
        (["policy", "global", "--remove", "--log"], "remove"),
        (["reset"], "action"),
        (["reset", "build", "--all"], "action"),
        (["reset", "--all", "--group", "g"], "group"),
        (["release", "build", "e1", "--fencing-token", "-1"], "fencing_token"),
        (["ls", "--url", "ftp://127.0.0.1:1"], "url"),
    ],
)
def test_bad_input_is_exit_code_2_and_named(here: Here, args: list[str], named: str) -> None:
    done = here("slots", *args)
    assert done.returncode == 2
    assert named in done.stderr.decode()

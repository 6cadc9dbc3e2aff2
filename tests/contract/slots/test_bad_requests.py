"""What cannot be meant is refused by the name of what is wrong, and leaves nothing behind."""

from enum import Enum
from typing import Any

import pytest

from eventlog.errors import InvalidInput, LogClosed
from eventlog.slots.policy import Policy, Rate, Scope

NAMES = ["", " ", "a b", "a/b", "ä", "a\n", "x" * 129, 7, None, b"a", "a{b}", "-" * 200]
COUNTS = [0, -1, 1.5, "3", True, 10**7, float("nan"), 10**5000]
LEASES = [0, -1, 0.1, 86_401, float("nan"), float("inf"), "30", True, 10**5000]
TIMEOUTS = [-1, -0.001, 86_401, float("nan"), float("inf"), "30", True, 10**5000]
ASKING = ["acquire", "try_acquire", "enqueue"]


def refused(field: str, call: Any, *args: Any, **kwargs: Any) -> None:
    with pytest.raises(InvalidInput) as refusal:
        call(*args, **kwargs)
    assert refusal.value.field == field
    assert len(str(refusal.value)) < 500


@pytest.mark.parametrize("how", ASKING)
def test_names_are_checked(slots: Any, log: Any, how: str) -> None:
    ask = getattr(slots, how)
    for name in NAMES:
        refused("action", ask, name, "e1")
        if name is not None:
            refused("execution_id", ask, "build", name)
            refused("group_key", ask, "build", "e1", group_key=name)
            refused("pack", ask, "build", "e1", pack=name)
    refused("pack", ask, "build", "e1", pack="-")
    assert slots.queues() == []
    assert log.info().last_offset == 0


@pytest.mark.parametrize("how", ASKING)
def test_numbers_are_checked(slots: Any, log: Any, how: str) -> None:
    ask = getattr(slots, how)
    for count in COUNTS:
        refused("max_concurrent", ask, "build", "e1", max_concurrent=count)
        refused("max_queue_length", ask, "build", "e1", max_queue_length=count)
    for lease in LEASES:
        refused("lease_s", ask, "build", "e1", lease_s=lease)
    assert slots.queues() == []
    assert log.info().last_offset == 0


def test_patience_is_checked(slots: Any) -> None:
    for timeout in TIMEOUTS:
        refused("timeout_s", slots.acquire, "build", "e1", timeout_s=timeout)
        refused("queue_timeout_s", slots.enqueue, "build", "e1", queue_timeout_s=timeout)
        refused("wait_s", slots.state, "build", "e1", wait_s=timeout)
    assert slots.queues() == []


def test_calls_on_executions_check_their_names(slots: Any) -> None:
    for name in NAMES:
        for call in (slots.state, slots.renew, slots.release, slots.cancel):
            refused("action", call, name, "e1")
            refused("execution_id", call, "build", name)
            if name is not None:
                refused("group_key", call, "build", "e1", group_key=name)
        refused("action", slots.stats, name)
        refused("action", slots.clear, name)
        refused("action", slots.set_limit, name, 3)
        refused("execution_id", slots.queues_of, name)


def test_tokens_and_leases_are_checked(slots: Any) -> None:
    slots.enqueue("build", "e1")
    for token in (0, -1, 1.5, "7", True, 1 << 53, 10**5000):
        refused("fencing_token", slots.renew, "build", "e1", fencing_token=token)
        refused("fencing_token", slots.release, "build", "e1", fencing_token=token)
    for lease in LEASES:
        refused("lease_s", slots.renew, "build", "e1", lease_s=lease)
    assert slots.state("build", "e1").state == "granted"
    slot = slots.acquire("build", "e2", lease_s=20)
    for lease in LEASES:
        refused("lease_s", slot.renew, lease)
    slot.renew()
    assert slot.valid


def test_limits_are_checked(slots: Any) -> None:
    for count in COUNTS:
        refused("max_concurrent", slots.set_limit, "build", count)
        refused("max_concurrent", slots.put_policy, "global", Policy(max_concurrent=count))
        refused("max_queue_length", slots.put_policy, "global", Policy(max_queue_length=count))
        refused("rate_limit.count", slots.put_policy, "global", Policy(rate_limit=Rate(count, 1)))
        refused("quota.seconds", slots.put_policy, "global", Policy(quota=Rate(1, -1)))
    for seconds in (0, -1, 86_401, float("nan"), "1", True):
        refused("queue_timeout_seconds", slots.put_policy, "global", Policy(queue_timeout_seconds=seconds))  # type: ignore[arg-type]
    refused("log_transitions", slots.put_policy, "global", Policy(log_transitions="no"))  # type: ignore[arg-type]
    refused("policy", slots.put_policy, "global", {"max_concurrent": 3})
    assert slots.policies() == {}


def test_scopes_are_checked(slots: Any) -> None:
    for scope in (
        "",
        "globals",
        "pack",
        "pack/a b",
        "pack/-",
        "action/a/b",
        "queue",
        "queue/",
        "queue/a/",
        "queue/a/b/c",
        None,
        7,
    ):
        for call in (
            lambda scope=scope: slots.put_policy(scope, Policy(max_concurrent=1)),
            lambda scope=scope: slots.delete_policy(scope),
            lambda scope=scope: slots.get_policy(scope),
        ):
            with pytest.raises(InvalidInput):
                call()
    assert slots.policies() == {}


def test_versions_are_checked(slots: Any) -> None:
    for version in (-1, "1", 1.0, True):
        refused("expected_version", slots.put_policy, "global", Policy(), expected_version=version)
        refused("expected_version", slots.delete_policy, "global", expected_version=version)


def test_how_much_to_list_is_checked(slots: Any) -> None:
    slots.enqueue("build", "e1")
    for listed in (0, -1, 1001, "3", True, 10**5000):
        refused("listed", slots.stats, "build", listed=listed)
        refused("listed", slots.queues, listed=listed)
        refused("limit", slots.queues_page, limit=listed)


def test_where_a_page_of_queues_begins_is_checked(slots: Any) -> None:
    for after in ("", "a b", "a/", "/a", "a/b/c", "ä", "x" * 129, 7):
        refused("after", slots.queues_page, after=after)


@pytest.mark.waits
def test_closed_queues_say_so(slots: Any, log: Any) -> None:
    slots.enqueue("build", "e1")
    log.shut()
    for call in (
        lambda: slots.acquire("build", "e2"),
        lambda: slots.try_acquire("build", "e2"),
        lambda: slots.enqueue("build", "e2"),
        lambda: slots.state("build", "e1"),
        lambda: slots.stats("build"),
        lambda: slots.release("build", "e1"),
        lambda: slots.policies(),
    ):
        with pytest.raises(LogClosed):
            call()


class Own(str):
    """Shows itself in its own way, as a member of `class Kind(str, Enum)` does."""

    def __str__(self) -> str:
        return "own"

    __repr__ = __format__ = lambda *_: "own"


class Two(int, Enum):
    TWO = 2


def test_names_and_limits_are_taken_by_value(slots: Any) -> None:
    build, e1 = Own("build"), Own("e1")
    slots.enqueue("build", "e0", group_key="g")
    slots.enqueue(build, e1, max_concurrent=Two.TWO, group_key=Own("g"), pack=Own("p"), owner=Own("me"))
    assert slots.state(build, e1, group_key=Own("g")).state == "granted"
    stats = slots.stats("build", group_key="g")
    assert [(one.execution_id, one.owner) for one in stats.holders][1:] == [("e1", "me")]
    assert (stats.max_concurrent, [(one.action, one.group_key) for one in slots.queues()]) == (2, [("build", "g")])
    slots.put_policy(Own("action/build"), Policy(max_concurrent=Two.TWO))
    assert list(slots.policies()) == [Scope("action", "build")]
    assert slots.get_policy("action/build").policy.max_concurrent == 2
    assert slots.release(build, e1, group_key=Own("g"))

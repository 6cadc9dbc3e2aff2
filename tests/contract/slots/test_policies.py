"""Policies: which limit counts, rates and quotas, and changes while executions wait."""

from typing import Any

import pytest

from eventlog.errors import QueueFull, QuotaExceeded, RateLimited, VersionConflict
from eventlog.slots.policy import Policy, Rate, Scope
from tests.contract.slots.queues import InLine, story
from tests.contract.worlds import World

DAY_S = 86_400.0


def test_the_most_specific_word_on_each_limit_counts(slots: Any) -> None:
    slots.put_policy(
        "global", Policy(max_concurrent=1, max_queue_length=11, queue_timeout_seconds=111, quota=Rate(9, 90))
    )
    slots.put_policy("pack/p", Policy(max_concurrent=2, max_queue_length=22, rate_limit=Rate(8, 80)))
    slots.put_policy("action/build", Policy(max_concurrent=3, log_transitions=False))
    slots.enqueue("build", "e1", max_concurrent=7, pack="p")
    slots.enqueue("other", "e1", max_concurrent=7, pack="p")
    slots.enqueue("plain", "e1", max_concurrent=7)

    def limits(action: str) -> Policy:
        limits: Policy = slots.stats(action).policy
        return limits

    assert limits("build") == Policy(3, Rate(8, 80), Rate(9, 90), 22, 111, False)
    assert limits("other") == Policy(2, Rate(8, 80), Rate(9, 90), 22, 111, True)
    assert limits("plain") == Policy(1, None, Rate(9, 90), 11, 111, True)
    slots.set_limit("build", 4)
    assert limits("build") == Policy(4, Rate(8, 80), Rate(9, 90), 22, 111, False)
    slots.delete_policy("action/build")
    slots.set_limit("build", None)
    assert limits("build") == limits("other")
    slots.delete_policy("pack/p")
    slots.delete_policy("global")
    assert limits("build") == Policy(7, None, None, None, None, True)


def test_a_policy_of_an_action_is_for_each_of_its_groups(slots: Any) -> None:
    slots.put_policy("action/build", Policy(max_concurrent=1))
    for group in (None, "g1", "g2"):
        assert slots.enqueue("build", "e1", group_key=group).state == "granted"
        assert slots.enqueue("build", "e2", group_key=group).state == "queued"
    slots.set_limit("build", 2, group_key="g1")
    assert [slots.state("build", "e2", group_key=group).state for group in (None, "g1", "g2")] == [
        *("queued", "granted", "queued")
    ]


def test_a_policy_overrides_the_callers_number(slots: Any) -> None:
    slots.put_policy("action/build", Policy(max_concurrent=1))
    assert slots.enqueue("build", "e1", max_concurrent=10).state == "granted"
    assert slots.enqueue("build", "e2", max_concurrent=10).state == "queued"


@pytest.mark.parametrize("scope", ["global", "pack/p", "action/build", "queue/build"])
@pytest.mark.waits
def test_a_policy_takes_effect_on_those_who_wait_already(slots: Any, scope: str) -> None:
    slots.enqueue("build", "e1", max_concurrent=1, pack="p")
    with InLine(slots, "build", "e2", max_concurrent=1, pack="p") as second:
        slots.put_policy(scope, Policy(max_concurrent=2))
        assert second.join().valid


@pytest.mark.waits
def test_a_policy_that_goes_lets_waiters_in(slots: Any) -> None:
    slots.put_policy("action/build", Policy(max_concurrent=1))
    slots.enqueue("build", "e1")
    with InLine(slots, "build", "e2") as second:
        slots.delete_policy("action/build")
        assert second.join().valid


def test_policies_are_kept_by_scope_with_their_versions(slots: Any) -> None:
    assert slots.policies() == {}
    assert slots.get_policy("global") is None
    first = slots.put_policy("global", Policy(max_concurrent=5, rate_limit=Rate(1, 1.5), log_transitions=True))
    second = slots.put_policy("pack/p", Policy(queue_timeout_seconds=0.25))
    assert second > first
    assert slots.get_policy("global") == (first, Policy(5, Rate(1, 1.5), log_transitions=True))
    third = slots.put_policy("global", Policy(quota=Rate(3, DAY_S), max_queue_length=9))
    assert third > second
    assert slots.policies() == {
        Scope("global"): (third, Policy(quota=Rate(3, DAY_S), max_queue_length=9)),
        Scope("pack", "p"): (second, Policy(queue_timeout_seconds=0.25)),
    }
    slots.delete_policy("global")
    assert list(slots.policies()) == [Scope("pack", "p")]


def test_a_change_can_be_bound_to_the_version_that_was_seen(slots: Any) -> None:
    first = slots.put_policy("action/a", Policy(max_concurrent=1), expected_version=0)
    second = slots.put_policy("action/a", Policy(max_concurrent=2), expected_version=first)
    for change in (
        lambda: slots.put_policy("action/a", Policy(max_concurrent=3), expected_version=first),
        lambda: slots.delete_policy("action/a", expected_version=first),
        lambda: slots.put_policy("action/a", Policy(max_concurrent=3), expected_version=0),
    ):
        with pytest.raises(VersionConflict) as conflict:
            change()
        assert conflict.value.version == second
    assert slots.get_policy("action/a") == (second, Policy(max_concurrent=2))
    with pytest.raises(VersionConflict):
        slots.put_policy("action/b", Policy(max_concurrent=3), expected_version=7)
    slots.delete_policy("action/a", expected_version=second)
    assert slots.get_policy("action/a") is None


def test_set_limit_is_a_policy_of_the_queue(slots: Any) -> None:
    version = slots.set_limit("build", 3, group_key="g")
    assert slots.policies() == {Scope("queue", "build/g"): (version, Policy(max_concurrent=3))}
    assert slots.set_limit("build", 4, group_key="g") > version


def test_a_queues_length_can_be_set_by_policy(slots: Any) -> None:
    slots.put_policy("action/build", Policy(max_concurrent=1, max_queue_length=1))
    slots.enqueue("build", "e1")
    slots.enqueue("build", "e2", max_queue_length=100)
    with pytest.raises(QueueFull) as full:
        slots.enqueue("build", "e3", max_queue_length=100)
    assert (full.value.length, full.value.limit) == (1, 1)


def test_patience_can_be_set_by_policy(slots: Any, place: World, log: Any) -> None:
    slots.put_policy("action/build", Policy(max_concurrent=1, queue_timeout_seconds=30))
    slots.enqueue("build", "e1")
    queued = slots.enqueue("build", "e2", queue_timeout_s=1000)
    assert queued.queue_expires_at - queued.time == pytest.approx(30)
    place.pass_time(30)
    assert slots.state("build", "e2").state == "none"
    assert story(log)[-1] == ("timed_out", "e2")


def test_a_rate_holds_in_any_stretch_of_its_length(slots: Any, place: World, log: Any) -> None:
    slots.put_policy("action/build", Policy(rate_limit=Rate(2, 0.5)))
    for n in range(5):
        state = slots.enqueue("build", f"e{n}")
        while state.state == "queued":
            assert state.limited_by == "rate"
            assert state.position == 1
            place.pass_time(state.retry_at - state.time)
            state = slots.state("build", f"e{n}")
    # A log is born a millisecond ahead of the clock, so the first grant may be told that much too late.
    granted = [event.timestamp for event in log.query(kind="slot.granted")]
    assert len(granted) == 5
    assert all(later - earlier >= 0.498 for earlier, later in zip(granted, granted[2:], strict=False))


def test_a_quota_holds_in_each_window_and_then_begins_anew(slots: Any, place: World, log: Any) -> None:
    slots.put_policy("action/build", Policy(quota=Rate(2, 0.5)))
    for n in range(5):
        state = slots.enqueue("build", f"e{n}")
        while state.state == "queued":
            assert state.limited_by == "quota"
            assert (state.retry_at * 2) == pytest.approx(round(state.retry_at * 2))
            place.pass_time(state.retry_at - state.time)
            state = slots.state("build", f"e{n}")
    # A log is born a millisecond ahead of the clock: its first event may be told in the window after its grant's.
    windows = [int(event.timestamp * 1000 // 500) for event in log.query(kind="slot.granted")][1:]
    assert all(windows.count(window) <= 2 for window in windows)
    assert len(set(windows)) >= 2


def test_a_limited_execution_holds_no_slot(slots: Any) -> None:
    slots.put_policy("action/build", Policy(max_concurrent=5, rate_limit=Rate(1, 60)))
    slots.enqueue("build", "e1")
    slots.enqueue("build", "e2")
    slots.enqueue("build", "e3")
    stats = slots.stats("build")
    assert (stats.active_count, stats.queue_length) == (1, 2)
    assert slots.release("build", "e1")
    assert slots.stats("build").active_count == 0
    assert [slots.state("build", f"e{n}").limited_by for n in (2, 3)] == ["rate", "rate"]
    # A limit that stands in the way of the head does not let others pass.
    with pytest.raises(RateLimited):
        slots.try_acquire("build", "e4")


def test_a_limit_is_consumed_only_by_grants(slots: Any) -> None:
    slots.put_policy("action/build", Policy(max_concurrent=1, quota=Rate(2, 366 * DAY_S)))
    slots.enqueue("build", "e1")
    for n in range(5):
        assert slots.try_acquire("build", "e2") is None
        slots.enqueue("build", f"w{n}")
        slots.cancel("build", f"w{n}")
    slots.release("build", "e1")
    assert slots.enqueue("build", "e3").state == "granted"
    slots.release("build", "e3")
    with pytest.raises(QuotaExceeded):
        slots.try_acquire("build", "e4")


def test_who_cannot_wait_for_a_rate_or_quota_is_told_when_to_come_back(slots: Any) -> None:
    slots.put_policy("action/rated", Policy(rate_limit=Rate(1, 50)))
    slots.put_policy("action/metered", Policy(quota=Rate(1, 366 * DAY_S)))
    for action, error in (("rated", RateLimited), ("metered", QuotaExceeded)):
        slots.enqueue(action, "e1")
        for ask in (
            lambda action=action: slots.try_acquire(action, "e2"),
            lambda action=action: slots.acquire(action, "e2", timeout_s=1),
            lambda action=action: slots.enqueue(action, "e2", queue_timeout_s=1),
        ):
            with pytest.raises(error) as limited:
                ask()
            assert limited.value.retry_after_s > 1
        assert slots.stats(action).queue_length == 0


def test_who_can_wait_for_a_rate_is_woken_when_it_allows(slots: Any) -> None:
    slots.put_policy("action/build", Policy(rate_limit=Rate(1, 0.4)))
    first = slots.acquire("build", "e1")
    second = slots.acquire("build", "e2", timeout_s=10)
    assert first.fencing_token < second.fencing_token
    assert second.waited_s < 0.4 + 0.7


def test_both_limits_have_to_allow_a_grant(slots: Any) -> None:
    slots.put_policy("action/build", Policy(rate_limit=Rate(1, 5), quota=Rate(1, 366 * DAY_S)))
    slots.enqueue("build", "e1")
    # What allows it last is what is told.
    with pytest.raises(QuotaExceeded) as exceeded:
        slots.try_acquire("build", "e2")
    assert exceeded.value.retry_after_s > 5


def test_a_policy_can_keep_transitions_out_of_the_log(slots: Any, log: Any) -> None:
    slots.put_policy("action/quiet", Policy(log_transitions=False))
    for action in ("quiet", "told"):
        slots.enqueue(action, "e1", max_concurrent=1)
        slots.enqueue(action, "e2", max_concurrent=1)
        slots.release(action, "e1")
        slots.release(action, "e2")
    assert {event.payload["action"] for event in log.query(kind="slot.*")} == {"told"}
    assert slots.stats("quiet").total_completed == 2

"""Executions wait for what the policies allow, hold their slot until they are over, and are never queued twice."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from eventlog.errors import InvalidInput, LeaseLost, QueueFull, QueueTimeout, QuotaExceeded, RateLimited
from eventlog.slots.policy import Policy, Rate
from tests.support.redis_process import eventually


def waiting(here: Any, action: str = "build") -> int:
    return int(here.slots.stats(action).queue_length)


def held(here: Any, action: str = "build") -> list[str]:
    return [holder.execution_id for holder in here.slots.stats(action).holders]


def test_a_permit_says_what_was_granted_and_under_which_policy(here: Any) -> None:
    here.slots.put_policy("global", Policy(max_concurrent=7, max_queue_length=5))
    here.slots.put_policy("pack/ci", Policy(max_concurrent=3))
    permit = here.enforcer.enforce_and_wait("build", "ci", "e1", group_key="g", max_concurrent=9)
    assert (permit.action, permit.group_key, permit.execution_id) == ("build", "g", "e1")
    assert permit.policy.max_concurrent == 3
    assert permit.policy.max_queue_length == 5
    assert permit.valid
    assert not permit.lost
    assert not permit.ended
    assert not permit.already_held
    assert 0 <= permit.waited_s < 20
    state = here.slots.state("build", "e1", group_key="g")
    assert (state.state, state.fencing_token) == ("granted", permit.fencing_token)
    assert permit.release()
    assert permit.ended
    assert not permit.valid
    assert not permit.release()


def test_each_limit_comes_from_the_most_specific_scope_that_has_it(here: Any) -> None:
    here.slots.put_policy("global", Policy(max_concurrent=7, max_queue_length=5, quota=Rate(9, 60)))
    here.slots.put_policy("pack/ci", Policy(max_concurrent=3, max_queue_length=4))
    here.slots.put_policy("action/build", Policy(max_concurrent=2))
    looked = here.enforcer.policy("build", "ci", max_concurrent=11)
    assert (looked.max_concurrent, looked.max_queue_length, looked.quota) == (2, 4, Rate(9, 60))
    assert here.enforcer.policy("other", "ci").max_concurrent == 3
    assert here.enforcer.policy("other").max_concurrent == 7
    here.slots.set_limit("build", 1, group_key="g")
    assert here.enforcer.policy("build", "ci", group_key="g").max_concurrent == 1
    assert here.enforcer.policy("build", "ci", group_key="h").max_concurrent == 2
    with here.enforcer.enforce_and_wait("build", "ci", "e1", max_concurrent=11) as permit:
        in_force = permit.policy
        assert (in_force.max_concurrent, in_force.max_queue_length, in_force.quota) == (2, 4, Rate(9, 60))


def test_without_any_policy_the_callers_number_counts(here: Any) -> None:
    assert here.enforcer.policy("build", max_concurrent=4) == Policy(max_concurrent=4)
    assert here.enforcer.policy("build") == Policy()


def test_an_execution_that_holds_its_slot_goes_on_with_it(here: Any) -> None:
    first = here.enforcer.enforce_and_wait("build", execution_id="e1", max_concurrent=1)
    again = here.enforcer.enforce_and_wait("build", execution_id="e1", max_concurrent=1, timeout_s=0)
    tried = here.enforcer.enforce("build", execution_id="e1", max_concurrent=1)
    assert again.already_held
    assert tried.already_held
    assert not first.already_held
    assert first.fencing_token == again.fencing_token == tried.fencing_token
    assert held(here) == ["e1"]
    assert again.release()
    assert held(here) == []
    assert not first.release()


def test_an_execution_that_waits_already_is_not_queued_twice_and_both_callers_get_the_slot(here: Any) -> None:
    first = here.enforcer.enforce_and_wait("build", execution_id="e1", max_concurrent=1)
    with ThreadPoolExecutor(2) as pool:
        both = [
            pool.submit(here.enforcer.enforce_and_wait, "build", execution_id="e2", max_concurrent=1, timeout_s=20)
            for _ in range(2)
        ]
        eventually(lambda: waiting(here) == 1, "e2 waits")
        assert here.enforcer.enforce("build", execution_id="e2", max_concurrent=1) is None
        assert waiting(here) == 1
        assert first.release()
        permits = [one.result(20) for one in both]
    assert permits[0].fencing_token == permits[1].fencing_token > first.fencing_token
    assert sorted(permit.already_held for permit in permits) == [False, True]
    assert held(here) == ["e2"]
    permits[0].release()


def test_an_execution_that_was_queued_before_goes_on_with_its_place(here: Any) -> None:
    first = here.enforcer.enforce_and_wait("build", execution_id="e1", max_concurrent=1)
    here.slots.enqueue("build", "e2", max_concurrent=1)
    here.slots.enqueue("build", "e3", max_concurrent=1)
    with ThreadPoolExecutor(1) as pool:
        second = pool.submit(here.enforcer.enforce_and_wait, "build", execution_id="e2", timeout_s=20)
        first.release()
        permit = second.result(20)
    assert held(here) == ["e2"]
    assert waiting(here) == 1
    permit.release()


def test_who_waits_comes_to_its_turn_or_is_told_that_it_did_not(here: Any) -> None:
    first = here.enforcer.enforce_and_wait("build", execution_id="e1", max_concurrent=1)
    with pytest.raises(QueueTimeout):
        here.enforcer.enforce_and_wait("build", execution_id="e2", max_concurrent=1, timeout_s=0.1)
    assert here.enforcer.enforce("build", execution_id="e2", max_concurrent=1) is None
    assert waiting(here) == 0
    first.release()
    with here.enforcer.enforce("build", execution_id="e2", max_concurrent=1) as permit:
        assert permit.valid
    assert held(here) == []


def test_a_rate_limited_execution_holds_no_slot_and_consumes_nothing(here: Any) -> None:
    here.slots.put_policy("action/build", Policy(max_concurrent=5, rate_limit=Rate(1, 600)))
    here.enforcer.enforce_and_wait("build", execution_id="e1").release()
    for _ in range(3):
        with pytest.raises(RateLimited) as refused:
            here.enforcer.enforce_and_wait("build", execution_id="e2", timeout_s=1)
        assert 500 < refused.value.retry_after_s <= 600
        with pytest.raises(RateLimited):
            here.enforcer.enforce("build", execution_id="e2")
    assert held(here) == []
    assert waiting(here) == 0


def test_a_rate_limited_execution_that_may_wait_runs_when_the_rate_allows_it(here: Any) -> None:
    here.slots.put_policy("action/build", Policy(rate_limit=Rate(1, 0.4)))
    first = here.enforcer.enforce_and_wait("build", execution_id="e1")
    with ThreadPoolExecutor(1) as pool:
        second = pool.submit(here.enforcer.enforce_and_wait, "build", execution_id="e2", timeout_s=20)
        eventually(lambda: waiting(here) == 1, "e2 waits")
        assert held(here) == ["e1"]
        permit = second.result(20)
    granted = {holder.execution_id: holder.granted_at for holder in here.slots.stats("build").holders}
    assert round(1000 * (granted["e2"] - granted["e1"])) >= 400
    first.release()
    permit.release()


def test_a_quota_that_is_used_up_refuses_until_its_window_ends(here: Any) -> None:
    here.slots.put_policy("global", Policy(quota=Rate(2, 86_400 * 300)))
    for execution in ("e1", "e2"):
        here.enforcer.enforce_and_wait("build", execution_id=execution).release()
    with pytest.raises(QuotaExceeded) as refused:
        here.enforcer.enforce_and_wait("build", execution_id="e3", timeout_s=10)
    assert refused.value.retry_after_s > 10
    here.enforcer.enforce_and_wait("other", execution_id="e3").release()


def test_a_full_queue_refuses(here: Any) -> None:
    permit = here.enforcer.enforce_and_wait("build", execution_id="e1", max_concurrent=1)
    here.slots.enqueue("build", "e2", max_concurrent=1, max_queue_length=1)
    with pytest.raises(QueueFull):
        here.enforcer.enforce_and_wait("build", execution_id="e3", max_concurrent=1, max_queue_length=1, timeout_s=5)
    permit.release()


@pytest.mark.parametrize(
    ("field", "given"),
    [
        ("action", {"action": "a b"}),
        ("action", {"action": None}),
        ("execution_id", {"execution_id": "a/b"}),
        ("pack", {"pack": ""}),
        ("group_key", {"group_key": "ä"}),
        ("timeout_s", {"timeout_s": -1}),
        ("timeout_s", {"timeout_s": "soon"}),
        ("lease_s", {"lease_s": 0}),
        ("max_concurrent", {"max_concurrent": 0}),
    ],
)
def test_bad_input_is_named_and_leaves_nothing(here: Any, field: str, given: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput) as refused:
        here.enforcer.enforce_and_wait(**{"action": "build", "execution_id": "e1", **given})
    assert refused.value.field == field
    assert here.slots.queues() == []


def test_a_permit_renews_itself_and_learns_that_it_was_given_back_elsewhere(here: Any) -> None:
    ended = threading.Event()
    permit = here.enforcer.enforce_and_wait("build", execution_id="e1", lease_s=0.4, on_end=lambda _: ended.set())
    until = time.monotonic() + 0.9
    while time.monotonic() < until:
        assert permit.valid
        time.sleep(0.01)
    assert here.slots.release("build", "e1")
    assert ended.wait(20)
    assert permit.ended
    assert not permit.lost
    assert not permit.valid
    with pytest.raises(LeaseLost):
        permit.raise_if_lost()


def test_a_block_whose_execution_was_completed_in_it_ends_quietly(here: Any) -> None:
    with here.enforcer.enforce_and_wait("build", execution_id="e1", lease_s=0.4) as permit:
        assert here.slots.release("build", "e1")
        eventually(lambda: permit.ended, "the permit knows")
    with here.enforcer.enforce_and_wait("build", execution_id="e2"):
        assert here.slots.release("build", "e2")


def test_without_an_execution_id_it_gets_one_of_its_own(here: Any) -> None:
    with here.enforcer.enforce_and_wait("build") as one, here.enforcer.enforce_and_wait("build") as other:
        assert sorted(held(here)) == sorted([one.execution_id, other.execution_id])


def test_a_failure_to_learn_the_policy_leaves_nothing_held(here: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    queue = here.slots if not hasattr(here.slots, "_inner") else here.slots._inner

    def failing(*args: Any, **kwargs: Any) -> Any:
        raise ConnectionError("made up")

    with monkeypatch.context() as patched:
        patched.setattr(queue, "stats", failing)
        with pytest.raises(ConnectionError):
            here.enforcer.enforce_and_wait("build", execution_id="e1")
    assert held(here) == []
    token = here.slots.enqueue("build", "e2", lease_s=0.5).fencing_token
    with monkeypatch.context() as patched:
        patched.setattr(queue, "stats", failing)
        with pytest.raises(ConnectionError):
            here.enforcer.enforce_and_wait("build", execution_id="e2")
    assert here.slots.state("build", "e2").fencing_token == token, "another's slot is left as it is"
    eventually(lambda: held(here) == [], "and nobody renews it")


def test_asking_how_an_execution_stands_takes_no_ring_from_who_waits_for_its_slot(here: Any) -> None:
    first = here.enforcer.enforce_and_wait("build", execution_id="e1", max_concurrent=1)
    with ThreadPoolExecutor(3) as pool:
        second = pool.submit(here.slots.acquire, "build", "e2", max_concurrent=1, timeout_s=20)
        eventually(lambda: waiting(here) == 1, "e2 waits")
        asked = [pool.submit(here.slots.state, "build", "e2", wait_s=20) for _ in range(2)]
        assert [one.done() for one in (second, *asked)] == [False] * 3
        first.release()
        token = second.result(10).fencing_token
        assert {(one.result(10).state, one.result(10).fencing_token) for one in asked} == {("granted", token)}

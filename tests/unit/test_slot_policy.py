"""Policies are pure: what they check, what they show, and which word of several counts."""

from typing import Any

import pytest

from eventlog.errors import InvalidInput
from eventlog.slots.policy import Policy, Rate, Scope, merged, queue_name, shown, whole_ms


def test_the_last_word_on_each_limit_counts() -> None:
    general = Policy(max_concurrent=1, rate_limit=Rate(1, 1), log_transitions=False)
    special = Policy(max_concurrent=2, quota=Rate(5, 60))
    assert merged(general, special) == Policy(2, Rate(1, 1), Rate(5, 60), log_transitions=False)
    assert merged(special, general) == Policy(1, Rate(1, 1), Rate(5, 60), log_transitions=False)
    assert merged(general, Policy(log_transitions=True)).log_transitions is True
    assert merged() == merged(Policy()) == Policy()


def test_limits_are_kept_in_whole_milliseconds() -> None:
    assert [whole_ms(seconds) for seconds in (1, 0.0014, 0.0016, 0.0001, 86_400.0)] == [1000, 1, 2, 1, 86_400_000]


@pytest.mark.parametrize(
    ("text", "scope"),
    [
        ("global", Scope("global")),
        ("pack/p.1", Scope("pack", "p.1")),
        ("action/a:b", Scope("action", "a:b")),
        ("queue/a", Scope("queue", "a")),
        ("queue/a/g", Scope("queue", "a/g")),
    ],
)
def test_scopes_are_read_as_they_are_written(text: str, scope: Scope) -> None:
    assert Scope.parse(text) == scope
    assert str(scope) == text


@pytest.mark.parametrize(
    "text", ["", "all", "pack", "pack/", "action/a/g", "queue/a/", "queue//g", "queue/a/b/c", 3, None]
)
def test_other_scopes_are_refused(text: Any) -> None:
    with pytest.raises(InvalidInput):
        Scope.parse(text)


def test_a_scope_knows_which_queues_it_cannot_bear_on() -> None:
    queues = ["a", "a/g", "b"]

    def covered(scope: str) -> list[str]:
        return [queue for queue in queues if Scope.parse(scope).covers(queue)]

    assert covered("global") == covered("pack/p") == queues
    assert covered("action/a") == ["a", "a/g"]
    assert covered("queue/a") == ["a"]
    assert covered("queue/a/g") == ["a/g"]


def test_a_policy_is_built_from_its_wire_form() -> None:
    policy = Policy.of(
        max_concurrent=3, rate_limit={"count": 1, "seconds": 2}, quota=Rate(3, 4.0), log_transitions=True
    )
    assert policy == Policy(3, Rate(1, 2.0), Rate(3, 4.0), log_transitions=True)
    assert Policy.of(**policy.to_dict()) == policy
    assert Policy.of(max_concurrent=None) == Policy()


@pytest.mark.parametrize(
    ("field", "given"),
    [
        ("colour", {"colour": 1}),
        ("max_concurrent", {"max_concurrent": 0}),
        ("rate_limit", {"rate_limit": 3}),
        ("rate_limit", {"rate_limit": {"count": 1}}),
        ("rate_limit.count", {"rate_limit": {"count": 0, "seconds": 1}}),
        ("quota.seconds", {"quota": {"count": 1, "seconds": float("inf")}}),
        ("queue_timeout_seconds", {"queue_timeout_seconds": 0}),
        ("log_transitions", {"log_transitions": 1}),
    ],
)
def test_a_wrong_limit_is_named(field: str, given: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput) as refusal:
        Policy.of(**given)
    assert refusal.value.field == field


def test_what_is_wrong_is_shown_in_short_whatever_it_is() -> None:
    assert shown("a b") == "'a b'"
    assert len(shown("x" * 10_000)) <= 81
    assert shown(10**5000) == "a huge number"


def test_a_queue_is_named_by_its_action_and_group() -> None:
    assert queue_name("a") == "a"
    assert queue_name("a", "g") == "a/g"

"""Slots are given back when executions complete: all of them, once, whoever says so, and nothing else."""

from typing import Any

import pytest

from eventlog.enforcement.completed import GROUP
from tests.support.redis_process import eventually


def states(here: Any, *executions: str, action: str = "build", group_key: str | None = None) -> list[str]:
    return [here.slots.state(action, execution, group_key=group_key).state for execution in executions]


def complete(here: Any, execution_id: object, **more: object) -> Any:
    return here.log.append("execution.completed", {"execution_id": execution_id, **more})


def settled(listener: Any, **counts: int) -> None:
    def as_expected() -> bool:
        stats = listener.stats()
        return all(getattr(stats, name) == count for name, count in counts.items())

    try:
        eventually(as_expected, f"{counts}")
    except AssertionError as error:
        raise AssertionError(f"{error}: {listener.stats()}") from error


@pytest.mark.parametrize("more", [{}, {"action": "build"}, {"status": "failed"}, {"status": 7, "action": "build"}])
def test_the_slot_of_a_completed_execution_goes_to_the_next(here: Any, more: dict[str, Any]) -> None:
    with here.listener() as listener:
        for execution in ("e1", "e2"):
            here.slots.enqueue("build", execution, max_concurrent=1)
        complete(here, "e1", **more)
        eventually(lambda: states(here, "e1", "e2") == ["none", "granted"], "e2 is granted")
        settled(listener, seen=1, released=1, unknown=0, malformed=0, missed=0)
    released = [event for event in here.log.query() if event.kind == "slot.released"]
    assert [event.payload["execution_id"] for event in released] == ["e1"]


def test_every_slot_and_place_of_the_execution_is_given_back_and_nobody_elses(here: Any) -> None:
    here.slots.enqueue("a", "e1", max_concurrent=1)
    here.slots.enqueue("b", "other", max_concurrent=1)
    here.slots.enqueue("b", "e1", max_concurrent=1)
    here.slots.enqueue("c", "e1", max_concurrent=1, group_key="g")
    with here.listener() as listener:
        complete(here, "e1")
        settled(listener, seen=1, released=2, cancelled=1)
    assert [stats.active_count for stats in here.slots.queues()] == [0, 1, 0]
    assert [stats.queue_length for stats in here.slots.queues()] == [0, 0, 0]


def test_action_and_group_say_which_slot_is_meant(here: Any) -> None:
    for action, group in (("a", None), ("a", "g"), ("a", "h"), ("b", None)):
        here.slots.enqueue(action, "e1", group_key=group)
    with here.listener() as listener:
        complete(here, "e1", action="a", group_key="g")
        settled(listener, released=1)
        assert states(here, "e1", action="a", group_key="g") == ["none"]
        complete(here, "e1", action="a", group="h")
        settled(listener, released=2)
        assert states(here, "e1", action="a") == states(here, "e1", action="b") == ["granted"]
        complete(here, "e1", action="a")
        settled(listener, released=3)
    assert states(here, "e1", action="b") == ["granted"]


def test_a_fencing_token_says_which_acquisition_is_meant(here: Any) -> None:
    token = here.slots.enqueue("build", "e1").fencing_token
    with here.listener() as listener:
        complete(here, "e1", action="build", fencing_token=token - 1)
        settled(listener, seen=1, released=0, unknown=1)
        assert states(here, "e1") == ["granted"]
        complete(here, "e1", fencing_token=token - 1)
        settled(listener, seen=2, released=0, unknown=2)
        assert states(here, "e1") == ["granted"]
        complete(here, "e1", action="build", fencing_token=token)
        settled(listener, seen=3, released=1)


def test_a_completion_of_an_execution_that_still_waits_takes_it_out_of_the_line(here: Any) -> None:
    for execution in ("e1", "e2", "e3"):
        here.slots.enqueue("build", execution, max_concurrent=1)
    with here.listener() as listener:
        complete(here, "e2")
        settled(listener, seen=1, cancelled=1, released=0)
        assert states(here, "e1", "e2", "e3") == ["granted", "none", "queued"]


def test_what_the_execution_acquired_after_the_event_stays(here: Any) -> None:
    here.slots.enqueue("build", "e1", max_concurrent=1)
    late = complete(here, "e1")
    here.slots.release("build", "e1")
    eventually(lambda: here.slots.stats("build").time > late.timestamp + 0.002, "time passes")
    again = here.slots.enqueue("build", "e1", max_concurrent=1)
    with here.listener() as listener:
        settled(listener, seen=1, unknown=1, released=0)
        assert here.slots.state("build", "e1").fencing_token == again.fencing_token


def test_a_second_event_for_the_same_completion_does_nothing(here: Any) -> None:
    for execution in ("e1", "e2", "e3"):
        here.slots.enqueue("build", execution, max_concurrent=1)
    with here.listener() as listener:
        for _ in range(3):
            complete(here, "e1")
        settled(listener, seen=3, released=1, unknown=2)
        assert states(here, "e1", "e2", "e3") == ["none", "granted", "queued"]


@pytest.mark.parametrize(
    "payload",
    [
        {},
        {"execution": "e1"},
        {"execution_id": None},
        {"execution_id": 7},
        {"execution_id": ["e1"]},
        {"execution_id": "no such name: é"},
        {"execution_id": ""},
        {"execution_id": "e1", "action": 7},
        {"execution_id": "e1", "action": "a/b"},
        {"execution_id": "e1", "action": "build", "group_key": {}},
        {"execution_id": "e1", "action": "build", "fencing_token": "12"},
    ],
    ids=str,
)
def test_an_event_that_names_no_execution_is_logged_and_skipped(
    here: Any, payload: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    here.slots.enqueue("build", "e1")
    with here.listener() as listener:
        odd = here.log.append("execution.completed", payload)
        settled(listener, seen=1, malformed=1, released=0)
        complete(here, "e1")
        settled(listener, seen=2, malformed=1, released=1)
    assert f"event {odd.id} is skipped" in caplog.text


def test_an_unknown_execution_is_logged_and_skipped(here: Any, caplog: pytest.LogCaptureFixture) -> None:
    here.slots.enqueue("build", "e1")
    with caplog.at_level("INFO", logger="eventlog"), here.listener() as listener:
        complete(here, "nobody", action="build")
        complete(here, "nobody.at.all")
        settled(listener, seen=2, unknown=2, malformed=0)
    assert "execution nobody holds nothing" in caplog.text
    assert states(here, "e1") == ["granted"]


def test_completions_from_before_the_listener_began_count_too(here: Any) -> None:
    here.slots.enqueue("build", "e1")
    complete(here, "e1")
    with here.listener() as listener:
        settled(listener, released=1)


def test_other_events_are_passed_over(here: Any) -> None:
    with here.listener() as listener:
        here.log.append_many([{"kind": "tool.invoked", "payload": {"execution_id": "e1"}}] * 1000)
        here.slots.enqueue("build", "e1")
        complete(here, "e1")
        here.log.append_many([{"kind": "execution.completed.not"}] * 1000)
        settled(listener, seen=1, released=1, malformed=0, missed=0, lag=0)


def test_many_completions_at_once_are_all_acted_upon(here: Any) -> None:
    with here.listener() as listener:
        for n in range(150):
            here.slots.enqueue("build", f"e{n}")
        here.log.append_many({"kind": "execution.completed", "payload": {"execution_id": f"e{n}"}} for n in range(150))
        settled(listener, seen=150, released=150, unknown=0)
    assert here.slots.stats("build").active_count == 0


def test_a_cleared_log_does_not_stop_it(here: Any) -> None:
    with here.listener() as listener:
        for execution in ("e1", "e2"):
            here.slots.enqueue("build", execution)
        complete(here, "e1")
        settled(listener, released=1)
        here.log.clear()
        complete(here, "e2")
        settled(listener, released=2, seen=2)


def test_it_may_be_started_and_stopped_again_and_stops_soon(here: Any) -> None:
    listener = here.listener(group=GROUP)
    for n in range(3):
        here.slots.enqueue("build", f"e{n}")
        complete(here, f"e{n}")
        listener.start()
        listener.start()
        settled(listener, released=n + 1, seen=n + 1)
        listener.stop()
        listener.stop()
    here.slots.enqueue("build", "e9")
    complete(here, "e9")
    assert states(here, "e9") == ["granted"]


def test_two_listeners_share_the_work(here: Any) -> None:
    with here.listener() as one, here.listener() as other:
        for n in range(40):
            here.slots.enqueue("build", f"e{n}", max_concurrent=40)
            complete(here, f"e{n}")
        eventually(lambda: here.slots.stats("build").active_count == 0, "all are released")
        eventually(lambda: one.stats().released + other.stats().released == 40, "each was released once")
    released = [event.payload["execution_id"] for event in here.log.query() if event.kind == "slot.released"]
    assert sorted(released) == sorted(f"e{n}" for n in range(40))


def test_groups_are_independent_of_each_other(here: Any) -> None:
    with here.listener(group="mine") as mine, here.listener(group="yours") as yours:
        here.slots.enqueue("build", "e1")
        complete(here, "e1")
        settled(mine, seen=1)
        settled(yours, seen=1)
        assert mine.stats().released + yours.stats().released == 1

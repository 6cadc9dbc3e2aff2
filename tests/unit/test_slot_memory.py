"""What slots in memory have for themselves: a clock, and an end of what nobody uses."""

import threading
from typing import Any

from eventlog.factory import create_slot_queue
from eventlog.slots.blocking import SlotQueue

WEEK_S = 7 * 86_400.0


class Clock:
    """Stands until it is moved."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


def opened() -> tuple[SlotQueue, Clock]:
    clock = Clock()
    return create_slot_queue("memory", clock=clock), clock


def test_leases_and_places_go_by_the_given_clock() -> None:
    slots, clock = opened()
    granted = slots.enqueue("build", "e1", max_concurrent=1, lease_s=100)
    assert (granted.time, granted.lease_expires_at) == (clock.now, clock.now + 100)
    assert granted.fencing_token == round(clock.now * 1_000_000)
    queued = slots.enqueue("build", "e2", max_concurrent=1, queue_timeout_s=1000)
    assert queued.queue_expires_at == clock.now + 1000
    clock.now += 99.999
    assert slots.state("build", "e1").state == "granted"
    clock.now += 0.001
    assert [slots.state("build", name).state for name in ("e1", "e2")] == ["none", "granted"]
    slots.close()


def test_what_nobody_uses_for_a_week_is_forgotten() -> None:
    slots, clock = opened()
    before = slots.enqueue("idle", "e1", max_concurrent=1)
    slots.enqueue("used", "e1")
    clock.now += WEEK_S / 2
    slots.enqueue("used", "e2")
    clock.now += WEEK_S / 2
    assert [stats.action for stats in slots.queues()] == ["used"]
    assert slots.stats("idle").total_enqueued == 0
    again = slots.enqueue("idle", "e1")
    assert again.fencing_token is not None
    assert before.fencing_token is not None
    assert again.fencing_token > before.fencing_token
    assert slots.stats("idle").max_concurrent is None
    slots.close()


def test_a_clock_that_runs_back_gives_no_token_twice() -> None:
    slots, clock = opened()
    tokens = []
    for step_s in (0, 5, -10, -100, 0, 200):
        clock.now += step_s
        tokens.append(slots.enqueue("build", "e1").fencing_token)
        slots.release("build", "e1")
    assert tokens == sorted(set(tokens))
    slots.close()


def test_threads_that_release_and_wait_at_once_lose_nothing() -> None:
    slots = create_slot_queue("memory")
    errors: list[Any] = []

    def work(name: str) -> None:
        try:
            for turn in range(50):
                with slots.acquire("build", f"{name}{turn}", max_concurrent=1, timeout_s=60):
                    pass
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(name,)) for name in "abcdef"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    stats = slots.stats("build")
    assert errors == []
    assert (stats.total_enqueued, stats.total_completed, stats.total_expired) == (300, 300, 0)
    slots.close()

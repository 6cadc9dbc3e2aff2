"""Client processes killed at any instant: a batch is in the log as a whole or not at all."""

import random
import time
from collections import Counter
from contextlib import ExitStack

import pytest

from tests.faults.opening import open_log
from tests.faults.workers import Worker
from tests.support.redis_process import RedisProcess

pytestmark = pytest.mark.chaos

SIZE = 500


@pytest.mark.timeout(240)
def test_appenders_killed_at_random_leave_whole_batches_only(own_server: RedisProcess) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    chosen = random.Random(seed)
    workers: list[Worker] = []
    for round_ in range(3):
        with ExitStack() as stack:
            started = [
                stack.enter_context(
                    Worker(style="batches", url=own_server.url, name=f"w{round_}.{i}", count=SIZE * 400, size=SIZE)
                )
                for i in range(4)
            ]
            for worker in started:
                worker.until("acked")
            for worker in started:
                time.sleep(chosen.random() * 0.03)
                worker.kill()
            workers += started
    with open_log(own_server.url) as log:
        events = log.query(since=0)
        assert log.verify().clean
    assert [event.offset for event in events] == list(range(1, len(events) + 1))
    counts = Counter((event.kind, event.payload["n"]) for event in events)
    assert set(counts.values()) == {1}
    names = [event.kind for event in events]
    for at in range(0, len(names), SIZE):
        assert len(set(names[at : at + SIZE])) == 1, "batches are contiguous and whole"
    place = {(event.kind, event.payload["n"]): event.offset for event in events}
    for worker in workers:
        for offset, n in worker.of("acked"):
            assert place[worker.given["name"], n] == offset

"""Appends to many lanes of one run, with others that do the same. Run as `python -m tests.contract.lane_worker`.

Arguments: the URL of a Redis, a key prefix, a name. It says `ready`, and begins with a line on its standard input.
"""

import random
import sys
from typing import Any, Protocol

from eventlog import create_event_log

LANES = [f"lane-{n}" for n in range(20)]
WORKERS = 4
EACH = 125  # events a worker appends to a lane, so a lane has 500
RUN = "r1"


class Appends(Protocol):
    """The part of a log that is needed."""

    def append(self, kind: str, payload: dict[str, Any], *, run_id: str, lane_id: str, source: str) -> object: ...

    def append_many(self, events: list[dict[str, Any]]) -> object: ...


def fill(log: Appends, who: str, each: int = EACH) -> None:
    """Append `each` events to every lane: alone, and in batches that mix lanes."""
    chance = random.Random(who)
    left = {lane: iter(range(each)) for lane in LANES}
    while left:
        lane = chance.choice(list(left))
        n = next(left[lane], None)
        if n is None:
            del left[lane]
            continue
        if chance.random() < 0.2:
            log.append("step", {"n": n}, run_id=RUN, lane_id=lane, source=who)
            continue
        batch = [_step(lane, n, who)]
        for other in chance.sample(list(left), min(8, len(left))):
            n = next(left[other], None)
            if n is not None:
                batch.append(_step(other, n, who))
        log.append_many(batch)


def _step(lane: str, n: int, who: str) -> dict[str, Any]:
    return {"kind": "step", "payload": {"n": n}, "run_id": RUN, "lane_id": lane, "source": who}


def main() -> None:
    url, key_prefix, who = sys.argv[1:]
    with create_event_log("redis", url=url, workspace="w", key_prefix=key_prefix, max_entries=20_000) as log:
        log.info()
        print("ready", flush=True)
        sys.stdin.readline()
        fill(log, who)


if __name__ == "__main__":
    main()

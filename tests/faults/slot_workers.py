"""Client processes that hold and wait for slots, and say on their standard output what became of them and when.

Run as `python -m tests.faults.slot_workers '<json arguments>'`. Times are of the machine's monotonic clock, which all
processes share. Lines: `["asking", t]`, `["granted", t, fence]`, `["lost", t, valid, expires_in_s]` (says the handle),
`["notice", fence]` (`on_lost` was called), `["LeaseLost", t, text]` and the like for errors, `["done"]` at the end;
of those that compete `["at", fence, t, valid, accepted, still_valid]` for each piece of work, `["told", fence]` for a
lease that was lost; of those that come often `["held", fence, since, until, valid]`.
"""

import itertools
import json
import random
import signal
import sys
import threading
import time
from types import FrameType
from typing import Any

import redis

from eventlog import EventLogError
from eventlog.errors import LeaseLost
from eventlog.model.retention import Retention
from eventlog.slots.blocking import DirectSlots, Slot, SlotQueue
from eventlog.slots.redis import RedisSlots
from eventlog.store.keys import WorkspaceKeys
from eventlog.store.links import SyncLink
from tests.faults.workers import Worker, say

ROOMY = Retention.of(3600, 1_000_000, 600)


def open_slots(url: str, deadline_s: float = 5.0) -> SlotQueue:
    """The slot queues of the workspace whose log `open_log` opens."""
    backend = RedisSlots(WorkspaceKeys.of("w1"), ROOMY, deadline_s)
    link = SyncLink(url)
    return DirectSlots(
        backend, workspace="w1", link=link, connect=lambda size: SyncLink(url, size), on_close=link.close
    )


def hold(slots: SlotQueue, given: dict[str, Any]) -> None:
    """Ask for a slot, and hold it for `hold_s` or until it is lost."""
    say("asking", time.monotonic())
    with slots.acquire(
        given["action"],
        given["execution_id"],
        max_concurrent=given["limit"],
        lease_s=given["lease_s"],
        timeout_s=given.get("timeout_s"),
        on_lost=lambda slot: say("notice", slot.fencing_token),
    ) as slot:
        say("granted", time.monotonic(), slot.fencing_token)
        _work(slot, given.get("hold_s", 120.0))


def _work(slot: Slot, hold_s: float) -> None:
    until = time.monotonic() + hold_s
    while time.monotonic() < until:
        time.sleep(0.005)
        if slot.lost:
            say("lost", time.monotonic(), slot.valid, slot.expires_in_s)
            return


def keep_one_after_the_other(slots: SlotQueue, given: dict[str, Any]) -> None:
    """Acquire and release `count` times; the independent witness of each stay is what is said here."""
    for n in range(given["count"]):
        with slots.acquire(
            given["action"], f"{given['execution_id']}.{n}", max_concurrent=given["limit"], lease_s=given["lease_s"]
        ) as slot:
            since = time.monotonic()
            time.sleep(given.get("hold_s", 0.0))
            say("held", slot.fencing_token, since, time.monotonic(), slot.valid)


REGISTER, ENOUGH = "register", "enough"
_ACCEPT = """
if tonumber(redis.call('GET', KEYS[1]) or '0') > tonumber(ARGV[1]) then return 0 end
redis.call('SET', KEYS[1], ARGV[1])
return 1
"""


def compete(slots: SlotQueue, given: dict[str, Any]) -> None:
    """Acquire, work and release until there is `ENOUGH`; the work is on a register that refuses outdated tokens.

    It is careless: it works on even where the slot is not valid any more, so that it is for the register to refuse.
    Where several may work at once no register can know which token is outdated, and there is none.
    """
    chosen = random.Random(given["seed"])
    with redis.Redis.from_url(given["url"]) as client:
        say("competing")
        for n in itertools.count():
            if client.exists(ENOUGH):
                return
            try:
                with slots.acquire(
                    "build", f"{given['execution_id']}.{n}", max_concurrent=given["limit"], lease_s=given["lease_s"]
                ) as slot:
                    for _ in range(chosen.randint(3, 30)):
                        at = time.monotonic()
                        valid = slot.valid
                        accepted = given["limit"] > 1 or client.eval(_ACCEPT, 1, REGISTER, slot.fencing_token) == 1
                        say("at", slot.fencing_token, at, valid, accepted, slot.valid)
                        time.sleep(0.003)
            except LeaseLost:
                say("told", slot.fencing_token)


def end_holding(slots: SlotQueue, given: dict[str, Any]) -> None:
    """Acquire, start others waiting, and end without giving anything back."""
    slot = slots.acquire(given["action"], given["execution_id"], max_concurrent=1, lease_s=given["lease_s"])
    threading.Thread(
        target=lambda: slots.acquire(given["action"], "behind", lease_s=given["lease_s"]), daemon=True
    ).start()
    while slots.stats(given["action"]).queue_length == 0:
        time.sleep(0.01)
    say("granted", time.monotonic(), slot.fencing_token)


def _raise_exit(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


def main(given: dict[str, Any]) -> None:
    if given.get("exits_on_sigterm"):
        signal.signal(signal.SIGTERM, _raise_exit)
    slots = open_slots(given["url"], given.get("deadline_s", 5.0))
    style = {"hold": hold, "often": keep_one_after_the_other, "end_holding": end_holding, "compete": compete}[
        given["style"]
    ]
    try:
        style(slots, given)
    except EventLogError as error:
        say(type(error).__name__, time.monotonic(), str(error))
    if given["style"] != "end_holding":
        slots.close()
    say("done")


class SlotWorker(Worker):
    """A process that holds or waits for slots. Unless told otherwise it holds one of `build`, limit 1, for long."""

    module = "tests.faults.slot_workers"

    def __init__(self, url: str, execution_id: str, lease_s: float = 1.0, **given: Any) -> None:
        usual = {"style": "hold", "action": "build", "limit": 1}
        super().__init__(**{**usual, "url": url, "execution_id": execution_id, "lease_s": lease_s, **given})

    def granted(self, patience_s: float = 30.0) -> tuple[float, int]:
        """When it had its slot, and the token."""
        _, at, fence = self.until("granted", patience_s)
        return at, fence

    def ends_with(self, *kinds: str) -> None:
        """It ended by itself, and the last it said was this."""
        self.finish()
        assert tuple(line[0] for line in self.lines[-len(kinds) - 1 : -1]) == kinds, self.lines


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))

"""Client processes that hold and wait for slots, and say on their standard output what became of them and when.

Run as `python -m tests.faults.slot_workers '<json arguments>'`. Times are of the machine's monotonic clock, which all
processes share. Lines: `["asking", t]`, `["granted", t, fence]`, `["lost", t]` (the handle says so), `["notice"]` (`on_lost` was
called), `["LeaseLost", t]` and the like for errors, `["done"]` at the end.
"""

import json
import signal
import sys
import threading
import time
from types import FrameType
from typing import Any

from eventlog import EventLogError
from eventlog.retention import Retention
from eventlog.slots.queue import Slot, SlotQueue
from eventlog.slots.redis import RedisSlots
from eventlog.store.keys import WorkspaceKeys
from eventlog.store.links import SyncLink
from tests.faults.workers import Worker, say

ROOMY = Retention.of(3600, 1_000_000, 600)


def open_slots(url: str, deadline_s: float = 5.0) -> SlotQueue:
    """The slot queues of the workspace whose log `open_log` opens."""
    backend = RedisSlots(WorkspaceKeys.of("w1"), ROOMY, deadline_s)
    link = SyncLink(url)
    return SlotQueue(
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
    style = {"hold": hold, "often": keep_one_after_the_other, "end_holding": end_holding}[given["style"]]
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

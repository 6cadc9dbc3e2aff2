"""A signal may raise at any line of a thread that acquires, holds or gives back: nothing is left behind."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from types import FrameType

import pytest

from eventlog import slots as package
from eventlog.slots.blocking import SlotQueue
from tests.faults.slot_workers import open_slots
from tests.support.interrupts import at_each_line
from tests.support.redis_process import RedisProcess, eventually

HOME = str(Path(package.__file__).parent)


# The few instructions between a call that has returned and the block that it is for, and within what cleans up after
# an interrupt, cannot be guarded: there a slot stays held until its queue is closed.
UNGUARDED = {"__enter__", "__exit__", "release", "_releasing", "abandon", "lost", "is_ours", "_abandon", "owe"}


def is_watched(frame: FrameType) -> bool:
    return frame.f_code.co_filename.startswith(HOME) and _guarded(frame)


def _guarded(frame: FrameType) -> bool:
    code = frame.f_code
    if code.co_name == "<lambda>":
        return frame.f_back is None or _guarded(frame.f_back)
    return code.co_name not in UNGUARDED


def is_empty(slots: SlotQueue) -> bool:
    stats = slots.stats("build")
    return (stats.active_count, stats.queue_length) == (0, 0)


def acquires(slots: SlotQueue) -> None:
    with slots.acquire("build", "interrupted", max_concurrent=1, lease_s=600):
        pass


def tries(slots: SlotQueue) -> None:
    slot = slots.try_acquire("build", "interrupted", max_concurrent=1, lease_s=600)
    if slot is not None:
        slot.release()


@contextmanager
def nobody_holds(others: SlotQueue) -> Iterator[None]:
    yield


@contextmanager
def another_holds(others: SlotQueue) -> Iterator[None]:
    """Until somebody waits behind it."""
    holder = others.acquire("build", "holder", max_concurrent=1, lease_s=600)

    def hand_over() -> None:
        deadline = time.monotonic() + 0.1
        while others.stats("build").queue_length == 0 and time.monotonic() < deadline:
            time.sleep(0.001)
        holder.release()

    thread = threading.Thread(target=hand_over)
    thread.start()
    try:
        yield
    finally:
        thread.join()


def assert_is_renewed(slots: SlotQueue) -> None:
    with slots.acquire("build", "next", max_concurrent=1, lease_s=0.6) as slot:
        first = slot.valid_until
        eventually(lambda: slot.valid_until > first, "the lease is renewed")


@pytest.mark.parametrize(
    ("work", "others"),
    [(acquires, nobody_holds), (tries, nobody_holds), (acquires, another_holds)],
    ids=["acquires", "tries", "waits"],
)
def test_an_interrupt_at_any_line_leaves_nothing_behind(
    own_server: RedisProcess,
    work: Callable[[SlotQueue], None],
    others: Callable[[SlotQueue], AbstractContextManager[None]],
) -> None:
    with open_slots(own_server.url) as sees:
        for interrupt in at_each_line(is_watched, at_least=50):
            with open_slots(own_server.url) as slots:
                with others(sees):
                    interrupt.during(lambda slots=slots: work(slots))
                eventually(lambda: is_empty(sees), f"nothing is left of an interrupt at line {interrupt.line}")
                eventually(
                    lambda slots=slots: slots.keeper._schedule.is_empty, f"nothing is kept after line {interrupt.line}"
                )
                thread = slots.keeper.attendant.thread
                if thread is not None and not thread.is_alive():
                    assert_is_renewed(slots)

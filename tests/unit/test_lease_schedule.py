"""Which leases are renewed next, and what is known of renewals that are under way."""

from collections.abc import Iterator

import pytest

from eventlog import create_slot_queue
from eventlog.slots.acts import Answer, Granted
from eventlog.slots.blocking import Slot
from eventlog.slots.lease_schedule import LeaseSchedule


@pytest.fixture
def slot() -> Iterator[Slot]:
    with create_slot_queue("memory") as slots:
        slot = slots.acquire("build", max_concurrent=1)
        slots.keeper.drop(slot)
        slot.renew_at = 0.0
        yield slot


def test_what_is_given_back_while_its_renewal_is_under_way_is_buried(slot: Slot) -> None:
    schedule = LeaseSchedule()
    schedule.keep(slot)
    acts, _ = schedule.due()
    assert acts == [slot.renewal()]
    assert slot.release_act().tomb_ms == 0
    schedule.drop(slot)
    assert slot.release_act().tomb_ms == 600_000, "a renewal that comes late finds that it is over"


def test_what_is_given_back_when_its_renewal_was_answered_leaves_nothing_behind(slot: Slot) -> None:
    schedule = LeaseSchedule()
    schedule.keep(slot)
    acts, _ = schedule.due()
    answer: Answer = Granted(slot.fencing_token, 30_000, 30_000, slot.acquisition.nonce, "same")
    assert schedule.answered(acts, [answer]) == []
    schedule.drop(slot)
    assert slot.release_act().tomb_ms == 0
    assert schedule.due()[0] == []

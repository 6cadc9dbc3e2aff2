"""The races of slots, one by one, straight on the scripts: what comes first and what comes late is in the test's hands.

Time is Redis' own here. Where it matters, each answer says when it was given, and what must be so at that instant.
"""

from collections.abc import Iterator

import pytest

from eventlog.plan.drive import run
from eventlog.slots.acts import (
    ANY,
    Beat,
    Cancel,
    Cancelled,
    Gone,
    Granted,
    Held,
    Poke,
    Queued,
    Release,
    Released,
    Renew,
    Ring,
    Touch,
    fence_key,
)
from eventlog.slots.policy import Policy, Rate, Scope
from tests.slots.rig import LONG_MS, Rig, acquire
from tests.support.redis_process import RedisProcess, eventually

UNREAD_MS, CLAIM_MS, SILENCE_MS = 500, 2000, 3000


@pytest.fixture
def rig(redis_server: RedisProcess, key_prefix: str) -> Iterator[Rig]:
    rig = Rig(redis_server, key_prefix)
    yield rig
    rig.close()


def keys_of(rig: Rig) -> list[bytes]:
    pattern = rig.keys.log.replace("{", "[{]").removesuffix("log") + "*"
    return list(rig.client.scan_iter(match=pattern, count=10_000))


def lose_data(rig: Rig) -> None:
    """As an empty restart does to this workspace."""
    rig.client.delete(*keys_of(rig))


def join(rig: Rig, *executions: str, attended: bool = False, limit: int = 1) -> list[Queued]:
    """They take places in the line of "q"; attended ones have a bell by the name of their nonce."""
    places = []
    for execution in executions:
        bell = f"n{execution}" if attended else "-"
        place = rig.one(acquire("q", execution, max_concurrent=limit, attended=attended, bell=bell))
        assert isinstance(place, Queued)
        places.append(place)
    return places


def gone_at(rig: Rig, execution: str, since_ms: int, after_ms: int) -> None:
    """`execution` holds a slot until exactly `after_ms` after `since_ms`, however often somebody looks."""
    late = False
    while not late:
        performed = rig.perform(Poke("q"))
        late = performed.now_ms >= since_ms + after_ms
        assert (execution in rig.standing("q")[0]) == (not late), f"{performed.now_ms - since_ms} ms after the grant"
        rig.wait_until(min(performed.now_ms + after_ms // 4, since_ms + after_ms))


def reasons(rig: Rig, kind: str) -> list[tuple[str, object]]:
    return [(e.payload["execution_id"], e.payload.get("reason")) for e in rig.told() if e.kind == kind]


# A release against a waiter's time-out


def test_a_release_before_the_time_out_wins_and_the_slot_is_kept(rig: Rig) -> None:
    rig.granted(acquire("q", "e1", max_concurrent=1))
    join(rig, "e2", attended=True)
    assert rig.one(Release("q", "e1", "ne1")) == Released()
    answer = rig.one(Cancel("q", "e2", "ne2", how="timed_out"))
    assert isinstance(answer, Granted)
    assert rig.standing("q") == (["e2"], [])
    assert isinstance(rig.one(Touch("q", "e2", "ne2")), Granted)


def test_a_time_out_before_the_release_wins_and_the_next_gets_the_slot(rig: Rig) -> None:
    rig.granted(acquire("q", "e1", max_concurrent=1))
    join(rig, "e2", "e3")
    assert rig.one(Cancel("q", "e2", "ne2", how="timed_out")) == Cancelled()
    assert rig.one(Release("q", "e1", "ne1")) == Released()
    assert rig.standing("q") == (["e3"], [])
    assert [e.kind for e in rig.told()][-3:] == ["slot.timed_out", "slot.released", "slot.granted"]


# A bell


def test_a_slot_changes_hands_inside_the_release_and_the_bell_says_so(rig: Rig) -> None:
    first = rig.granted(acquire("q", "e1", max_concurrent=1))
    join(rig, "e2", "e3", attended=True)
    rig.one(Release("q", "e1", "ne1"))
    assert rig.standing("q") == (["e2"], ["e3"])
    (ring,) = rig.listen("ne2")
    assert ring.nonce == "ne2"
    assert ring.fence > first.fence
    assert ring.valid_ms == CLAIM_MS
    assert rig.rung("ne3") == []


def test_a_grant_that_lies_unread_goes_to_the_next_after_half_a_second(rig: Rig) -> None:
    rig.granted(acquire("q", "e1", max_concurrent=1))
    join(rig, "e2", attended=True)
    join(rig, "e3")
    handed = rig.perform(Release("q", "e1", "ne1")).now_ms
    gone_at(rig, "e2", handed, UNREAD_MS)
    assert rig.standing("q") == (["e3"], [])
    assert reasons(rig, "slot.expired") == [("e2", "unread")]
    assert rig.rung("ne2") == [], "who comes to the bell now must not believe it"
    assert isinstance(rig.one(Touch("q", "e2", "ne2")), Gone)


def test_a_grant_that_was_read_and_not_confirmed_goes_to_the_next_after_two_seconds(rig: Rig) -> None:
    rig.granted(acquire("q", "e1", max_concurrent=1))
    join(rig, "e2", attended=True)
    join(rig, "e3")
    handed = rig.perform(Release("q", "e1", "ne1")).now_ms
    assert len(rig.listen("ne2")) == 1
    gone_at(rig, "e2", handed, CLAIM_MS)
    assert rig.standing("q") == (["e3"], [])
    assert reasons(rig, "slot.expired") == [("e2", "unconfirmed")]
    assert rig.one(Renew("q", "e2", "ne2")) == Gone()


def test_a_grant_that_is_confirmed_has_its_whole_lease_from_then_on(rig: Rig) -> None:
    rig.granted(acquire("q", "e1", max_concurrent=1))
    join(rig, "e2", attended=True)
    rig.one(Release("q", "e1", "ne1"))
    (ring,) = rig.listen("ne2")
    confirmed = rig.perform(Renew("q", "e2", "ne2"))
    assert confirmed.answers == [Granted(ring.fence, LONG_MS, LONG_MS, "ne2", "same", 1)]
    (stored,) = rig.stored("q")
    assert stored.held["e2"] == confirmed.now_ms + LONG_MS


def test_a_touch_collects_a_grant_whose_bell_was_lost(rig: Rig) -> None:
    rig.granted(acquire("q", "e1", max_concurrent=1))
    join(rig, "e2", attended=True)
    rig.one(Release("q", "e1", "ne1"))
    rig.client.delete(rig.keys.bell + "ne2")
    answer = rig.one(Touch("q", "e2", "ne2"))
    assert isinstance(answer, Granted)
    assert answer.remaining_ms == LONG_MS


def test_a_touch_that_collects_a_grant_silences_its_bell(rig: Rig) -> None:
    rig.granted(acquire("q", "e1", max_concurrent=1))
    join(rig, "e2", attended=True)
    rig.one(Release("q", "e1", "ne1"))
    assert len(rig.rung("ne2")) == 1
    rig.one(Touch("q", "e2", "ne2"))
    assert rig.rung("ne2") == []


def test_who_reads_an_inbox_has_the_grant_of_its_own_call_in_the_answer(rig: Rig) -> None:
    rig.granted(acquire("q", "e1", max_concurrent=1))
    rig.one(acquire("q", "e2", bell="inbox", attended=True))
    performed = rig.perform(Release("q", "e1", "ne1"), inbox="inbox")
    (stored,) = rig.stored("q")
    assert list(performed.rings) == [Ring("ne2", int(stored.book["e2"][-1]), CLAIM_MS)]
    assert rig.rung("inbox") == []
    assert stored.held["e2"] == performed.now_ms + CLAIM_MS, "it counts as read"


def test_a_copy_of_a_release_hands_nothing_on_a_second_time(rig: Rig) -> None:
    rig.granted(acquire("q", "e1", max_concurrent=1))
    join(rig, "e2", "e3")
    rig.one(Release("q", "e1", "ne1"))
    rig.again(rig.sent[-1])
    assert rig.standing("q") == (["e2"], ["e3"])
    assert len(reasons(rig, "slot.released")) == 1


# Calls that come late


def test_a_copy_of_an_acquire_that_comes_after_its_cancellation_is_refused(rig: Rig) -> None:
    rig.granted(acquire("q", "e1", max_concurrent=1))
    join(rig, "e2")
    late = rig.sent[-1]
    assert rig.one(Cancel("q", "e2", "ne2", tomb_ms=LONG_MS)) == Cancelled()
    assert rig.again(late)[-1] == [b"cancelled"]
    assert rig.standing("q") == (["e1"], [])


def test_an_acquire_that_comes_after_the_cancellation_that_did_not_find_it_is_refused(rig: Rig) -> None:
    assert rig.one(Cancel("q", "e1", "ne1", tomb_ms=LONG_MS)) == Gone()
    assert rig.one(acquire("q", "e1", max_concurrent=1)) == Cancelled()
    assert rig.one(Release("q", "e2", "ne2", tomb_ms=LONG_MS)) == Gone()
    assert rig.one(acquire("q", "e2", max_concurrent=1)) == Cancelled()
    assert rig.standing("q") == ([], [])


def test_who_is_taken_out_of_the_line_by_another_is_told_and_finds_no_way_back(rig: Rig) -> None:
    rig.granted(acquire("q", "e1", max_concurrent=1))
    (place,) = join(rig, "e2", attended=True)
    assert rig.one(Cancel("q", "e2", ANY)) == Cancelled()
    assert rig.listen("ne2") == [Ring("ne2", 0, 0)]
    assert rig.one(acquire("q", "e2", attended=True, bell="ne2", ticket=place.ticket)) == Cancelled()


@pytest.mark.parametrize("how", ["nonce", "fence"])
def test_a_stale_release_does_nothing_to_a_newer_acquisition(rig: Rig, how: str) -> None:
    old = rig.granted(acquire("q", "e1", "old", max_concurrent=1))
    key = "old" if how == "nonce" else fence_key(old.fence)
    assert rig.one(Release("q", "e1", key)) == Released()
    new = rig.granted(acquire("q", "e1", "new", max_concurrent=1))
    assert new.fence > old.fence
    assert rig.one(Release("q", "e1", key)) == Gone()
    assert rig.one(Renew("q", "e1", key)) == Gone()
    assert rig.one(Cancel("q", "e1", key)) == Gone()
    assert rig.standing("q") == (["e1"], [])


def test_a_release_that_was_meant_for_an_earlier_time_spares_what_came_since(rig: Rig) -> None:
    performed = rig.perform(acquire("q", "e1", max_concurrent=1))
    assert rig.one(Release("q", "e1", ANY, not_after_ms=performed.now_ms - 1)) == Gone()
    assert rig.one(Release("q", "e1", ANY, not_after_ms=performed.now_ms)) == Released()


def test_a_lease_that_has_ended_is_not_renewed_and_its_slot_is_with_the_next(rig: Rig) -> None:
    rig.granted(acquire("q", "e1", lease_ms=20, max_concurrent=1))
    join(rig, "e2")
    (stored,) = rig.stored("q")
    rig.wait_until(stored.held["e1"])
    renewed, standing = rig.one(Renew("q", "e1", "ne1")), rig.standing("q")
    assert renewed == Gone()
    assert standing == (["e2"], [])
    assert reasons(rig, "slot.expired") == [("e1", "lease")]


def test_an_attended_waiter_that_is_silent_is_passed_over(rig: Rig) -> None:
    rig.granted(acquire("q", "e1", max_concurrent=1))
    join(rig, "e2", "e3", attended=True)
    began = rig.now_ms()
    while rig.perform(Beat("q", ("e3",))).now_ms <= began + SILENCE_MS:
        rig.wait_until(rig.now_ms() + 300)
    assert reasons(rig, "slot.expired") == [("e2", "silent")]
    assert rig.standing("q") == (["e1"], ["e3"])


# Beats


def test_a_beat_carries_nobody_beyond_its_queue_time_out(rig: Rig) -> None:
    rig.granted(acquire("q", "e1", max_concurrent=1))
    rig.one(acquire("q", "e2", timeout_ms=80, attended=True, bell="ne2"))
    (before,) = rig.stored("q")
    rig.one(Beat("q", ("e2",)))
    (after,) = rig.stored("q")
    assert after.waits == before.waits


def test_a_beat_takes_nothing_from_who_needs_none(rig: Rig) -> None:
    rig.granted(acquire("q", "e1", max_concurrent=1))
    join(rig, "e2")
    (before,) = rig.stored("q")
    rig.one(Beat("q", ("e2",)))
    (after,) = rig.stored("q")
    assert after.waits == before.waits


def test_a_beat_names_those_who_do_not_wait(rig: Rig) -> None:
    rig.granted(acquire("q", "e1", max_concurrent=1))
    join(rig, "e2", "e3", attended=True)
    answer = rig.one(Beat("q", ("e1", "e2", "nobody", "e3")))
    assert answer.missing == (0, 2)  # type: ignore[union-attr]


# Redis has lost its data


def test_after_an_empty_restart_holders_come_back_by_renewal_with_their_fence(rig: Rig) -> None:
    held = rig.granted(acquire("q", "e1", max_concurrent=1))
    lose_data(rig)
    assert rig.one(Renew("q", "e1", "ne1", LONG_MS, held.fence)) == Granted(held.fence, LONG_MS, LONG_MS, "ne1", "same")
    assert rig.standing("q") == (["e1"], [])
    assert isinstance(rig.one(acquire("q", "e2", max_concurrent=1)), Queued)
    assert rig.one(Release("q", "e1", fence_key(held.fence))) == Released()


def test_after_an_empty_restart_waiters_come_back_to_their_order_whoever_is_first_to_do_so(rig: Rig) -> None:
    rig.granted(acquire("q", "e1", max_concurrent=1))
    tickets = {f"e{n}": place.ticket for n, place in enumerate(join(rig, "e2", "e3", "e4", "e5"), 2)}
    lose_data(rig)
    for execution in ("e4", "e2", "e5", "e3"):
        answer = rig.one(acquire("q", execution, max_concurrent=1, ticket=tickets[execution]))
        assert isinstance(answer, Queued), "no slot is given before holders had the time of a lease to come back"
        assert answer.ticket == tickets[execution]
    assert isinstance(rig.one(acquire("q", "newcomer", max_concurrent=1)), Queued)
    assert rig.standing("q") == ([], ["e2", "e3", "e4", "e5", "newcomer"])


def test_after_an_empty_restart_slots_are_held_back_for_one_lease_and_then_go_in_order(rig: Rig) -> None:
    rig.granted(acquire("q", "e1", max_concurrent=2))
    rig.granted(acquire("q", "e0", max_concurrent=2))
    tickets = {f"e{n}": place.ticket for n, place in enumerate(join(rig, "e2", "e3", limit=2), 2)}
    lose_data(rig)
    lease_ms = 700
    came = rig.perform(acquire("q", "e3", lease_ms=lease_ms, max_concurrent=2, ticket=tickets["e3"]))
    rig.one(acquire("q", "e2", lease_ms=lease_ms // 2, max_concurrent=2, ticket=tickets["e2"]))
    granted: list[str] = []
    at_ms = 0
    while not granted:
        at_ms = rig.perform(Poke("q")).now_ms
        granted = rig.standing("q")[0]
        assert bool(granted) == (at_ms >= came.now_ms + lease_ms)
        rig.wait_until(min(rig.now_ms() + 50, came.now_ms + lease_ms))
    assert granted == ["e2", "e3"]
    by_fence = sorted(rig.stored("q")[0].book.items(), key=lambda item: int(item[1][-1]))
    assert [execution for execution, _ in by_fence] == ["e2", "e3"]


def test_after_an_empty_restart_the_longest_lease_that_came_back_counts_but_no_more_than_a_minute(rig: Rig) -> None:
    rig.granted(acquire("q", "e1", max_concurrent=2))
    rig.granted(acquire("q", "e0", max_concurrent=2))
    tickets = {f"e{n}": place.ticket for n, place in enumerate(join(rig, "e2", "e3", limit=2), 2)}
    lose_data(rig)
    for who, lease_ms, held_back_ms in (("e2", 2_000, 2_000), ("e3", 86_400_000, 60_000)):
        came = rig.perform(acquire("q", who, lease_ms=lease_ms, max_concurrent=2, ticket=tickets[who]))
        (place,) = came.answers
        assert isinstance(place, Queued)
        assert held_back_ms - 1_000 < place.limited_ms <= held_back_ms


def test_after_an_empty_restart_fences_go_on_rising(rig: Rig) -> None:
    before = rig.granted(acquire("q", "e1"))
    lose_data(rig)
    assert rig.granted(acquire("q", "e2")).fence > before.fence


def test_who_was_cleared_out_does_not_come_back_as_if_data_had_been_lost(rig: Rig) -> None:
    held = rig.granted(acquire("q", "e1", max_concurrent=1))
    (place,) = join(rig, "e2")
    assert run(rig.slots.clear(["q"]), rig.execute) == (1, 1)
    assert rig.one(Renew("q", "e1", "ne1", LONG_MS, held.fence)) == Gone()
    assert rig.one(acquire("q", "e2", ticket=place.ticket)) == Cancelled()
    assert rig.standing("q") == ([], [])


def test_a_reset_takes_back_the_grant_that_lies_unread(rig: Rig) -> None:
    rig.granted(acquire("q", "e1", max_concurrent=1))
    join(rig, "e2", attended=True)
    rig.one(Release("q", "e1", "ne1"))
    run(rig.slots.clear(["q"]), rig.execute)
    assert rig.listen("ne2", 9) == [Ring("ne2", 0, 0)]


def test_a_restart_with_its_data_changes_nothing() -> None:
    with RedisProcess(appendfsync="always") as server:
        rig = Rig(server)
        held = rig.granted(acquire("q", "e1", max_concurrent=1))
        join(rig, "e2", "e3")
        before = rig.stored("q")
        server.kill()
        server.start()
        rig.close()
        rig = Rig(server)
        assert rig.stored("q") == before
        assert rig.one(Release("q", "e1", fence_key(held.fence))) == Released()
        assert rig.standing("q") == (["e2"], ["e3"])
        rig.client.script_flush()
        assert rig.one(Release("q", "e2", "ne2")) == Released()
        assert rig.standing("q") == (["e3"], [])
        assert rig.problems() == []
        rig.close()


# The line


def test_who_comes_back_with_its_ticket_stands_where_it_stood(rig: Rig) -> None:
    rig.granted(acquire("q", "e1", max_concurrent=1))
    names = [f"w{n:03}" for n in range(200)]
    tickets = dict(zip(names, (place.ticket for place in join(rig, *names)), strict=True))
    for name in ("w000", "w063", "w064", "w127", "w199"):
        assert rig.one(Cancel("q", name, f"n{name}")) == Cancelled()
        answer = rig.one(acquire("q", name, ticket=tickets[name]))
        assert isinstance(answer, Queued)
        assert answer.position == names.index(name) + 1
        assert rig.standing("q")[1] == names


def test_dead_waiters_are_removed_some_at_a_time_and_hold_nobody_up(rig: Rig) -> None:
    rig.granted(acquire("q", "holder", max_concurrent=1))
    rig.perform(*(acquire("q", f"dead{n}", timeout_ms=300) for n in range(300)))
    join(rig, "living")
    (stored,) = rig.stored("q")
    rig.wait_until(stored.waits["dead299"])
    calls = 0
    rig.one(Release("q", "holder", "nholder"))
    while rig.standing("q") != (["living"], []):
        left = len(rig.standing("q")[1])
        rig.perform(Poke("q"))
        calls += 1
        assert 64 <= left - len(rig.standing("q")[1]) <= 128 or rig.standing("q") == (["living"], [])
    assert calls <= 3
    assert len(reasons(rig, "slot.timed_out")) == 300


def test_leases_that_end_together_are_all_handed_on(rig: Rig) -> None:
    rig.perform(*(acquire("q", f"h{n}", lease_ms=300, max_concurrent=100) for n in range(100)))
    rig.perform(*(acquire("q", f"w{n}", max_concurrent=100) for n in range(100)))
    rig.wait_until(max(rig.stored("q")[0].held.values()))
    eventually(lambda: rig.perform(Poke("q")) and not rig.standing("q")[1], "all waiters have a slot")
    assert rig.standing("q")[0] == sorted(f"w{n}" for n in range(100))
    granted = [e.payload for e in rig.told() if e.kind == "slot.granted"]
    assert [one["execution_id"] for one in granted[100:]] == [f"w{n}" for n in range(100)], "in the order of the line"
    fences = [one["fencing_token"] for one in granted]
    assert fences == sorted(set(fences))


def test_a_limit_that_is_raised_hands_out_at_once_and_one_that_is_lowered_takes_nothing_away(rig: Rig) -> None:
    rig.granted(acquire("q", "e1", max_concurrent=1))
    join(rig, "e2", "e3", "e4")
    scope = Scope("queue", "q")
    run(rig.slots.put_policy(scope, Policy(max_concurrent=3), None), rig.execute)
    assert rig.standing("q") == (["e1", "e2", "e3"], ["e4"])
    run(rig.slots.put_policy(scope, Policy(max_concurrent=1), None), rig.execute)
    assert rig.standing("q") == (["e1", "e2", "e3"], ["e4"])
    for execution, holders in (("e1", ["e2", "e3"]), ("e2", ["e3"]), ("e3", ["e4"])):
        rig.one(Release("q", execution, ANY))
        assert rig.standing("q")[0] == holders


def test_a_head_that_is_limited_by_rate_holds_no_slot_and_nobody_passes_it(rig: Rig) -> None:
    run(rig.slots.put_policy(Scope("global"), Policy(rate_limit=Rate(1, 1)), None), rig.execute)
    first = rig.perform(acquire("q", "e1", max_concurrent=9))
    second = rig.one(acquire("q", "e2", max_concurrent=9))
    third = rig.one(acquire("q", "e3", max_concurrent=9))
    assert isinstance(second, Queued)
    assert isinstance(third, Queued)
    assert second.limited_by == "rate"
    assert 0 < second.look_in_ms <= second.limited_ms <= 1000
    rig.wait_until(first.now_ms + 1000)
    rig.perform(Poke("q"))
    assert rig.standing("q") == (["e1", "e2"], ["e3"])


def test_an_execution_that_holds_already_is_told_so_and_not_queued_twice(rig: Rig) -> None:
    held = rig.granted(acquire("q", "e1", max_concurrent=1))
    answer = rig.one(acquire("q", "e1", "another", max_concurrent=1))
    assert isinstance(answer, Held)
    assert answer.fence == held.fence
    assert rig.standing("q") == (["e1"], [])


# What is left


def test_every_key_has_an_end_whatever_was_emptied_and_filled_again(rig: Rig) -> None:
    quota = Policy(rate_limit=Rate(99, 60), quota=Rate(99, 60))
    run(rig.slots.put_policy(Scope("global"), quota, None), rig.execute)

    def endless() -> list[bytes]:
        return [
            key for key in keys_of(rig) if rig.client.pttl(key) == -1 and not key.endswith((b":meta", b":policies"))
        ]

    held = rig.granted(acquire("q", "e1", max_concurrent=1))
    assert endless() == []
    join(rig, "e2", attended=True)
    assert endless() == [], "the line is new"
    rig.one(Release("q", "e1", "ne1", tomb_ms=LONG_MS))
    assert endless() == [], "the set of holders was empty in between"
    rig.one(Release("q", "e2", "ne2"))
    assert endless() == []
    run(rig.slots.put_policy(Scope("global"), None, None), rig.execute)
    for _ in range(2):
        rig.granted(acquire("q", "e7", max_concurrent=1))
        assert endless() == [], "both ways of taking a slot"
        rig.one(Release("q", "e7", "ne7"))
    join_first = rig.granted(acquire("q", "e3", max_concurrent=1))
    join(rig, "e4")
    run(rig.slots.clear(["q"]), rig.execute)
    rig.granted(acquire("q", "e5", max_concurrent=1))
    join(rig, "e6", attended=True)
    rig.one(Cancel("q", "e6", ANY))
    assert endless() == []
    lose_data(rig)
    assert isinstance(rig.one(Renew("q", "e1", "ne1", LONG_MS, held.fence)), Granted)
    assert endless() == []
    assert isinstance(rig.one(Renew("q", "e3", "ne3", LONG_MS, join_first.fence)), Granted)
    assert endless() == []
    lose_data(rig)
    assert isinstance(rig.one(acquire("q", "e9", max_concurrent=1, ticket=held.fence)), Queued)
    assert endless() == []


def test_looking_at_a_queue_that_never_was_makes_none(rig: Rig) -> None:
    rig.perform(Touch("q", "e1", ANY), Release("q", "e1", ANY), Cancel("q", "e1", "n"), Beat("q", ("e1",)), Poke("q"))
    rig.one(Renew("q", "e1", "n"))
    run(rig.slots.stats(["q"], 9), rig.execute)
    assert keys_of(rig) == []


@pytest.mark.parametrize("lost", ["book", "held", "line", "waits"])
def test_a_queue_that_lost_one_of_its_keys_goes_on(rig: Rig, lost: str) -> None:
    rig.granted(acquire("q", "e1", lease_ms=500, max_concurrent=1))
    join(rig, "e2", "e3", attended=True)
    rig.client.delete(getattr(rig.keys.queue("q"), lost))
    for who in ("e1", "e2", "e3"):
        for act in (Touch("q", who, ANY), Renew("q", who, f"n{who}", LONG_MS), Release("q", who, ANY)):
            rig.one(act)
    rig.wait_until(rig.now_ms() + 3_100)  # whatever is left of them is silent by then
    rig.one(Poke("q"))
    assert rig.granted(acquire("q", "e4", max_concurrent=1))
    assert rig.standing("q") == (["e4"], [])

"""Chaos among processes that compete for slots: killed and stopped at random, and what they saw held to the promises.

`python -m tests.faults.slot_chaos [seed]` runs it in full: 8 processes, limits 2 and 1, 60 signals each in 25 s.
"""

import os
import random
import signal
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import NamedTuple

from eventlog import Event
from tests.faults.opening import open_log
from tests.faults.slot_workers import ENOUGH, SlotWorker, open_slots
from tests.support.redis_process import RedisProcess, eventually

LEASE_S = 2.0
PROCESSES = 8


class Piece(NamedTuple):
    """A piece of work under a token: whether the slot was valid after `at`, and still valid when it was done."""

    fence: int
    at: float
    valid: bool
    accepted: bool
    still_valid: bool


@dataclass
class Chaos:
    """What happened in one run: the workers' own witness, and what the log tells."""

    limit: int
    seed: int
    signals: int
    workers: list[SlotWorker]
    woken: list[tuple[str, float]]
    story: list[Event]
    totals: dict[str, int]

    def work(self) -> list["Piece"]:
        """Every piece of work in the order of time."""
        return sorted((Piece(*said) for worker in self.workers for said in worker.of("at")), key=lambda piece: piece.at)

    def stays(self) -> list[tuple[int, float, float]]:
        """From when to when each token was certain to be good, as its holder saw it."""
        seen: dict[int, tuple[float, float]] = {}
        for piece in self.work():
            if piece.valid:
                seen[piece.fence] = (seen.get(piece.fence, (piece.at, piece.at))[0], piece.at)
        return [(fence, since, until) for fence, (since, until) in seen.items()]


def run(seed: int, *, limit: int, seconds: float, signals: int) -> Chaos:
    """Let `PROCESSES` compete for `seconds`, and kill (and replace) or stop (and wake) one of them `signals` times."""
    chosen = random.Random(seed)
    with RedisProcess() as server, ExitStack() as stack:
        workers: list[SlotWorker] = []

        def start() -> SlotWorker:
            name = f"w{len(workers)}"
            given = {"style": "compete", "limit": limit, "seed": chosen.random()}
            worker = stack.enter_context(SlotWorker(server.url, name, LEASE_S, **given))
            workers.append(worker)
            return worker

        living = [start() for _ in range(PROCESSES)]
        eventually(lambda: all(worker.lines for worker in living), "all compete")
        began = time.monotonic()
        times = sorted(began + chosen.uniform(0.0, seconds) for _ in range(signals))
        woken = _strike(living, start, times, chosen, prefers_who_works=limit == 1)
        with server.client() as redis:
            redis.set(ENOUGH, 1)
        for worker in living:
            worker.finish()
        slots = stack.enter_context(open_slots(server.url))
        eventually(lambda: slots.stats("build").active_count == 0, "the leases of the dead have ended")
        slots.set_limit("build", None)  # a change of the queue, so that what has expired is taken out
        slots.set_limit("build", limit)
        _nothing_is_left(server)
        totals = {name: getattr(slots.stats("build"), f"total_{name}") for name in ("enqueued", "completed", "expired")}
        with open_log(server.url) as log:
            assert log.verify().clean
            story = log.query(since=0)
        return Chaos(limit, seed, signals, workers, woken, story, totals)


class _Sleeper(NamedTuple):
    wakes_at: float
    worker: SlotWorker


def _strike(
    living: list[SlotWorker],
    start: Callable[[], SlotWorker],
    times: list[float],
    chosen: random.Random,
    *,
    prefers_who_works: bool,
) -> list[tuple[str, float]]:
    """Send the signals; returns who was woken when."""
    sleepers: list[_Sleeper] = []
    woken: list[tuple[str, float]] = []

    def wake(until: float, most_asleep: int) -> None:
        while sleepers:
            soonest = min(sleepers, key=lambda sleeper: sleeper.wakes_at)
            if soonest.wakes_at >= until and len(sleepers) <= most_asleep:
                return
            time.sleep(max(min(soonest.wakes_at, until) - time.monotonic(), 0))
            os.kill(soonest.worker.process.pid, signal.SIGCONT)
            sleepers.remove(soonest)
            woken.append((soonest.worker.given["execution_id"], time.monotonic()))

    try:
        for at in times:
            wake(at, PROCESSES // 2)
            time.sleep(max(at - time.monotonic(), 0))
            asleep = {id(sleeper.worker) for sleeper in sleepers}
            victim = _victim([worker for worker in living if id(worker) not in asleep], chosen, prefers_who_works)
            if chosen.random() < 0.5:
                victim.kill()
                living[living.index(victim)] = start()
            else:
                os.kill(victim.process.pid, signal.SIGSTOP)
                sleepers.append(_Sleeper(at + chosen.uniform(0.1, 2.0 * LEASE_S), victim))
    finally:
        wake(time.monotonic(), 0)
    return woken


def _victim(awake: list[SlotWorker], chosen: random.Random, prefers_who_works: bool) -> SlotWorker:
    at_work = [worker for worker in awake if worker.lines and worker.lines[-1][0] == "at"]
    if at_work and prefers_who_works and chosen.random() < 0.5:
        return max(at_work, key=lambda worker: float(worker.lines[-1][2]))
    return chosen.choice(awake)


def _nothing_is_left(server: RedisProcess) -> None:
    with server.client() as redis:
        left = {key.decode() for key in redis.scan_iter("eventlog:{w1}:*")}
        parts = {key.rpartition(":")[2] for key in left if ":slots:" in key}
        assert parts == {"state"}, f"nobody is in the queue, but there is {left}"
        for key in left:
            if ":bell:" in key or ":tomb:" in key:
                assert 0 < redis.pttl(key) <= 600_000, f"{key} goes by itself"


def check(chaos: Chaos) -> dict[str, float]:
    """Hold a run to what is promised; returns the figures that are worth a look."""
    stays = chaos.stays()
    most = _most_at_once(stays)
    assert most <= chaos.limit, f"{most} at once"
    grants, overtakes = fold(chaos.story, chaos.limit)
    assert grants == sorted(set(grants)), "tokens rise strictly"
    assert {fence for fence, *_ in stays} <= set(grants), "every token that was worked with is in the log"
    assert overtakes == 0
    stuck, idle = _longest_stuck(chaos), _longest_idle(stays)
    assert stuck < LEASE_S + 1, f"a slot was stuck for {stuck:.3f} s"
    told = [event.kind for event in chaos.story]
    assert chaos.totals["completed"] == told.count("slot.released")
    assert chaos.totals["expired"] == told.count("slot.expired")
    stale, refused = _hold_to_the_register(chaos)
    return {
        "grants": len(grants),
        "most at once": most,
        "longest stuck s": round(stuck, 3),
        "nobody worked s": round(idle, 3),
        "worked on past the lease": stale,
        "work refused": refused,
        "expired": chaos.totals["expired"],
        "signals": chaos.signals,
        "seed": chaos.seed,
    }


def _most_at_once(stays: Iterable[tuple[int, float, float]]) -> int:
    edges = sorted(edge for _, since, until in stays for edge in ((since, 1), (until, -1)))
    now = most = 0
    for _, change in edges:
        now += change
        most = max(most, now)
    return most


def _longest_stuck(chaos: Chaos) -> float:
    """The longest time that a waiter which lived waited for the slot of a holder which did not."""
    to_wall_clock = time.time() - time.monotonic()
    worked = {fence: until + to_wall_clock for fence, _, until in chaos.stays()}
    came: dict[str, float] = {}
    granted: dict[int, float] = {}
    longest = taken_at = alive_at = 0.0

    def last_sign(execution: str, before: float, *others: float) -> float:
        wakes = (at + to_wall_clock for who, at in chaos.woken if who == execution.partition(".")[0])
        return max(*others, *(at for at in wakes if at <= before), 0.0)

    for event in chaos.story:
        who, fence, now = event.payload["execution_id"], event.payload.get("fencing_token"), event.timestamp
        if event.kind == "slot.queued":
            came[who] = now
        elif event.kind == "slot.expired" and fence is not None:
            taken_at, alive_at = now, last_sign(who, now, granted[fence], worked.get(fence, 0.0))
        elif event.kind == "slot.granted":
            granted[fence] = now
            if now == taken_at:
                longest = max(longest, now - last_sign(who, now, alive_at, came.get(who, now)))
    return longest


def _longest_idle(stays: Iterable[tuple[int, float, float]]) -> float:
    """The longest time in which nobody worked."""
    longest, reached = 0.0, None
    for since, until in sorted((since, until) for _, since, until in stays):
        if reached is not None:
            longest = max(longest, since - reached)
        reached = until if reached is None else max(reached, until)
    return longest


def fold(story: list[Event], limit: int) -> tuple[list[int], int]:
    """Fold the log into the queue as it was; returns the tokens granted, in order, and how many were overtaken.

    A waiter that was out of the line and came back to its place is not counted: the log does not tell its ticket.
    """
    line: list[str] = []
    held: dict[str, int] = {}
    returned: set[str] = set()
    grants: list[int] = []
    overtakes = 0
    for event in story:
        who = event.payload["execution_id"]
        match event.kind:
            case "slot.queued":
                assert who not in held
                assert who not in line
                line.append(who)
            case "slot.granted":
                steady = [other for other in line if other not in returned]
                if who in line:
                    overtakes += who not in returned and steady[0] != who
                    line.remove(who)
                elif who not in returned:
                    assert not line, f"{who} passed {line}"
                held[who] = event.payload["fencing_token"]
                assert len(held) <= limit, f"{held} at once"
                grants.append(held[who])
            case "slot.released" | "slot.expired" | "slot.cancelled" if who in held:
                assert held.pop(who) == event.payload["fencing_token"]
                returned.add(who)
            case "slot.expired" | "slot.cancelled":
                line.remove(who)
                returned.add(who)
            case other:
                raise AssertionError(f"{other} has no place in this story")
    assert not line
    assert not held
    return grants, overtakes


def _hold_to_the_register(chaos: Chaos) -> tuple[int, int]:
    """Work after the lease: where one works at a time, the register refuses it once the next has worked."""
    stale = {piece.fence for piece in chaos.work() if not piece.still_valid}
    refused = [piece for piece in chaos.work() if not piece.accepted]
    assert not any(piece.still_valid for piece in refused), "no good token is refused"
    told = {fence for worker in chaos.workers for (fence,) in worker.of("told")}
    ended = {fence for worker in chaos.workers if worker.lines[-1:] == [["done"]] for fence, *_ in worker.of("at")}
    assert stale & ended <= told, "who worked on without a slot was told"
    return len(stale), len(refused)


if __name__ == "__main__":
    first = int(sys.argv[1]) if len(sys.argv) > 1 else random.randrange(2**32)
    for most in (2, 1):
        print(f"limit {most}, seed {first}")
        figures = check(run(first, limit=most, seconds=25.0, signals=60))
        print(figures)

"""Every slot script may be repeated: carried out twice it leaves what it left the first time.

By a clock that the test sets, so that "the same" is the same to the microsecond.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

from eventlog.errors import VersionConflict
from eventlog.plan.drive import run
from eventlog.plan.effects import Command
from eventlog.slots.acts import (
    ANY,
    Act,
    Beat,
    Cancel,
    Granted,
    Poke,
    Queued,
    Release,
    Released,
    Renew,
    Touch,
    fence_key,
)
from eventlog.slots.policy import Policy, Rate, Scope
from tests.contract.slots.clocked import ClockedRedis
from tests.slots.rig import Rig, acquire
from tests.support.redis_process import RedisProcess

START_US = 1_800_000_000_000_000
QUEUES = ("q", "q/g")


@pytest.fixture(scope="module")
def server() -> Iterator[RedisProcess]:
    """A server that may be flushed."""
    with RedisProcess(appendonly=False) as server:
        yield server


@pytest.fixture
def clock(server: RedisProcess) -> Iterator[ClockedRedis]:
    clock = ClockedRedis(server.url)
    clock.begin(START_US)
    yield clock
    clock.close()


@pytest.fixture
def rig(server: RedisProcess, clock: ClockedRedis) -> Iterator[Rig]:
    rig = Rig(server, link=clock)
    yield rig
    rig.client.close()


def everything(rig: Rig, clock: ClockedRedis) -> dict[str, object]:
    """All that is stored of queues, bells, tombs and policies, and all that was told."""
    return {
        "queues": rig.stored(*QUEUES),
        "bells": clock.bells(),
        "tombs": clock.buried(),
        "policies": rig.client.hgetall(rig.keys.policies),
        "told": [(event.id, event.kind, dict(event.payload)) for event in rig.told()],
    }


def begin(rig: Rig, limited: bool = False) -> tuple[Granted, Queued]:
    """e1 holds the only slot; e2 (attended) and e3 wait."""
    held = rig.granted(acquire("q", "e1", max_concurrent=1))
    second = rig.one(acquire("q", "e2", attended=True, bell="ne2"))
    rig.one(acquire("q", "e3"))
    if limited:
        policy = Policy(rate_limit=Rate(2, 60), quota=Rate(2, 3600))
        run(rig.slots.put_policy(Scope("global"), policy, None), rig.execute)
    assert isinstance(second, Queued)
    return held, second


CALLS: dict[str, Callable[[Granted, Queued], Sequence[Act]]] = {
    "acquire that is granted": lambda held, queued: [acquire("q/g", "e1", max_concurrent=1)],
    "acquire that waits": lambda held, queued: [acquire("q", "e9", attended=True, bell="ne9")],
    "acquire that only tries": lambda held, queued: [acquire("q", "e9", mode="try")],
    "acquire that finds the line full": lambda held, queued: [acquire("q", "e9", max_length=2)],
    "acquire by another acquisition": lambda held, queued: [acquire("q", "e1", "x"), acquire("q", "e3", "y")],
    "acquire that adopts a slot": lambda held, queued: [acquire("q", "e1", "x", mode="adopt")],
    "acquire that adopts a place": lambda held, queued: [acquire("q", "e2", "x", mode="adopt", bell="x")],
    "acquire with a ticket": lambda held, queued: [
        Cancel("q", "e2", "ne2"),
        acquire("q", "e2", "x", ticket=queued.ticket),
    ],
    "acquire that raises the limit": lambda held, queued: [acquire("q", "e9", max_concurrent=2)],
    "touch": lambda held, queued: [Touch("q", "e2", "ne2", "inbox", True), Touch("q", "e1", ANY)],
    "renewal": lambda held, queued: [Renew("q", "e1", "ne1", 5000)],
    "renewal after a loss": lambda held, queued: [Renew("q/g", "e5", "ne5", 5000, START_US // 1000)],
    "release": lambda held, queued: [Release("q", "e1", "ne1")],
    "release with a tomb": lambda held, queued: [Release("q", "e1", "ne1", tomb_ms=60_000)],
    "release by fence": lambda held, queued: [Release("q", "e1", fence_key(held.fence))],
    "release of a waiter": lambda held, queued: [Release("q", "e2", "ne2")],
    "cancel": lambda held, queued: [Cancel("q", "e2", "ne2", how="timed_out")],
    "cancel by another": lambda held, queued: [Cancel("q", "e2", ANY)],
    "beat": lambda held, queued: [Beat("q", ("e2", "e3", "e7"))],
    "poke": lambda held, queued: [Poke("q"), Poke("q/g")],
    "several": lambda held, queued: [
        Release("q", "e1", "ne1"),
        Touch("q", "e2", "ne2"),
        acquire("q/g", "e1", max_concurrent=1),
        acquire("q/g", "e2", bell="inbox", attended=True),
        Cancel("q", "e3", "ne3", tomb_ms=60_000),
    ],
}


@pytest.mark.parametrize("limited", [False, True])
@pytest.mark.parametrize("name", CALLS)
def test_a_call_that_is_repeated_at_once_leaves_what_it_left(
    rig: Rig, clock: ClockedRedis, name: str, limited: bool
) -> None:
    acts = CALLS[name](*begin(rig, limited))
    clock.set_clock(clock.now_us + 1_000_000)
    rig.perform(*acts)
    left = everything(rig, clock)
    for _ in range(2):
        rig.again(rig.sent[-1])
        assert everything(rig, clock) == left


@pytest.mark.parametrize("name", ["acquire that is granted", "acquire that waits", "renewal", "touch"])
def test_the_repeated_call_is_answered_as_the_first_was(rig: Rig, clock: ClockedRedis, name: str) -> None:
    acts = CALLS[name](*begin(rig))
    first = rig.perform(*acts).answers
    again = rig.perform(*acts).answers
    assert [a._replace(how="") if isinstance(a, Granted) else a for a in first] == [
        a._replace(how="") if isinstance(a, Granted) else a for a in again
    ]


def test_a_copy_that_comes_late_does_nothing_to_those_who_came_since(rig: Rig, clock: ClockedRedis) -> None:
    begin(rig)
    assert rig.one(Release("q", "e1", "ne1", tomb_ms=60_000)) == Released()
    late = rig.sent[-1]
    rig.one(acquire("q", "e1", "later", max_concurrent=1))
    rig.one(Touch("q", "e2", "ne2"))
    clock.set_clock(clock.now_us + 5_000_000)
    rig.one(Poke("q"))
    before = everything(rig, clock)
    rig.again(late)
    assert everything(rig, clock) == before


def test_a_repeated_reset_takes_nobody_who_came_since(rig: Rig, clock: ClockedRedis) -> None:
    begin(rig)
    assert run(rig.slots.clear(QUEUES), rig.execute) == (1, 2)
    reset = rig.sent[-1]
    rig.one(acquire("q", "e1", "later", max_concurrent=1))
    left = everything(rig, clock)
    assert rig.again(reset) == [b"cleared", 1, 2]
    assert everything(rig, clock) == left


def replaying(rig: Rig) -> Callable[[Command], Any]:
    """Carries out every command twice, and answers with what the second try says: the first reply was lost."""

    def execute(command: Command) -> Any:
        rig.execute(command)
        return rig.execute(command)

    return execute


def test_a_repeated_put_of_a_policy_is_answered_as_the_first_was(rig: Rig) -> None:
    scope, twice = Scope("action", "q"), replaying(rig)

    def put(policy: Policy | None, expected: int | None = None) -> int:
        return run(rig.slots.put_policy(scope, policy, expected), twice)

    assert put(Policy(max_concurrent=1), 0) == 1
    assert put(Policy(max_concurrent=2), 1) == 2
    assert put(Policy(max_concurrent=3)) == 3
    assert put(None, 3) == 4
    assert put(Policy(max_concurrent=1)) == 5
    with pytest.raises(VersionConflict):
        put(Policy(max_concurrent=9), 4)


def test_looking_changes_nothing(rig: Rig, clock: ClockedRedis) -> None:
    begin(rig, limited=True)
    clock.set_clock(clock.now_us + 3_600_000_000)
    left = everything(rig, clock)
    (stats, _) = run(rig.slots.stats(QUEUES, 9), rig.execute)
    assert (stats.active_count, stats.queue_length) == (0, 0), "all have expired"
    assert run(rig.slots.find("e1", QUEUES), rig.execute) == ["q"]
    assert everything(rig, clock) == left

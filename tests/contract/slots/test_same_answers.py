"""Whatever is done to slot queues in whatever order, Redis and the memory backend give the same answers.

Everything is done twice, at the same microsecond of a made-up clock: answers, events with their ids, statistics and
what lies at the bells must be equal. Failures print the steps and a seed (`@reproduce_failure`).
"""

from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from eventlog.errors import VersionConflict
from eventlog.log.audit import audit
from eventlog.log.memory import MemoryBackend
from eventlog.log.redis import RedisBackend
from eventlog.model.events import Event
from eventlog.model.ids import Cursor
from eventlog.model.log_values import ReadRequest
from eventlog.model.retention import Retention
from eventlog.plan.drive import run
from eventlog.plan.effects import Command, Plan
from eventlog.slots.acts import (
    ANY,
    Acquire,
    Act,
    Answer,
    Beat,
    Beaten,
    Cancel,
    Gone,
    Granted,
    Limited,
    Poke,
    Queued,
    Release,
    Renew,
    Ring,
    Touch,
    fence_key,
)
from eventlog.slots.memory import MemorySlots
from eventlog.slots.policy import Policy, Rate, Scope
from eventlog.slots.protocol import SlotBackend
from eventlog.slots.redis import RedisSlots
from eventlog.store.keys import WorkspaceKeys
from tests.contract.slots.clocked import ClockedRedis
from tests.slots.rig import stored
from tests.support.extent import examples
from tests.support.redis_process import RedisProcess, binaries

QUEUES = ("a", "a/g", "b")
EXECUTIONS = tuple(f"e{n}" for n in range(4))
INBOX = "inbox"
START_US = 1_800_000_000_000_000
RETENTION = Retention.of()

queues = st.sampled_from(["a", "a", "a", "a/g", "b"])
executions = st.sampled_from(EXECUTIONS)
leases = st.sampled_from([200, 1000, 5000, 30_000])
earlier = st.integers(-1, 3)  # which of the latest acquisitions of an execution; -1 is any of them
tombs = st.sampled_from([0, 0, 600_000])

ACQUIRE = st.fixed_dictionaries(
    {
        "queue": queues,
        "execution": executions,
        "lease_ms": leases,
        "timeout_ms": st.sampled_from([0, 100, 2500, 10_000, 3_600_000]),
        "max_concurrent": st.sampled_from([None, 1, 1, 2, 3]),
        "max_length": st.sampled_from([1, 2, 10_000]),
        "pack": st.sampled_from(["-", "-", "p"]),
        "mode": st.sampled_from(["line", "line", "line", "try", "adopt"]),
        "bell": st.sampled_from(["-", "own", INBOX]),
        "attended": st.booleans(),
        "owner": st.sampled_from(["-", "host:1"]),
    }
)
ACTS = st.one_of(
    st.tuples(st.just("acquire"), ACQUIRE),
    st.tuples(st.just("acquire"), ACQUIRE),
    st.tuples(st.just("acquire again"), ACQUIRE, earlier, st.booleans()),
    st.tuples(st.just("touch"), queues, executions, earlier, st.sampled_from([None, "-", INBOX]), st.booleans()),
    st.tuples(st.just("renew"), queues, executions, earlier, st.none() | leases, st.booleans()),
    st.tuples(st.just("release"), queues, executions, earlier, tombs, st.sampled_from([None, None, 0, 5000])),
    st.tuples(st.just("cancel"), queues, executions, earlier, tombs, st.sampled_from(["cancelled", "timed_out"])),
    st.tuples(st.just("beat"), queues, st.lists(executions, min_size=1, max_size=6)),
    st.tuples(st.just("poke"), queues),
)
HOLDERS_DO = st.sampled_from(["release", "release", "release", "touch", "renew", "cancel", "ask again"])
SCOPES = st.sampled_from(["global", "pack/p", "action/a", "action/b", *(f"queue/{queue}" for queue in QUEUES)])
RATES = st.none() | st.builds(Rate, st.integers(1, 3), st.sampled_from([0.5, 5.0, 60.0]))
POLICIES = st.builds(
    Policy,
    max_concurrent=st.sampled_from([None, 1, 2, 4]),
    rate_limit=RATES,
    quota=RATES,
    max_queue_length=st.sampled_from([None, None, 1, 3]),
    queue_timeout_seconds=st.sampled_from([None, None, 1.5, 4.0]),
    log_transitions=st.sampled_from([None, None, True, False]),
)
# Around every length of time that a queue knows.
PAUSES_MS = [0, 1, 2, 99, 100, 200, 499, 500, 501, 1000, 1999, 2000, 2500, 2999, 3000, 5000, 30_000, 60_000, 600_000]


@pytest.fixture(scope="module", params=binaries(), ids=lambda binary: binary.name)
def clocked(request: pytest.FixtureRequest) -> Iterator[ClockedRedis]:
    """A server that the machine may flush, of each version that is here."""
    with RedisProcess(binary=request.param, appendonly=False) as own:
        clocked = ClockedRedis(own.url)
        yield clocked
        clocked.close()


def no_transport(command: Command) -> Any:
    raise AssertionError(command)


class Story:
    """Who holds and who waits in each queue, told by the log alone. `hides`: a queue keeps its story out of the log."""

    def __init__(self) -> None:
        self.highest: defaultdict[str, int] = defaultdict(int)
        self.hides = False
        self.begin_anew()

    def begin_anew(self) -> None:
        """With an empty log. Fences go on."""
        self.queues: defaultdict[str, tuple[dict[str, int], list[str]]] = defaultdict(lambda: ({}, []))

    def goes_on(self, event: Event) -> None:
        """Take up an event."""
        said, transition = event.payload, event.kind.removeprefix("slot.")
        name = said["action"] + (f"/{said['group']}" if "group" in said else "")
        holders, waiters = self.queues[name]
        if transition == "cleared":
            holders.clear()
            waiters.clear()
            return
        execution, fence = said["execution_id"], said.get("fencing_token", 0)
        if transition == "queued":
            waiters.insert(said["position"] - 1, execution)
            return
        if execution in waiters:
            waiters.remove(execution)
        holders.pop(execution, None)
        if transition == "granted":
            holders[execution] = fence
            assert "restored" in said or fence > self.highest[name], "fences only grow"
            self.highest[name] = max(fence, self.highest[name])


class Twins(RuleBasedStateMachine):
    """Two backends that are told the same."""

    def __init__(self, clocked: ClockedRedis) -> None:
        super().__init__()
        self.redis = clocked
        clocked.begin(START_US)
        self.keys = keys = WorkspaceKeys.of("w")
        self.stored: SlotBackend = RedisSlots(keys, RETENTION, 5.0)
        self.stored_log = RedisBackend(keys, RETENTION, 5.0)
        clock = lambda: (self.redis.now_us + 0.5) / 1_000_000  # noqa: E731
        self.log = MemoryBackend(RETENTION, clock)
        self.model: SlotBackend = MemorySlots(self.log.record, clock)
        self.nonces: dict[tuple[str, str], list[str]] = {}
        self.tickets: dict[str, int] = {}
        self.fences: dict[str, int] = {}
        self.seen = 0
        self.number = 0
        self.rung: list[str] = []
        self.calls: list[tuple[list[Act], str]] = []
        self.told = Story()

    def both(self, stored: Plan[Any], model: Plan[Any]) -> Any:
        """Do it to both; the outcomes must be equal."""
        done, wanted = _outcome(stored, self.redis.execute), _outcome(model, no_transport)
        assert done == wanted, f"Redis: {done}\nmemory: {wanted}"
        return done

    def perform(self, acts: list[Act], inbox: str = "") -> list[Answer]:
        performed = self.both(self.stored.perform(acts, inbox), self.model.perform(acts, inbox))
        answers: list[Answer] = performed.answers
        self.calls.append((acts, inbox))
        self.no_slot_is_free_while_a_waiter_lives({act.queue for act in acts})
        for act, answer in zip(acts, answers, strict=True):
            if isinstance(act, Acquire) and isinstance(answer, Queued):
                self.tickets[answer.nonce] = answer.ticket
            if isinstance(answer, Granted):
                self.fences[answer.nonce] = answer.fence
        return answers

    def no_slot_is_free_while_a_waiter_lives(self, names: set[str]) -> None:
        for queue in (self.model._queues[name] for name in names & self.model._queues.keys()):  # type: ignore[attr-defined]
            if all(place.until_ms > self.now_ms for place in queue.waits.values()):
                assert not (queue.line and queue.room()[0]), f"{queue.line} wait in {queue.name}"

    def nonce_of(self, queue: str, execution: str, which: int) -> str:
        nonces = self.nonces.get((queue, execution), [])
        return nonces[-1 - which] if which < len(nonces) else f"unknown-{which}"

    def key(self, queue: str, execution: str, which: int) -> str:
        """A key: "*", a nonce, or that acquisition's fence."""
        if which < 0:
            return ANY
        nonce = self.nonce_of(queue, execution, which)
        return fence_key(self.fences[nonce]) if which % 2 and nonce in self.fences else nonce

    def new_nonce(self, queue: str, execution: str) -> str:
        self.number += 1
        nonce = f"n{self.number}"
        self.nonces.setdefault((queue, execution), []).append(nonce)
        return nonce

    def act(self, word: str, *parts: Any) -> Act:
        """The act that is meant, with keys and tickets of what went before."""
        match word:
            case "acquire":
                asked = dict(parts[0])
                return self.acquire(asked, self.new_nonce(asked["queue"], asked["execution"]), None)
            case "acquire again":
                asked, which, with_ticket = dict(parts[0]), parts[1], parts[2]
                nonce = self.nonce_of(asked["queue"], asked["execution"], max(which, 0))
                return self.acquire(asked, nonce, self.tickets.get(nonce) if with_ticket else None)
        if word in ("beat", "poke"):
            return Beat(parts[0], tuple(parts[1])) if word == "beat" else Poke(parts[0])
        queue, execution, which, *rest = parts
        key = self.key(queue, execution, which)
        if word == "touch":
            return Touch(queue, execution, key, *rest)
        if word == "renew":
            lease_ms, with_fence = rest
            return Renew(queue, execution, key, lease_ms, self.fences.get(key) if with_fence else None)
        if word == "release":
            tomb_ms, not_after = rest
            ms = None if not_after is None else self.now_ms - not_after
            return Release(queue, execution, key, tomb_ms, ms)
        return Cancel(queue, execution, key, *rest)

    def acquire(self, asked: dict[str, Any], nonce: str, ticket: int | None) -> Acquire:
        if asked["bell"] == "own":
            asked["bell"] = f"bell-{nonce}"
        return Acquire(nonce=nonce, ticket=ticket, **asked)

    @initialize(
        attended=st.lists(st.booleans(), min_size=3, max_size=3),
        bells=st.sampled_from(["own", INBOX]),
        lease_ms=leases,
        policy=st.none() | st.builds(Policy, rate_limit=RATES, quota=RATES),
    )
    def a_line(self, attended: list[bool], bells: str, lease_ms: int, policy: Policy | None) -> None:
        """One holds and others wait, before anything else happens."""
        if policy is not None:
            self.set_policy("action/a", policy, None)
        for execution, is_attended in zip(EXECUTIONS, [False, *attended], strict=True):
            nonce = self.new_nonce("a", execution)
            bell = INBOX if bells == INBOX else f"bell-{nonce}"
            self.perform([Acquire("a", execution, nonce, lease_ms, 10_000, 1, bell=bell, attended=is_attended)])

    @rule(acts=st.lists(ACTS, min_size=1, max_size=5), inbox=st.sampled_from(["", "", INBOX]))
    def several_acts(self, acts: list[tuple[Any, ...]], inbox: str) -> None:
        self.perform([self.act(*act) for act in acts], inbox)

    @precondition(lambda self: self.calls)
    @rule(back=st.integers(1, 9))
    def a_copy_of_an_earlier_call_arrives(self, back: int) -> None:
        self.perform(*self.calls[-min(back, len(self.calls))])

    @rule(queue=queues, attended=st.booleans(), timeout_ms=st.sampled_from([100, 3_600_000]), bell=st.booleans())
    def a_crowd(self, queue: str, attended: bool, timeout_ms: int, bell: bool) -> None:
        """So many that one call does not remove them all, and that those behind are not told when to look."""
        crowd: list[Act] = []
        for n in range(80):
            nonce = self.new_nonce(queue, f"c{n}")
            told = f"bell-{nonce}" if bell else "-"
            crowd.append(Acquire(queue, f"c{n}", nonce, 1000, timeout_ms, 1, bell=told, attended=attended))
        self.perform(crowd)

    @rule(ms=st.sampled_from(PAUSES_MS), us=st.sampled_from([0, 1, 999]))
    def time_passes(self, ms: int, us: int) -> None:
        self.redis.set_clock(self.redis.now_us + ms * 1000 + us)

    @rule(scope=SCOPES, policy=st.none() | POLICIES, expected=st.sampled_from([None, None, 0, 1, 2]))
    def put_policy(self, scope: str, policy: Policy | None, expected: int | None) -> None:
        self.set_policy(scope, policy, expected)

    def set_policy(self, scope: str, policy: Policy | None, expected: int | None) -> None:
        if scope.startswith("queue/") and policy is not None:
            policy = Policy(policy.max_concurrent)  # as `set_limit` has it
        where = Scope.parse(scope)
        self.both(
            self.stored.put_policy(where, policy, expected),
            self.model.put_policy(where, policy, expected),
        )

    @rule(names=st.lists(st.sampled_from(QUEUES), min_size=1, max_size=3, unique=True))
    def clear(self, names: list[str]) -> None:
        self.both(self.stored.clear(names), self.model.clear(names))

    @rule()
    def everything_is_lost(self) -> None:
        self.redis.wipe()
        self.redis.set_clock(self.redis.now_us + 2000)  # no two logs begin within one millisecond
        self.log.forget_everything()
        self.model.forget_everything()  # type: ignore[attr-defined]
        self.seen = 0
        self.told.begin_anew()

    @precondition(lambda self: self.holders())
    @rule(which=st.integers(0, 3), how=HOLDERS_DO, inbox=st.sampled_from(["", INBOX]))
    def a_holder_acts(self, which: int, how: str, inbox: str) -> None:
        """One that certainly holds, with the right key: grants change hands, and are confirmed or not."""
        holders = self.holders()
        queue, execution, nonce = holders[which % len(holders)]
        acts: dict[str, Act] = {
            "release": Release(queue, execution, nonce),
            "touch": Touch(queue, execution, nonce, INBOX, True),
            "renew": Renew(queue, execution, nonce, 5000, self.fences.get(nonce)),
            "cancel": Cancel(queue, execution, nonce, 0, "timed_out"),
            "ask again": Acquire(queue, execution, nonce, 1000, 10_000, bell=f"bell-{nonce}", attended=True),
        }
        self.perform([acts[how]], inbox)

    def holders(self) -> list[tuple[str, str, str]]:
        """Queue, execution and nonce of all who hold a slot, or whose lease has just ended."""
        queues = self.model._queues.values()  # type: ignore[attr-defined]
        return [(queue.name, place.execution, place.nonce) for queue in queues for place in queue.held.values()]

    @rule(queue=queues)
    def waiters_come_back(self, queue: str) -> None:
        """With the tickets that they had, whatever became of their places."""
        known = [(execution, nonces[-1]) for (name, execution), nonces in self.nonces.items() if name == queue]
        acts: list[Act] = [
            Acquire(queue, execution, nonce, 5000, 10_000, bell=INBOX, attended=True, ticket=self.tickets[nonce])
            for execution, nonce in known
            if nonce in self.tickets
        ]
        self.perform(acts[:40])

    @rule(queue=queues, went=st.booleans())
    def holders_come_back(self, queue: str, went: bool) -> None:
        """With the fences that they had, whatever became of their slots. Who `went` meanwhile has said so for good."""
        known = [(execution, nonces[-1]) for (name, execution), nonces in self.nonces.items() if name == queue]
        renewals = [
            Renew(queue, execution, nonce, 5000, self.fences[nonce])
            for execution, nonce in known
            if nonce in self.fences
        ]
        going: list[Act] = [Release(queue, act.execution, act.key, 600_000) for act in renewals[:20] if went]
        self.perform([*going, *renewals[:20]])

    @rule(data=st.data(), most=st.sampled_from([1, 100]))
    def somebody_listens(self, data: st.DataObject, most: int) -> None:
        """Where several acquisitions are told at once, their order is nobody's business."""
        bell = data.draw(st.sampled_from([INBOX, "bell-n1", *self.rung]))
        most = 1000 if bell == INBOX else most
        self.both(
            _sorted(self.stored.listen(bell, 0.001, most)),
            _sorted(self.model.listen(bell, 0.001, most)),
        )

    @rule(most=st.integers(1, 3))
    def look_around(self, most: int) -> None:
        names = self.both(self.stored.queues(), self.model.queues())
        self.both(self.stored.stats(names, most), self.model.stats(names, most))
        self.both(self.stored.policies(), self.model.policies())
        for execution in EXECUTIONS:
            self.both(self.stored.find(execution, names), self.model.find(execution, names))

    @invariant()
    def they_tell_the_same_story(self) -> None:
        self.both(self.stored.stats(QUEUES, 100), self.model.stats(QUEUES, 100))
        new = ReadRequest(since=Cursor(None, self.seen), count=1000)
        kept = run(self.stored_log.read(new), self.redis.execute)
        model = run(self.log.read(new), no_transport)
        assert _told(kept.events) == _told(model.events)
        assert kept.state.last == model.state.last
        self.seen = model.state.last.offset
        for event in kept.events:
            self.told.goes_on(event)
        for name, queue in self.model._queues.items():  # type: ignore[attr-defined]
            self.told.hides = self.told.hides or queue.limits.log_transitions is False
            if not self.told.hides:
                # From the log alone one knows who holds and who waits.
                holders = {execution: place.fence for execution, place in queue.held.items()}
                assert self.told.queues[name] == (holders, queue.line)

    @invariant()
    def the_keys_keep_their_rules(self) -> None:
        for keys in stored(self.redis.client, self.keys, *QUEUES):
            assert set(keys.waits) == set(keys.line)
            assert len(keys.line) == len(set(keys.line))
            assert not set(keys.line) & set(keys.held)
            assert set(keys.book) == set(keys.line) | set(keys.held)
            tickets = [int(keys.book[execution][2]) for execution in keys.line]
            assert tickets == sorted(tickets), "the line is in the order of the tickets"
            if keys.book:
                assert int(keys.state["next"]) <= min([*keys.held.values(), *keys.waits.values()])

    def teardown(self) -> None:
        assert run(audit(self.stored_log, self.keys.run_index, 5.0), self.redis.execute).problems == []

    @invariant()
    def the_same_lies_at_the_bells(self) -> None:
        lying = self.redis.bells()
        model = {
            bell: sorted(rings)
            for bell, (until_ms, rings) in self.memory_bells.items()
            if rings and until_ms > self.now_ms
        }
        assert lying == model
        self.rung = sorted(lying)

    @invariant()
    def the_same_is_buried(self) -> None:
        buried = self.redis.buried()
        tombs = self.model._tombs._until  # type: ignore[attr-defined]
        assert buried == {nonce for nonce, until_ms in tombs.items() if until_ms > self.now_ms}

    @property
    def now_ms(self) -> int:
        return self.redis.now_us // 1000

    @property
    def memory_bells(self) -> Any:
        return self.model._bells._rung  # type: ignore[attr-defined]


def _sorted(listening: Plan[list[Ring]]) -> Plan[list[Ring]]:
    return sorted((yield from listening))


def _told(events: list[Event]) -> list[Any]:
    return [(event.id, event.kind, event.payload_json, event.visibility) for event in events]


def _outcome(plan: Plan[Any], execute: Any) -> Any:
    try:
        return run(plan, execute)
    except VersionConflict as conflict:
        return str(conflict)


@pytest.mark.timeout(600)  # it takes seconds; a failure takes minutes to be made small
def test_any_history_gives_the_same_answers_in_memory_and_on_redis(clocked: ClockedRedis) -> None:
    run_state_machine_as_test(
        lambda: Twins(clocked),  # type: ignore[arg-type]  # any factory will do
        settings=settings(
            max_examples=examples(80),
            stateful_step_count=30,
            deadline=None,
            print_blob=True,
            suppress_health_check=list(HealthCheck),
        ),
    )


# What chance seldom finds: each of these is done to both as well, and its answers are known.


@pytest.fixture
def twins(clocked: ClockedRedis) -> Iterator[Twins]:
    """Both, without any history; in the end they still have to agree."""
    twins = Twins(clocked)
    yield twins
    twins.they_tell_the_same_story()
    twins.the_same_lies_at_the_bells()
    twins.the_same_is_buried()


def waiter(execution: str, *, attended: bool = True, ticket: int | None = None, timeout_ms: int = 60_000) -> Acquire:
    """One that asks for the only slot of `a`, and is told at a bell of its own."""
    bell = f"bell-n-{execution}"
    return Acquire(
        *("a", execution, f"n-{execution}", 30_000, timeout_ms, 1), bell=bell, attended=attended, ticket=ticket
    )


def test_who_comes_back_with_a_ticket_is_put_where_it_was(twins: Twins) -> None:
    twins.perform([waiter("e0", attended=False)])
    tickets = {}
    for n in range(1, 5):
        twins.time_passes(1, 0)
        answer = twins.perform([waiter(f"e{n}", attended=n in (1, 3))])[0]
        assert isinstance(answer, Queued)
        tickets[f"e{n}"] = answer.ticket
    twins.time_passes(3000, 0)
    assert twins.perform([Beat("a", ("e1", "e3"))]) == [Beaten(26_996, (0, 1))]
    positions = [twins.perform([waiter(name, ticket=tickets[name])])[0] for name in ("e3", "e1")]
    assert [position.position for position in positions if isinstance(position, Queued)] == [2, 1]


def test_who_comes_back_too_late_to_wait_is_told_so(twins: Twins) -> None:
    twins.perform([waiter("e0"), waiter("e1", attended=False)])
    answers = twins.perform([waiter("e2", ticket=START_US - 1, timeout_ms=0)])
    assert answers == [Gone()]


def lose_everything_at_once(twins: Twins) -> None:
    """All data is lost, and the next call comes in the same millisecond as those before."""
    twins.redis.wipe()
    twins.redis.set_clock(twins.redis.now_us + 2)
    twins.log.forget_everything()
    twins.model.forget_everything()  # type: ignore[attr-defined]
    twins.seen = 0


@pytest.mark.parametrize(("late_ms", "comes_back"), [(0, True), (29_999, True), (30_000, False), (700_000, False)])
def test_after_a_loss_a_holder_comes_back_within_its_lease_or_never(
    twins: Twins, late_ms: int, comes_back: bool
) -> None:
    granted = twins.perform([waiter("e0")])[0]
    assert isinstance(granted, Granted)
    lose_everything_at_once(twins)
    twins.perform([waiter("e1")])
    twins.time_passes(late_ms, 0)
    answer = twins.perform([Renew("a", "e0", "n-e0", 30_000, granted.fence)])[0]
    assert isinstance(answer, Granted if comes_back else Gone)


def test_a_lease_that_ran_out_after_a_loss_is_not_taken_up_again(twins: Twins) -> None:
    granted = twins.perform([waiter("e0")])[0]
    assert isinstance(granted, Granted)
    lose_everything_at_once(twins)
    renewal = Renew("a", "e0", "n-e0", 30_000, granted.fence)
    assert isinstance(twins.perform([renewal])[0], Granted)
    twins.perform([waiter("e1")._replace(attended=False)])
    twins.time_passes(30_000, 0)
    assert twins.perform([renewal]) == [Gone()], "the slot is another's by now"


def test_a_slot_given_back_after_a_loss_is_not_taken_up_by_a_renewal_that_comes_late(twins: Twins) -> None:
    granted = twins.perform([waiter("e0")])[0]
    assert isinstance(granted, Granted)
    lose_everything_at_once(twins)
    renewal = Renew("a", "e0", "n-e0", 30_000, granted.fence)
    twins.perform([renewal, Release("a", "e0", "n-e0", tomb_ms=600_000)])
    assert twins.perform([renewal]) == [Gone()]


@pytest.mark.parametrize("first", ["waiter", "holder"])
def test_a_loss_within_a_millisecond_of_the_grant_lets_nobody_in_beside_the_holder(twins: Twins, first: str) -> None:
    granted, place = twins.perform([waiter("e0"), waiter("e1")])
    assert isinstance(granted, Granted)
    assert isinstance(place, Queued)
    lose_everything_at_once(twins)
    back = [waiter("e1", ticket=place.ticket), Renew("a", "e0", "n-e0", 30_000, granted.fence)]
    if first == "holder":
        back.reverse()
    answers = {type(act): twins.perform([act])[0] for act in back}
    assert isinstance(answers[Renew], Granted)
    assert answers[Renew][:5] == (granted.fence, 30_000, 30_000, "n-e0", "same")
    assert isinstance(answers[Acquire], Queued), "its ticket is older than the queue: holders may still come back"


@pytest.mark.parametrize(
    ("rate_s", "quota_s", "told"),
    [(60, 5, Limited(60_000, "rate")), (5, 7200, Limited(7_200_000, "quota")), (5, 5, Limited(5_000, "rate"))],
)
def test_of_a_rate_and_a_quota_the_one_that_allows_last_is_told(
    twins: Twins, rate_s: float, quota_s: float, told: Limited
) -> None:
    twins.set_policy("action/a", Policy(rate_limit=Rate(1, rate_s), quota=Rate(1, quota_s)), None)
    twins.perform([waiter("e0"), Release("a", "e0", ANY)])
    assert twins.perform([waiter("e1")._replace(mode="try")]) == [told]
    twins.time_passes(told.retry_in_ms - 1, 999)
    assert twins.perform([waiter("e1")._replace(mode="try")]) == [Limited(1, told.by)]
    twins.time_passes(0, 1)
    assert isinstance(twins.perform([waiter("e1")._replace(mode="try")])[0], Granted)


def test_a_grant_that_is_taken_up_is_not_left_at_its_bell(twins: Twins) -> None:
    twins.perform([waiter("e0"), waiter("e1")])
    twins.perform([Release("a", "e0", "n-e0")])
    twins.the_same_lies_at_the_bells()
    assert twins.rung == ["bell-n-e1"]
    twins.time_passes(499, 0)
    taken_up = twins.perform([Touch("a", "e1", "n-e1", "bell-n-e1", True)])[0]
    assert isinstance(taken_up, Granted)
    assert taken_up.remaining_ms == 30_000
    twins.the_same_lies_at_the_bells()
    assert twins.rung == []


def test_a_grant_in_the_callers_own_inbox_comes_with_the_answer(twins: Twins) -> None:
    mine = [waiter(f"e{n}")._replace(bell=INBOX) for n in range(3)]
    twins.perform(mine, INBOX)
    told = twins.both(
        twins.stored.perform([Release("a", "e0", "n-e0")], INBOX),
        twins.model.perform([Release("a", "e0", "n-e0")], INBOX),
    )
    assert told.rings == [Ring("n-e1", START_US + 1, 2000)]
    assert twins.perform([Touch("a", "e2", "n-e2", None)], INBOX) == [
        Queued(1, 2000, 60_000, START_US + 1, "n-e2", 0, "busy", 1)
    ]
    twins.time_passes(2000, 0)
    assert isinstance(twins.perform([Poke("a"), Touch("a", "e2", "n-e2", None)], INBOX)[1], Granted)


def test_one_call_removes_no_more_than_a_batch_of_the_dead(twins: Twins) -> None:
    twins.perform([waiter("e0", attended=False)])
    twins.perform([waiter(f"w{n:03}") for n in range(100)])
    twins.time_passes(3000, 0)
    twins.perform([Poke("a")])
    before = twins.seen
    twins.they_tell_the_same_story()
    assert twins.seen - before == 64 + 101
    twins.perform([Poke("a")])
    twins.they_tell_the_same_story()
    assert twins.seen - before == 100 + 101

"""Whatever is done to slot queues in whatever order, the scripts do what the model does, and the keys keep their rules.

The scripts run on a real Redis of this test's own, by a clock that the test sets; `model.py` says what they should have
done. What the keys hold is read without the scripts. Failures print the steps and a seed (`@reproduce_failure`).
"""

from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from hypothesis import HealthCheck, event, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from eventlog import Event
from eventlog.plan.drive import run
from eventlog.slots.acts import (
    Acquire,
    Act,
    Answer,
    Beat,
    Beaten,
    Cancel,
    Poke,
    Queued,
    Release,
    Renew,
    Touch,
    fence_key,
)
from eventlog.slots.policy import Policy, Rate, Scope
from tests.contract.slots.clocked import ClockedRedis
from tests.slots.model import Entry, Queue, World
from tests.slots.rig import Rig, Stored
from tests.support.extent import examples
from tests.support.redis_process import RedisProcess

QUEUES = ("a", "a/g", "b")
EXECUTIONS = tuple(f"e{n}" for n in range(1, 7))
INBOXES = ("inbox1", "inbox2")
START_US = 1_800_000_000_000_000
NEAR_AND_FAR = [200, 2500, 60_000, 60_000]
LEASES = st.sampled_from(NEAR_AND_FAR)
TIMEOUTS = st.sampled_from([300, 4000, 60_000, 60_000])
TOMBS = st.sampled_from([0, 0, 600_000])
MOST = st.sampled_from([1, 1, 1, 2, 3, None])
# Which acquisition a key is for: the one that is there, by nonce or by fence; an earlier one's; any; nobody's.
KEYS = st.sampled_from(["now", "now", "now", "fence", "early", "early fence", "any", "nobody"])
QUEUE = st.sampled_from(["a", "a", "a", *QUEUES])
EXECUTION = st.sampled_from(EXECUTIONS)
BACK = st.integers(0, 5)
INBOX = st.sampled_from(["", *INBOXES])
BELL = st.sampled_from(["-", "own", "own", *INBOXES])
ACQUIRE = st.fixed_dictionaries(
    {
        "act": st.just("acquire"),
        "nonce": st.sampled_from(["new", "new", "new", "early"]),
        "lease_ms": LEASES,
        "timeout_ms": TIMEOUTS,
        "max_concurrent": MOST,
        "max_length": st.sampled_from([1, 3, 10_000, 10_000]),
        "pack": st.sampled_from(["-", "-", "p"]),
        "mode": st.sampled_from(["line", "line", "line", "try", "adopt"]),
        "bell": BELL,
        "attended": st.booleans(),
        "owner": st.sampled_from(["-", "host:1"]),
        "ticket": st.sampled_from([None, None, "early"]),
    }
)
TOUCH = st.fixed_dictionaries(
    {
        "act": st.just("touch"),
        "key": KEYS,
        "bell": st.sampled_from([None, "own", "-", *INBOXES]),
        "attended": st.booleans(),
    }
)
RENEW = st.fixed_dictionaries(
    {
        "act": st.just("renew"),
        "key": KEYS,
        "lease_ms": st.none() | LEASES,
        "fence": st.sampled_from([None, "early", "early"]),
    }
)
RELEASE = st.fixed_dictionaries(
    {"act": st.just("release"), "key": KEYS, "tomb_ms": TOMBS, "not_after": st.sampled_from([None, None, -20_000, 0])}
)
CANCEL = st.fixed_dictionaries(
    {"act": st.just("cancel"), "key": KEYS, "tomb_ms": TOMBS, "how": st.sampled_from(["cancelled", "timed_out"])}
)
BEAT = st.fixed_dictionaries({"act": st.just("beat"), "others": st.lists(EXECUTION, max_size=2)})
POKE = st.fixed_dictionaries({"act": st.just("poke")})
ACT = st.sampled_from([ACQUIRE, ACQUIRE, TOUCH, RENEW, RELEASE, RELEASE, CANCEL, BEAT, POKE]).flatmap(lambda one: one)
DRAFT = st.tuples(QUEUE, EXECUTION, BACK, ACT)
SCOPES = st.sampled_from(
    [Scope.parse(text) for text in ("global", "pack/p", "action/a", "action/a", "queue/a", "queue/a/g")]
)
RATES = st.builds(Rate, st.integers(1, 3), st.sampled_from([2.0, 60.0]))
QUOTAS = st.builds(Rate, st.integers(1, 3), st.sampled_from([3.0, 3600.0]))
POLICIES = st.none() | st.builds(
    Policy,
    max_concurrent=st.none() | st.integers(1, 3),
    rate_limit=st.none() | st.none() | RATES,
    quota=st.none() | st.none() | QUOTAS,
    max_queue_length=st.none() | st.none() | st.integers(1, 4),
    queue_timeout_seconds=st.none() | st.none() | st.sampled_from([1.5, 60.0]),
    log_transitions=st.sampled_from([None, None, None, None, None, True, False]),
)


class Histories(RuleBasedStateMachine):
    """Rules are what any process may do at any time, and what may happen to Redis."""

    def __init__(self, server: RedisProcess, clock: ClockedRedis) -> None:
        super().__init__()
        self.clock = clock
        self.rig = Rig(server, link=clock)
        self.calls: list[tuple[list[Act], str]] = []
        self.made = 0
        # What acquisitions there were: (queue, execution) -> nonces, tickets and fences, the latest first.
        self.nonces: dict[tuple[str, str], list[str]] = {}
        self.tickets: dict[tuple[str, str], list[int]] = {}
        self.fences: dict[tuple[str, str], list[int]] = {}
        self.highest: dict[str, int] = {}

    @initialize()
    def begin(self) -> None:
        self.clock.begin(START_US)
        self.start_over()
        self.has_lost_data = False

    def start_over(self) -> None:
        """Of an empty Redis."""
        self.model = World()
        self.model.set_clock(self.clock.now_us)
        self.followed = 0
        self.standing: dict[str, tuple[dict[str, int], list[str]]] = {name: ({}, []) for name in QUEUES}
        self.quiet_since = False

    def teardown(self) -> None:
        try:
            assert self.rig.problems() == []
        finally:
            self.rig.client.close()

    def queue(self, name: str) -> Queue:
        """What the model knows of a queue, which may be nothing."""
        return self.model.queues.get(name) or Queue(name, self.model)

    def set_clock(self, micros: int) -> None:
        self.clock.set_clock(micros)
        self.model.set_clock(micros)

    # Calls, and what becomes of them

    def call(self, acts: Sequence[Act], inbox: str = "") -> None:
        """Carry out acts, and have the model do the same at the same microsecond."""
        self.set_clock(self.clock.now_us + (1, 700, 3, 1900)[len(self.calls) % 4])
        performed = self.rig.perform(*acts, inbox=inbox)
        expected = self.model.perform(acts, inbox)
        assert performed.now_ms == self.model.now
        for act, answer, right in zip(acts, performed.answers, expected, strict=True):
            assert _without_look(answer) == _without_look(right), act
            self.remember(act, answer)
            event(f"{type(act).__name__} {type(answer).__name__}")
            if isinstance(answer, Queued | Beaten) and isinstance(right, Queued | Beaten):
                # To look too early is a waste, to look too late is time lost.
                assert answer.look_in_ms <= right.look_in_ms or right.look_in_ms == 0
                assert (answer.look_in_ms > 0) == (right.look_in_ms > 0) or isinstance(answer, Beaten)
        assert list(performed.rings) == self.model.rung
        self.follow()
        for name in {act.queue for act in acts} & self.model.queues.keys():
            self.check_after_call(self.model.queues[name])

    def remember(self, act: Act, answer: Answer) -> None:
        if not isinstance(act, Acquire):
            return
        who = (act.queue, act.execution)
        known = self.nonces.setdefault(who, [])
        if act.nonce not in known:
            known.insert(0, act.nonce)
        if isinstance(answer, Queued):
            self.tickets.setdefault(who, []).insert(0, answer.ticket)

    def check_after_call(self, queue: Queue) -> None:
        """No slot is free while somebody waits who lives; nobody is there who has expired."""
        (stored,) = self.rig.stored(queue.name)
        now, limits = self.model.now, queue.limits()
        if stored.line and limits.rate is None and limits.quota is None and queue.hold <= now:
            assert limits.most is not None
            assert len(stored.held) >= limits.most, f"{stored.line} wait in {queue.name}"
        assert all(until > now for until in [*stored.waits.values(), *stored.held.values()])

    def follow(self) -> None:
        """The log tells what the model tells, and from the log alone one knows who holds and who waits."""
        events = self.rig.told(self.followed)
        self.followed += len(events)
        assert [(e.kind, dict(e.payload)) for e in events] == self.model.told
        assert all(e.visibility == "internal" for e in events)
        self.model.told.clear()
        for one in events:
            self.fold(one)
        if any(self.model.queues[name].limits().quiet for name in self.model.queues):
            self.quiet_since = True
        if not self.quiet_since:
            for name, (holders, waiters) in self.standing.items():
                queue = self.queue(name)
                assert holders == {execution: entry.fence for execution, entry in queue.holders().items()}
                assert waiters == queue.line

    def fold(self, one: Event) -> None:
        said = one.payload
        name = said["action"] + ("/" + said["group"] if "group" in said else "")
        holders, waiters = self.standing[name]
        if one.kind == "slot.cleared":
            holders.clear()
            waiters.clear()
            return
        execution, fence = said["execution_id"], said.get("fencing_token", 0)
        if one.kind == "slot.queued":
            waiters.insert(said["position"] - 1, execution)
        elif one.kind == "slot.granted":
            if execution in waiters:
                waiters.remove(execution)
            holders[execution] = fence
            if "restored" not in said:
                assert fence > self.highest.get(name, 0), "fences only grow"
            self.highest[name] = max(fence, self.highest.get(name, 0))
            self.fences.setdefault((name, execution), []).insert(0, fence)
        elif fence:
            if not self.quiet_since:
                assert holders[execution] == fence
            holders.pop(execution, None)
        elif execution in waiters:
            waiters.remove(execution)

    # Rules

    def carry_out(self, acts: list[Act], inbox: str) -> None:
        """What is done most, one act on one queue, is done by a shorter way."""
        self.calls.append((acts, inbox))
        self.call(acts, inbox)

    @rule(queue=QUEUE, names=st.lists(EXECUTION, min_size=1, max_size=4), given=ACQUIRE, inbox=INBOX)
    def come(self, queue: str, names: list[str], given: dict[str, Any], inbox: str) -> None:
        """Executions ask for a slot and have time."""
        patient = {**given, "nonce": "new", "mode": "line", "ticket": None, "timeout_ms": 60_000, "max_length": 10_000}
        self.carry_out([self.act(queue, name, 0, patient) for name in names], inbox)

    @precondition(lambda self: any(queue.holders() for queue in self.model.queues.values()))
    @rule(back=BACK, inbox=INBOX, more=st.none() | DRAFT)
    def finish(self, back: int, inbox: str, more: Any) -> None:
        """A holder gives its slot back."""
        holding = [
            Release(queue.name, name, entry.nonce)
            for queue in self.model.queues.values()
            for name, entry in sorted(queue.holders().items())
        ]
        self.carry_out([holding[back % len(holding)], *([self.act(*more)] if more else [])], inbox)

    @rule(queue=QUEUE, execution=EXECUTION, back=BACK, given=ACQUIRE, inbox=INBOX)
    def ask(self, queue: str, execution: str, back: int, given: dict[str, Any], inbox: str) -> None:
        self.carry_out([self.act(queue, execution, back, given)], inbox)

    @rule(draft=DRAFT, inbox=INBOX)
    def do(self, draft: Any, inbox: str) -> None:
        self.carry_out([self.act(*draft)], inbox)

    @rule(drafts=st.lists(DRAFT, min_size=2, max_size=4), inbox=INBOX)
    def do_several(self, drafts: list[Any], inbox: str) -> None:
        """One process sends some acts in one call."""
        self.carry_out([self.act(*draft) for draft in drafts], inbox)

    @precondition(lambda self: self.has_lost_data)
    @rule(queue=QUEUE, names=st.lists(EXECUTION, min_size=1, max_size=4), holders=st.booleans())
    def some_come_back(self, queue: str, names: list[str], holders: bool) -> None:
        self.come_back(queue, names, holders)

    def come_back(self, queue: str, names: Sequence[str], holders: bool) -> None:
        """Those who had a slot or a place say so, as they do after Redis has lost its data."""
        acts: list[Act] = []
        for name in names:
            who = (queue, name)
            nonce = self.nonce(queue, name, 0)
            if holders and who in self.fences:
                acts.append(Renew(queue, name, nonce, 60_000, self.fences[who][0]))
            elif who in self.tickets:
                acts.append(Acquire(queue, name, nonce, 60_000, 60_000, bell=nonce, ticket=self.tickets[who][0]))
        if acts:
            self.carry_out(acts, "")

    @precondition(lambda self: self.calls)
    @rule(back=st.integers(0, 9))
    def a_copy_of_an_earlier_call_arrives(self, back: int) -> None:
        acts, inbox = self.calls[-1 - back % len(self.calls)]
        self.call(acts, inbox)

    @rule(scope=SCOPES, policy=POLICIES, taken_up=st.booleans())
    def put_policy(self, scope: Scope, policy: Policy | None, taken_up: bool) -> None:
        """`taken_up` False: the process ended before it told the queues."""
        no_queues_to_tell = lambda command: [] if command.args[0] == "ZRANGE" else self.rig.execute(command)  # noqa: E731
        run(self.rig.slots.put_policy(scope, policy, None), no_queues_to_tell)
        if policy is None:
            self.model.policies.pop(scope, None)
        else:
            self.model.policies[scope] = policy
        if taken_up:
            self.call([Poke(queue) for queue in QUEUES if scope.covers(queue)])

    def clear(self, names: list[str]) -> None:
        cleared = run(self.rig.slots.clear(names), self.rig.execute)
        assert tuple(cleared) == self.model.clear(names)
        self.follow()

    @precondition(lambda self: any(self.model.bells.values()))
    @rule(back=BACK, most=st.sampled_from([1, 100]))
    def listen(self, back: int, most: int) -> None:
        """A waiter reads its bell."""
        bells = sorted(bell for bell, rings in self.model.bells.items() if rings)
        bell = bells[back % len(bells)]
        lying = self.model.bells[bell]
        heard = self.rig.listen(bell, most)
        assert len(heard) == min(most, len(lying))
        for ring in heard:
            lying.remove(ring)  # in which order those of one call are rung is nobody's business

    @rule(ms=st.sampled_from([0, 0, -1, -1, 1, 100, 400, 600, 1600, 2900, 20_000]))
    def time_passes(self, ms: int) -> None:
        """0: until something falls due; -1: until just before."""
        at_ms = self.model.now + ms
        if ms <= 0:
            at_ms = ms + min((due for queue in self.model.queues.values() if (due := queue.falls_due())), default=0)
        if at_ms > self.model.now:
            self.set_clock(at_ms * 1000)

    @rule(
        what=st.sampled_from(["data", "data", "clear", "clear all", "look", "look"]), most=st.sampled_from([0, 2, 100])
    )
    def look_and_intervene(self, what: str, most: int) -> None:
        if what == "data":
            # A server does not come back within the microseconds that fences may be ahead of the clock.
            self.clock.now_us += 1000
            self.clock.wipe()
            self.start_over()
            self.has_lost_data = True
            self.come_back("a", EXECUTIONS[:3], holders=most > 0)
        elif what != "look":
            self.clear(["a"] if what == "clear" else list(QUEUES))
        self.look(most)

    def look(self, most: int) -> None:
        """Statistics are exact, and looking changes nothing."""
        before = self.rig.stored(*QUEUES)
        for found in run(self.rig.slots.stats(QUEUES, most), self.rig.execute):
            name = found.action + (f"/{found.group_key}" if found.group_key else "")
            queue = self.queue(name)
            now = self.model.now
            live = {
                who: entry
                for who, entry in queue.book.items()
                if entry.until > now or (entry.unread and entry.claim_end > now)
            }
            holders = sorted(
                ((entry.until, who, entry) for who, entry in live.items() if entry.fence), key=lambda one: one[:2]
            )
            assert found.active_count == len(holders)
            assert found.queue_length == len(live) - len(holders)
            assert [
                (one.execution_id, one.fencing_token, one.granted_at, one.lease_expires_at) for one in found.holders
            ] == [
                (who, entry.fence, entry.granted / 1000, (entry.claim_end or until) / 1000)
                for until, who, entry in holders[:most]
            ]
            listed = [who for who in queue.line[:most] if who in live]
            assert [(one.execution_id, one.enqueued_at) for one in found.waiters] == [
                (who, live[who].ticket / 1_000_000) for who in listed
            ]
            limits = queue.limits()
            assert found.max_concurrent == limits.most
            assert (found.policy.rate_limit is None) == (limits.rate is None)
            assert found.policy.max_queue_length == limits.length
            assert found.total_enqueued == queue.counts["enqueued"]
            assert found.total_completed == queue.counts["released"]
            assert found.total_expired == queue.counts["expired"]
            assert found.total_timed_out == queue.counts["timed_out"]
            assert found.total_cancelled == queue.counts["cancelled"]
        assert self.rig.stored(*QUEUES) == before
        for who in EXECUTIONS[:2]:
            knowing = run(self.rig.slots.find(who, QUEUES), self.rig.execute)
            assert knowing == [name for name in QUEUES if who in self.queue(name).book]

    # What holds at any time, read from the keys

    @invariant()
    def the_keys_hold_what_the_model_holds(self) -> None:
        if not hasattr(self, "model"):
            return
        for name, stored in zip(QUEUES, self.rig.stored(*QUEUES), strict=True):
            self.check_keys(self.queue(name), stored)

    def check_keys(self, queue: Queue, stored: Stored) -> None:
        assert set(stored.waits) == set(stored.line)
        assert len(stored.line) == len(set(stored.line))
        assert not set(stored.line) & set(stored.held)
        assert set(stored.book) == set(stored.line) | set(stored.held)
        tickets = [int(stored.book[who][2]) for who in stored.line]
        assert tickets == sorted(tickets), "the line is in the order of the tickets"
        assert stored.line == queue.line
        assert stored.held == {who: entry.until for who, entry in queue.holders().items()}
        assert stored.waits == {who: entry.until for who, entry in queue.waiters().items()}
        assert stored.book == {who: _record(entry) for who, entry in queue.book.items()}
        state = {key: value for key, value in stored.state.items() if key not in ("next", "upkeep")}
        assert state == _state(queue)
        if stored.book:
            assert int(stored.state["next"]) <= min([*stored.held.values(), *stored.waits.values()])

    @invariant()
    def bells_hold_what_was_rung_and_not_read(self) -> None:
        if not hasattr(self, "model"):
            return
        assert self.clock.bells() == {bell: sorted(rings) for bell, rings in self.model.bells.items() if rings}

    @invariant()
    def tombs_are_of_those_who_are_over(self) -> None:
        if hasattr(self, "model"):
            assert self.clock.buried() == self.model.tombs.keys()

    # Drafts made into acts

    def nonce(self, queue: str, execution: str, back: int) -> str:
        known = self.nonces.get((queue, execution), ["nobody"])
        return known[back % len(known)]

    def key(self, which: str, queue: str, execution: str, back: int) -> str:
        entry = self.model.queues[queue].book.get(execution) if queue in self.model.queues else None
        fences = self.fences.get((queue, execution), [1])
        match which:
            case "now":
                return entry.nonce if entry else self.nonce(queue, execution, 0)
            case "fence":
                return fence_key(entry.fence if entry else fences[0])
            case "early":
                return self.nonce(queue, execution, back)
            case "early fence":
                return fence_key(fences[back % len(fences)])
        return "*" if which == "any" else "nobody"

    def act(self, queue: str, execution: str, back: int, draft: dict[str, Any]) -> Act:
        given = dict(draft)
        kind = given.pop("act")
        known = sorted(self.model.queues[queue].book) if queue in self.model.queues else []
        if known and kind != "acquire":
            # Of those who are there, lest most acts speak of nobody.
            execution = known[EXECUTIONS.index(execution) % len(known)]
        if kind == "poke":
            return Poke(queue)
        if kind == "beat":
            return Beat(queue, tuple(dict.fromkeys([execution, *given["others"], *self.queue(queue).line])))
        if kind == "acquire":
            self.made += 1
            fresh = given.pop("nonce") == "new"
            nonce = f"n{self.made}" if fresh else self.nonce(queue, execution, back)
            tickets = self.tickets.get((queue, execution), [])
            ticket = tickets[back % len(tickets)] if given["ticket"] and tickets else None
            bell = nonce if given["bell"] == "own" else given["bell"]
            return Acquire(queue, execution, nonce, **{**given, "bell": bell, "ticket": ticket})
        key = self.key(given.pop("key"), queue, execution, back)
        if kind == "touch":
            return Touch(queue, execution, key, **{**given, "bell": key if given["bell"] == "own" else given["bell"]})
        if kind == "renew":
            fences = self.fences.get((queue, execution), [])
            fence = fences[back % len(fences)] if given["fence"] and fences else None
            return Renew(queue, execution, key, given["lease_ms"], fence)
        if kind == "release":
            not_after = given["not_after"]
            limit = None if not_after is None else self.model.now + not_after
            return Release(queue, execution, key, given["tomb_ms"], limit)
        return Cancel(queue, execution, key, given["tomb_ms"], given["how"])


def _without_look(answer: Answer) -> Answer:
    return answer._replace(look_in_ms=0) if isinstance(answer, Queued | Beaten) else answer


def _record(entry: Entry) -> list[str]:
    if not entry.fence:
        said: list[object] = ["W", entry.nonce, entry.ticket, entry.deadline, entry.lease, entry.bell]
        return [str(one) for one in [*said, int(entry.attended), entry.owner]]
    said = ["C" if entry.unread else "H", entry.nonce, entry.ticket, entry.granted, entry.lease, entry.bell]
    return [str(one) for one in [*said, entry.claim_end, entry.owner, entry.fence]]


def _state(queue: Queue) -> dict[str, str]:
    """The fields of a queue's state as they should be stored."""
    if queue.born is None:
        return {}
    said: dict[str, object] = {"born": queue.born, "fence": queue.fence, "ticket": queue.ticket, "hold": queue.hold}
    said |= {"reset": queue.reset, "limit": queue.caller_limit or 0, **queue.counts}
    if queue.pack != "-":
        said["pack"] = queue.pack
    if queue.window != (0, 0):
        said["quota"] = f"{queue.window[0]} {queue.window[1]}"
    return {field: str(value) for field, value in said.items() if value != 0}


@pytest.fixture
def server() -> Iterator[RedisProcess]:
    """A server that the machine may flush."""
    with RedisProcess(appendonly=False) as process:
        yield process


@pytest.mark.timeout(600)  # it takes seconds; a failure takes minutes to be made small
def test_any_history_is_what_the_model_says(server: RedisProcess) -> None:
    clock = ClockedRedis(server.url)
    try:
        run_state_machine_as_test(
            lambda: Histories(server, clock),  # type: ignore[arg-type]  # any factory will do
            settings=settings(
                max_examples=examples(120),
                stateful_step_count=40,
                deadline=None,
                print_blob=True,
                suppress_health_check=list(HealthCheck),
            ),
        )
    finally:
        clock.close()

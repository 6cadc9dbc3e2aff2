"""Whatever is done to slot queues in whatever order, the scripts do what the model does, and the keys keep their rules.

The scripts run on a real Redis of this test's own; `model.py` says what they should have done. Redis' clock is its own:
each call ends with an acquire in a queue of its own, whose fence *is* the time of the call in microseconds, and
that is the model's. What takes seconds in life takes milliseconds here. Failures print the steps and a seed.
"""

import contextlib
import copy
import hashlib
import re
from collections.abc import Iterator, Sequence
from functools import cache
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

import eventlog.slots.redis
from eventlog import Event, create_event_log
from eventlog.drive import run
from eventlog.slots.acts import (
    Acquire,
    Act,
    Answer,
    Beat,
    Beaten,
    Cancel,
    Granted,
    Poke,
    Queued,
    Release,
    Renew,
    Touch,
    fence_key,
)
from eventlog.slots.policy import Policy, Rate, Scope
from eventlog.store.scripts import Script, script
from tests.slots.model import Entry, Queue, Times, World
from tests.slots.rig import Rig, Stored
from tests.support.redis_process import RedisProcess

QUEUES = ("a", "a/g", "b")
EXECUTIONS = tuple(f"e{n}" for n in range(1, 7))
INBOXES = ("inbox1", "inbox2")
HURRIED = Times(unread_ms=6, claim_ms=25, silence_ms=40, near=3)
HURRY = (
    (rb"UNREAD_MS, CLAIM_MS = 500, 2000\b", f"UNREAD_MS, CLAIM_MS = {HURRIED.unread_ms}, {HURRIED.claim_ms}"),
    (rb"SILENCE_MS = 3000\b", f"SILENCE_MS = {HURRIED.silence_ms}"),
    (rb"NEAR = 16\b", f"NEAR = {HURRIED.near}"),
)


@cache
def hurried(name: str) -> Script:
    """A script in which what takes seconds takes milliseconds."""
    source = script(name).source
    if name == "slot_calls":
        for pattern, quick in HURRY:
            source, found = re.subn(pattern, quick.encode(), source)
            assert found == 1, f"{pattern!r} is in the script {found} times"
    return Script(name, source, hashlib.sha1(source, usedforsecurity=False).hexdigest())


NEAR_AND_FAR = [8, 30, 60_000]
LEASES = st.sampled_from(NEAR_AND_FAR)
TIMEOUTS = st.sampled_from([8, 40, 60_000, 60_000])
TOMBS = st.sampled_from([0, 0, 600_000])
MOST = st.sampled_from([None, 1, 1, 1, 2, 3])
# Which acquisition a key is for: the one that is there, by nonce or by fence; an earlier one's; any; nobody's.
KEYS = st.sampled_from(["now", "now", "now", "fence", "early", "early fence", "any", "nobody"])
QUEUE = st.sampled_from(["a", "a", "a", *QUEUES])
EXECUTION = st.sampled_from(EXECUTIONS)
ACTS = st.one_of(
    *[
        st.fixed_dictionaries(
            {
                "act": st.just("acquire"),
                "nonce": st.sampled_from(["new", "new", "new", "early"]),
                "lease_ms": LEASES,
                "timeout_ms": TIMEOUTS,
                "max_concurrent": MOST,
                "max_length": st.sampled_from([1, 3, 10_000, 10_000]),
                "pack": st.sampled_from(["-", "-", "p"]),
                "mode": st.sampled_from(["line", "line", "line", "try", "adopt"]),
                "bell": st.sampled_from(["-", "own", "own", *INBOXES]),
                "attended": st.booleans(),
                "owner": st.sampled_from(["-", "host:1"]),
                "ticket": st.sampled_from([None, None, "early"]),
            }
        )
    ]
    * 3,
    st.fixed_dictionaries(
        {
            "act": st.just("touch"),
            "key": KEYS,
            "bell": st.sampled_from([None, "own", "-", *INBOXES]),
            "attended": st.booleans(),
        }
    ),
    st.fixed_dictionaries(
        {
            "act": st.just("renew"),
            "key": KEYS,
            "lease_ms": st.none() | LEASES,
            "fence": st.sampled_from([None, "early", "early"]),
        }
    ),
    st.fixed_dictionaries(
        {"act": st.just("release"), "key": KEYS, "tomb_ms": TOMBS, "not_after": st.sampled_from([None, None, -20, 20])}
    ),
    st.fixed_dictionaries(
        {
            "act": st.just("cancel"),
            "key": KEYS,
            "tomb_ms": TOMBS,
            "how": st.sampled_from(["cancelled", "timed_out"]),
        }
    ),
    st.fixed_dictionaries({"act": st.just("beat"), "others": st.lists(EXECUTION, max_size=4)}),
    st.fixed_dictionaries({"act": st.just("poke")}),
)
DRAFTS = st.tuples(QUEUE, EXECUTION, st.integers(0, 5), ACTS)
SCOPES = st.sampled_from(
    [Scope.parse(text) for text in ("global", "pack/p", "action/a", "action/a", "queue/a", "queue/a/g")]
)
RATES = st.builds(Rate, st.integers(1, 3), st.sampled_from([0.03, 60.0]))
QUOTAS = st.builds(Rate, st.integers(1, 3), st.sampled_from([0.05, 3600.0]))
POLICIES = st.none() | st.builds(
    Policy,
    max_concurrent=st.none() | st.integers(1, 3),
    rate_limit=st.none() | st.none() | RATES,
    quota=st.none() | st.none() | QUOTAS,
    max_queue_length=st.none() | st.none() | st.integers(1, 4),
    queue_timeout_seconds=st.none() | st.none() | st.sampled_from([0.02, 60.0]),
    log_transitions=st.sampled_from([None, None, None, None, None, True, False]),
)


class Histories(RuleBasedStateMachine):
    """Rules are what any process may do at any time, and what may happen to Redis."""

    def __init__(self, server: RedisProcess) -> None:
        super().__init__()
        self.server = server
        self.rig = Rig(server)
        self.log = create_event_log("redis", url=server.url, workspace="w")
        self.calls: list[tuple[list[Act], str]] = []
        self.trace: list[str] = []
        self.made = 0
        # What acquisitions there were: (queue, execution) -> nonces, tickets and fences, the latest first.
        self.nonces: dict[tuple[str, str], list[str]] = {}
        self.tickets: dict[tuple[str, str], list[int]] = {}
        self.fences: dict[tuple[str, str], list[int]] = {}
        self.highest: dict[str, int] = {}

    @initialize()
    def begin(self) -> None:
        self.rig.client.flushall()
        self.start_over()

    def start_over(self) -> None:
        """Of an empty Redis."""
        self.model = World(HURRIED)
        self.followed = 0
        self.standing: dict[str, tuple[dict[str, int], list[str]]] = {name: ({}, []) for name in QUEUES}
        self.quiet_since = False

    def teardown(self) -> None:
        self.log.close()
        self.rig.close()

    # Calls, and what becomes of them

    def call(self, acts: Sequence[Act], inbox: str = "", alone: bool = False) -> None:
        """Carry out acts, and have the model do the same at that instant. `alone`: without the act for the clock."""
        self.made += 1
        limits = {queue: self.model.queues[queue].limits().most for queue in self.model.queues}
        clock = Acquire(f"clock{self.made}", "c", f"c{self.made}", 1, 1)
        performed = self.rig.perform(*acts, *(() if alone else (clock,)), inbox=inbox)
        now_ms = performed.now_ms
        self.trace.append(f"{now_ms} {inbox} {acts} -> {performed.answers}")
        micros = self.micros_of(acts, inbox, now_ms) if alone else _fence(performed.answers.pop())
        assert micros // 1000 == now_ms
        expected = self.model.perform(now_ms, micros, acts, inbox)
        with self.told_how_it_came():
            for act, answer, right in zip(acts, performed.answers, expected, strict=True):
                assert _without_look(answer) == _without_look(right), f"{act} at {now_ms}"
                self.remember(act, answer)
                event(f"{type(act).__name__} {type(answer).__name__}")
                if isinstance(answer, Queued | Beaten) and isinstance(right, Queued | Beaten):
                    # To look too early is a waste, to look too late is time lost.
                    assert answer.look_in_ms <= right.look_in_ms or right.look_in_ms == 0
                    assert (answer.look_in_ms > 0) == (right.look_in_ms > 0) or isinstance(answer, Beaten)
            self.follow()
            for name in {act.queue for act in acts} & self.model.queues.keys():
                self.check_after_call(name, now_ms, limits.get(name))

    def micros_of(self, acts: Sequence[Act], inbox: str, now_ms: int) -> int:
        """The time of a call to the microsecond, by the first number that it gave; any of that ms if it gave none."""
        self.model.numbered.clear()
        rehearsal = copy.deepcopy(self.model)
        rehearsal.perform(now_ms, now_ms * 1000, acts, inbox)
        (stored,) = self.rig.stored(acts[0].queue)
        for kind in ("fence", "ticket"):
            given = [what for _, what in rehearsal.numbered].count(kind)
            before = self.model.queues.get(acts[0].queue, Queue("", self.model))
            first = int(stored.state.get(kind, 0)) - given + 1
            if given and first > (before.fence if kind == "fence" else before.ticket) + 1:
                return first
        return now_ms * 1000

    @contextlib.contextmanager
    def told_how_it_came(self) -> Iterator[None]:
        """What fails once may not fail again: time is part of it."""
        try:
            yield
        except AssertionError as error:
            error.add_note("\n".join(["So it came:", *self.trace]))
            raise

    def remember(self, act: Act, answer: Answer) -> None:
        if not isinstance(act, Acquire):
            return
        who = (act.queue, act.execution)
        known = self.nonces.setdefault(who, [])
        if act.nonce not in known:
            known.insert(0, act.nonce)
        if isinstance(answer, Queued):
            self.tickets.setdefault(who, []).insert(0, answer.ticket)

    def check_after_call(self, name: str, now_ms: int, most_before: int | None) -> None:
        """No slot is free while somebody waits who lives: seen in the keys alone, but for the limits."""
        (stored,) = self.rig.stored(name)
        queue = self.model.queues[name]
        most = queue.limits().most
        if stored.line and queue.in_the_way()[0] in ("", "busy") and queue.hold <= now_ms:
            assert most is not None
            assert len(stored.held) >= most, f"{stored.line} wait in {name}"
        assert all(until > now_ms for until in stored.waits.values())
        assert all(until > now_ms for until in stored.held.values())

    def follow(self) -> None:
        """The log tells what the model tells, and from the log alone one knows who holds and who waits."""
        events = self.log.query(since=self.followed)
        self.followed = events[-1].offset if events else self.followed
        events = [e for e in events if not e.payload["action"].startswith("clock")]
        assert [(e.kind, dict(e.payload)) for e in events] == self.model.told
        assert all(e.visibility == "internal" for e in events)
        self.model.told.clear()
        for one in events:
            self.fold(one)
        if any(self.model.queues[name].limits().quiet for name in self.model.queues):
            self.quiet_since = True
        if not self.quiet_since:
            for name, (holders, waiters) in self.standing.items():
                queue = self.model.queues.get(name, Queue(name, self.model))
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
        execution, fence = said["execution_id"], said.get("fencing_token")
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
        elif fence is not None:
            if not self.quiet_since:
                assert holders[execution] == fence
            holders.pop(execution, None)
        elif execution in waiters:
            waiters.remove(execution)

    # Rules

    @rule(draft=DRAFTS, inbox=st.sampled_from(["", *INBOXES]))
    def perform_one(self, draft: Any, inbox: str) -> None:
        """One act on one queue: what is done most is done by a shorter way."""
        act = self.act(*draft)
        self.calls.append(([act], inbox))
        self.call([act], inbox, alone=True)

    @rule(drafts=st.lists(DRAFTS, min_size=1, max_size=3), inbox=st.sampled_from(["", *INBOXES]))
    def perform(self, drafts: list[Any], inbox: str) -> None:
        """One process sends some acts in one call."""
        acts = [self.act(*draft) for draft in drafts]
        self.calls.append((acts, inbox))
        self.call(acts, inbox)

    @precondition(lambda self: self.calls)
    @rule(back=st.integers(0, 9))
    def a_copy_of_an_earlier_call_arrives(self, back: int) -> None:
        acts, inbox = self.calls[-1 - back % len(self.calls)]
        self.call(acts, inbox, alone=len(acts) == 1)

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

    @rule(most=MOST, queue=QUEUE)
    def set_limit(self, most: int | None, queue: str) -> None:
        self.put_policy(Scope("queue", queue), most and Policy(most), True)

    @rule(queues=st.sets(QUEUE, min_size=1))
    def clear(self, queues: set[str]) -> None:
        names = sorted(queues)
        cleared = run(self.rig.slots.clear(names), self.rig.execute)
        stored = dict(zip(names, self.rig.stored(*names), strict=True))
        resets = {int(one.state.get("reset", 0)) for one in stored.values()}
        assert tuple(cleared) == self.model.clear(max(resets), names)
        self.follow()

    @rule(bell=st.sampled_from(["own", "own", *INBOXES]), who=EXECUTION, queue=QUEUE, most=st.sampled_from([1, 100]))
    def listen(self, bell: str, who: str, queue: str, most: int) -> None:
        """A waiter reads its bell."""
        bell = self.nonce(queue, who, 0) if bell == "own" else bell
        lying = self.model.bells[bell]
        if lying:
            assert self.rig.listen(bell, most) == lying[:most]
            self.model.bells[bell] = lying[most:]

    @rule(most=st.integers(1, 45))
    def time_passes(self, most: int) -> None:
        """Until something falls due, if that is soon."""
        now = self.rig.now_ms()
        moments = [due for queue in self.model.queues.values() if (due := queue.falls_due()) and due > now]
        self.rig.wait_until(min([now + most, *moments]))

    @rule()
    def scripts_are_flushed(self) -> None:
        self.rig.client.script_flush()

    @rule(sure=st.integers(0, 3))
    def data_is_lost(self, sure: int) -> None:
        if sure == 0:
            self.rig.client.flushall()
            self.start_over()

    @rule(most=st.sampled_from([0, 2, 100]))
    def look(self, most: int) -> None:
        """Statistics are exact, and looking changes nothing."""
        before = self.rig.stored(*QUEUES)
        for found in run(self.rig.slots.stats(QUEUES, most), self.rig.execute):
            name = found.action + (f"/{found.group_key}" if found.group_key else "")
            queue = self.model.queues.get(name, Queue(name, self.model))
            queue.world.now = now = round(found.time * 1000)
            live = {who: entry for who, entry in queue.book.items() if entry.until > now}
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
            assert knowing == [
                name for name in QUEUES if who in self.model.queues.get(name, Queue(name, self.model)).book
            ]

    # What holds at any time, read from the keys

    @invariant()
    def the_keys_hold_what_the_model_holds(self) -> None:
        if not hasattr(self, "model"):
            return
        with self.told_how_it_came():
            for name, stored in zip(QUEUES, self.rig.stored(*QUEUES), strict=True):
                self.check_keys(self.model.queues.get(name, Queue(name, self.model)), stored)

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
        prefix = self.rig.keys.bell
        with self.rig.client.pipeline() as pipe:
            found = sorted(key.decode() for key in self.rig.client.keys(f"{_escaped(prefix)}*"))  # type: ignore[union-attr]
            for key in found:
                pipe.lrange(key, 0, -1)
            lying = dict(zip(found, pipe.execute(), strict=True))
        assert {key.removeprefix(prefix): [raw.decode() for raw in raws] for key, raws in lying.items()} == {
            bell: [f"{ring.nonce} {ring.fence} {ring.valid_ms}" for ring in rings]
            for bell, rings in self.model.bells.items()
            if rings
        }

    @invariant()
    def every_key_has_an_end(self) -> None:
        if not hasattr(self, "model"):
            return
        ours = [key for key in self.rig.client.keys("*") if b":slots:clock" not in key]  # type: ignore[union-attr]
        ours = [key for key in ours if key.decode() not in (self.rig.keys.meta, self.rig.keys.policies)]
        with self.rig.client.pipeline() as pipe:
            for key in ours:
                pipe.pttl(key)
            ends = dict(zip(ours, pipe.execute(), strict=True))
        assert [key for key, left in ends.items() if left == -1] == []

    @invariant()
    def the_log_is_sound(self) -> None:
        if hasattr(self, "model"):
            assert self.log.verify().problems == []

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
        if kind == "poke":
            return Poke(queue)
        if kind == "beat":
            return Beat(queue, tuple(dict.fromkeys([execution, *given["others"]])))
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
            limit = None if not_after is None else self.rig.now_ms() + not_after
            return Release(queue, execution, key, given["tomb_ms"], limit)
        return Cancel(queue, execution, key, given["tomb_ms"], given["how"])


def _fence(clock: Answer) -> int:
    assert isinstance(clock, Granted)
    return clock.fence


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


def _escaped(pattern: str) -> str:
    return re.sub(r"([\[\]{}*?\\])", r"\\\1", pattern)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[RedisProcess]:
    """A server that the machine may flush."""
    monkeypatch.setattr(eventlog.slots.redis, "script", hurried)
    with RedisProcess(appendonly=False) as process:
        yield process


@pytest.mark.timeout(600)  # it takes seconds; a failure takes minutes to be made small
def test_any_history_is_what_the_model_says(server: RedisProcess) -> None:
    run_state_machine_as_test(
        lambda: Histories(server),  # type: ignore[arg-type]  # any factory will do
        settings=settings(
            max_examples=80,
            stateful_step_count=30,
            deadline=None,
            print_blob=True,
            suppress_health_check=list(HealthCheck),
        ),
    )

"""Whatever happens to runs and their telemetry in whatever order, Redis and the memory backend give the same answers.

Everything is done twice, at the same millisecond of a made-up clock. Failures print the steps.
"""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from eventlog.errors import NotFound
from eventlog.log.memory import MemoryBackend
from eventlog.log.protocol import Backend
from eventlog.log.redis import RedisBackend
from eventlog.model import Body
from eventlog.model.guard import ContentGuard
from eventlog.model.log_values import Append
from eventlog.model.retention import Retention
from eventlog.plan.drive import run
from eventlog.plan.effects import Command, Plan
from eventlog.store.keys import WorkspaceKeys
from eventlog.telemetry.operations import push_samples, read_samples
from eventlog.telemetry.protocol import TelemetryBackend
from eventlog.telemetry.terms import RingTerms
from tests.contract.slots.clocked import ClockedRedis
from tests.support.extent import examples
from tests.support.redis_process import RedisProcess, binaries

RUNS = ("r", "s")
START_MS = 1_800_000_000_000
RETENTION = Retention(ttl_ms=1000, max_entries=5, window_ms=700)
TERMS = (RingTerms(5, 400), RingTerms(0, 400), RingTerms(8, 2000))
GUARD = ContentGuard()

runs = st.sampled_from(RUNS)
KINDS = st.sampled_from(["run.started", "tool.used", "tool.used", "run.finished", "run.failed"])
CAPACITIES = st.sampled_from([None, None, None, 0, 1, 3, 20])
KEYS = st.sampled_from([None, None, "k", "l"])
STAGES = st.sampled_from([None, None, "a", "b"])


class Side:
    """One of the two: a log and the telemetry of processes that are set up differently."""

    def __init__(self, name: str, log: Backend, execute: Callable[[Command], Any]) -> None:
        self.name = name
        self.log = log
        self.telemetry: list[TelemetryBackend] = [log.telemetry(terms) for terms in TERMS]
        self._execute = execute
        self.calls = 0

    def does(self, plan: Plan[Any]) -> Any:
        """What a plan gives, or the error that it ends in."""
        try:
            return run(plan, self._execute)
        except NotFound as error:
            return str(error)

    def append(self, *bodies: Body) -> Any:
        self.calls += 1
        return [(event.id, event.seq) for event in self.does(self.log.append([Append(bodies)], self.calls))[0]]


def _nothing(command: Command) -> Any:
    raise AssertionError(command)


class Twins(RuleBasedStateMachine):
    """Does everything on both sides and compares."""

    redis: ClockedRedis

    @initialize()
    def begin(self) -> None:
        self.now_ms = START_MS
        self.redis.begin(START_MS * 1000)
        in_redis = RedisBackend(WorkspaceKeys.of("w"), RETENTION, 20.0)
        self.sides = (
            Side("memory", MemoryBackend(RETENTION, lambda: self.now_ms / 1000), _nothing),
            Side("redis", in_redis, self.redis.execute),
        )

    def both(self, act: Callable[[Side], Any]) -> Any:
        memory, redis = (act(side) for side in self.sides)
        assert memory == redis
        return memory

    @rule(run_id=runs, kind=KINDS)
    def append(self, run_id: str, kind: str) -> None:
        self.both(lambda side: side.append(Body.of(kind, run_id=run_id)))

    @rule(n=st.integers(1, 6))
    def others_append(self, n: int) -> None:
        self.both(lambda side: side.append(*[Body.of("other")] * n))

    @rule(kinds=st.lists(st.tuples(runs, KINDS), min_size=1, max_size=7))
    def append_batch(self, kinds: list[tuple[str, str]]) -> None:
        self.both(lambda side: side.append(*[Body.of(kind, run_id=run_id) for run_id, kind in kinds]))

    @rule(
        who=st.sampled_from([0, 0, 0, 1, 2]),
        run_id=runs,
        samples=st.lists(st.tuples(STAGES, st.sampled_from([0, 0, 7, 3000])), max_size=7),
        capacity=CAPACITIES,
        key=KEYS,
    )
    def push(
        self, who: int, run_id: str, samples: list[tuple[str | None, int]], capacity: int | None, key: str | None
    ) -> None:
        posted = [
            {"stage_name": stage, "age_ms": age, "guest": {"n": n, "at": self.now_ms}}
            for n, (stage, age) in enumerate(samples)
        ]
        self.both(lambda side: side.does(push_samples(side.telemetry[who], GUARD, run_id, posted, capacity, key)))

    @rule(
        who=st.sampled_from([0, 1, 2]),
        run_id=runs,
        from_seq=st.integers(0, 30),
        stage=STAGES,
        limit=st.sampled_from([None, None, 0, 1, 2]),
    )
    def read(self, who: int, run_id: str, from_seq: int, stage: str | None, limit: int | None) -> None:
        self.both(lambda side: side.does(read_samples(side.telemetry[who], run_id, from_seq, stage, limit)))

    @rule(ms=st.sampled_from([1, 5, 150, 399, 400, 401, 699, 999, 1000, 1001, 3000]))
    def time_passes(self, ms: int) -> None:
        self.now_ms += ms
        self.redis.set_clock(self.now_ms * 1000)

    @rule()
    def clear(self) -> None:
        self.both(lambda side: side.does(side.log.clear()))

    @invariant()
    def the_rings_are_alike(self) -> None:
        if not hasattr(self, "sides"):
            return
        for run_id in RUNS:
            page = self.both(
                lambda side, run_id=run_id: side.does(read_samples(side.telemetry[0], run_id, 0, None, None))
            )
            if not isinstance(page, str):
                seqs = [sample.seq for sample in page.samples]
                assert seqs == list(range(page.missed + 1, page.next_seq + 1)), "what is there and what is gone is all"
                assert len(seqs) <= page.capacity


@pytest.fixture(params=binaries(), ids=lambda binary: binary.name)
def clocked(request: pytest.FixtureRequest) -> Iterator[ClockedRedis]:
    with RedisProcess(binary=request.param, appendonly=False) as server:
        redis = ClockedRedis(server.url)
        yield redis
        redis.close()


@pytest.mark.timeout(300)
def test_memory_and_redis_give_the_same_answers(clocked: ClockedRedis) -> None:
    class Machine(Twins):
        redis = clocked

    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=examples(25),
            stateful_step_count=40,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )

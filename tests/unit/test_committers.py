"""Group commit without Redis: what is collected, its bounds, back-pressure, failures. The send function is a fake."""

import asyncio
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest

from eventlog import Event
from eventlog.errors import BackendUnavailable, Conflict, LogClosed, Overloaded
from eventlog.log.commit import Bounds
from eventlog.log.commit_tasks import TaskCommitter
from eventlog.log.commit_threads import ThreadCommitter
from eventlog.model import Body
from eventlog.model.log_values import Append, Outcome
from tests.support.redis_process import eventually

SHORT = Bounds(call_events=4, call_bytes=1_000, pending_events=6, pending_bytes=10_000, callers_alone=0)


def append(number: int, events: int = 1) -> Append:
    return Append([Body.of("a", {"n": number})] * events)


def numbers(appends: Sequence[Append]) -> list[int]:
    return [int(one.bodies[0].payload_json[5:-1]) for one in appends]


def error_of(future: "Future[Outcome]") -> BaseException | None:
    """What went wrong with an append: raised, or given as its outcome for the caller to raise."""
    error = future.exception(20)
    if error is None:
        outcome = future.result()
        error = None if isinstance(outcome, list) else outcome
    return error


class Gate:
    """A fake Redis: records each call, and answers when it is opened."""

    def __init__(self) -> None:
        self.calls: list[tuple[int, list[int]]] = []
        self.opened = threading.Event()
        self.answer: Callable[[Append], Outcome] = lambda one: [Event(1, 1, body) for body in one.bodies]
        self.failures: list[BaseException] = []

    def send(self, appends: Sequence[Append], call_number: int) -> list[Outcome]:
        self.calls.append((call_number, numbers(appends)))
        assert self.opened.wait(20)
        return self._answered(appends)

    async def asend(self, appends: Sequence[Append], call_number: int) -> list[Outcome]:
        self.calls.append((call_number, numbers(appends)))
        assert await asyncio.to_thread(self.opened.wait, 20)
        return self._answered(appends)

    def _answered(self, appends: Sequence[Append]) -> list[Outcome]:
        if self.failures:
            raise self.failures.pop(0)
        return [self.answer(one) for one in appends]


class Committer:
    """Either committer, called from threads; `submit` returns a future at once."""

    def __init__(self, colour: str, bounds: Bounds, deadline_s: float) -> None:
        self.gate = Gate()
        self.colour = colour
        self._pool = ThreadPoolExecutor(40)
        if colour == "threads":
            self.inner: Any = ThreadCommitter(lambda: self.gate.send, bounds, deadline_s)
        else:
            self._loop = asyncio.new_event_loop()
            self._runner = threading.Thread(target=self._loop.run_forever)
            self._runner.start()
            self.inner = TaskCommitter(self.gate.asend, bounds, deadline_s)

    def submit(self, one: Append) -> "Future[Outcome]":
        if self.colour == "threads":
            return self._pool.submit(self.inner.submit, one)
        return asyncio.run_coroutine_threadsafe(self.inner.submit(one), self._loop)

    def submit_all(self, appends: Sequence[Append]) -> "list[Future[Outcome]]":
        """Submit in this order; returns when the first is being sent and the others wait."""
        futures = [self.submit(appends[0])]
        eventually(lambda: self.gate.calls, "the first is being sent")
        for waiting, one in enumerate(appends[1:], 1):
            pending = sum(len(before.bodies) for before in appends[1 : waiting + 1])
            futures.append(self.submit(one))
            self._until_pending(pending)
        return futures

    def _until_pending(self, events: int) -> None:
        eventually(lambda: self.inner.stats().pending_events == events, f"{events} events wait")

    def close(self) -> None:
        if self.colour == "threads":
            self.inner.close()
        else:
            asyncio.run_coroutine_threadsafe(self.inner.close(), self._loop).result(20)

    def end(self) -> None:
        self.gate.opened.set()
        self.close()
        self._pool.shutdown()
        if self.colour != "threads":
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._runner.join(20)
            self._loop.close()


@pytest.fixture(params=["threads", "tasks"])
def make(request: pytest.FixtureRequest) -> Any:
    made: list[Committer] = []

    def committer(bounds: Bounds = SHORT, deadline_s: float = 5.0) -> Committer:
        made.append(Committer(request.param, bounds, deadline_s))
        return made[-1]

    yield committer
    for one in made:
        one.end()


def test_a_lone_append_is_sent_at_once_alone(make: Callable[..., Committer]) -> None:
    committer = make()
    committer.gate.opened.set()
    for n in range(3):
        outcome = committer.submit(append(n)).result(20)
        assert isinstance(outcome, list)
    assert committer.gate.calls == [(1, [0]), (2, [1]), (3, [2])]


def test_what_comes_while_a_call_is_in_flight_goes_together_in_the_next(make: Callable[..., Committer]) -> None:
    committer = make()
    futures = committer.submit_all([append(n) for n in range(5)])
    committer.gate.opened.set()
    assert all(isinstance(future.result(20), list) for future in futures)
    assert committer.gate.calls == [(1, [0]), (2, [1, 2, 3, 4])]
    stats = committer.inner.stats()
    assert (stats.appends, stats.events, stats.calls, stats.largest_call, stats.pending_events) == (5, 5, 2, 4, 0)


def test_a_call_is_bounded_by_events_and_keeps_order(make: Callable[..., Committer]) -> None:
    committer = make()
    futures = committer.submit_all([append(0), append(1, 3), append(2, 2), append(3)])
    committer.gate.opened.set()
    assert [len(future.result(20)) for future in futures] == [1, 3, 2, 1]  # type: ignore[arg-type]
    assert [call for _, call in committer.gate.calls] == [[0], [1], [2, 3]]


def test_a_call_is_bounded_by_bytes(make: Callable[..., Committer]) -> None:
    committer = make(Bounds(call_events=100, call_bytes=20, pending_events=100, callers_alone=0))
    futures = committer.submit_all([append(n) for n in range(6)])  # 7 bytes each
    committer.gate.opened.set()
    for future in futures:
        future.result(20)
    assert [call for _, call in committer.gate.calls] == [[0], [1, 2], [3, 4], [5]]


def test_an_append_larger_than_a_call_goes_alone(make: Callable[..., Committer]) -> None:
    committer = make()
    futures = committer.submit_all([append(0), append(1, 50)])
    futures.append(committer.submit(append(2)))
    committer.gate.opened.set()
    assert [len(future.result(20)) for future in futures] == [1, 50, 1]  # type: ignore[arg-type]
    assert [call for _, call in committer.gate.calls] == [[0], [1], [2]]


def test_a_full_queue_makes_callers_wait_and_refuses_them_at_their_deadline(make: Callable[..., Committer]) -> None:
    committer = make(deadline_s=0.2)
    committer.submit_all([append(0), append(1, 3), append(2, 3)])
    late = committer.submit(append(3))
    with pytest.raises(Overloaded):
        late.result(20)
    assert committer.inner.stats().refused == 1
    assert committer.inner.stats().pending_events == 6


def test_a_caller_who_waits_for_room_gets_it(make: Callable[..., Committer]) -> None:
    committer = make()
    futures = committer.submit_all([append(0), append(1, 3), append(2, 3)])
    waiting = [committer.submit(append(n)) for n in range(3, 9)]
    committer.gate.opened.set()
    for future in [*futures, *waiting]:
        assert isinstance(future.result(20), list)
    assert sorted(n for _, call in committer.gate.calls for n in call) == list(range(9))


def test_each_caller_gets_its_own_outcome(make: Callable[..., Committer]) -> None:
    committer = make()
    conflict = Conflict(1, 2)

    def answer(one: Append) -> Outcome:
        number = numbers([one])[0]
        return conflict if number == 2 else [Event(1, number, one.bodies[0])]

    committer.gate.answer = answer
    futures = committer.submit_all([append(n) for n in range(4)])
    committer.gate.opened.set()
    outcomes = [future.result(20) for future in futures]
    assert outcomes[2] is conflict
    assert [outcomes[n][0].offset for n in (0, 1, 3)] == [0, 1, 3]  # type: ignore[index]


def test_a_failed_call_fails_its_callers_each_with_an_error_of_its_own_and_no_others(
    make: Callable[..., Committer],
) -> None:
    committer = make()
    futures = committer.submit_all([append(n) for n in range(3)])
    committer.gate.failures = [
        BackendUnavailable("first", outcome_unknown=True),
        BackendUnavailable("second", outcome_unknown=True),
    ]
    committer.gate.opened.set()
    errors = [error_of(future) for future in futures]
    assert [str(error) for error in errors] == ["first", "second", "second"]
    assert errors[1] is not errors[2]
    assert all(isinstance(error, BackendUnavailable) and error.outcome_unknown for error in errors)
    assert isinstance(committer.submit(append(9)).result(20), list)


def test_an_unexpected_failure_is_an_unknown_outcome_for_those_who_were_sent_along(
    make: Callable[..., Committer],
) -> None:
    committer = make()
    futures = committer.submit_all([append(n) for n in range(3)])
    committer.gate.failures = [RuntimeError("boom"), RuntimeError("bang")]
    committer.gate.opened.set()
    last = error_of(futures[2])
    assert isinstance(last, BackendUnavailable)
    assert last.outcome_unknown
    assert isinstance(last.__cause__, RuntimeError)
    assert all(error_of(future) is not None for future in futures)
    assert isinstance(committer.submit(append(9)).result(20), list)


def test_call_numbers_grow_by_one_whatever_becomes_of_the_call(make: Callable[..., Committer]) -> None:
    committer = make()
    committer.gate.opened.set()
    for n in range(6):
        committer.gate.failures = [BackendUnavailable("x")] if n % 2 else []
        committer.submit(append(n)).exception(20)
    assert [number for number, _ in committer.gate.calls] == [1, 2, 3, 4, 5, 6]


def test_a_closed_committer_refuses_and_what_was_under_way_is_answered(make: Callable[..., Committer]) -> None:
    committer = make()
    futures = committer.submit_all([append(n) for n in range(3)])
    closing = threading.Thread(target=committer.close)
    closing.start()

    def refuses() -> bool:
        return isinstance(committer.submit(append(9)).exception(20), LogClosed)

    eventually(lambda: committer.inner._closed, "it is being closed")
    assert refuses()
    committer.gate.opened.set()
    closing.join(20)
    assert all(isinstance(future.result(20), list) for future in futures)
    assert refuses()


def test_a_cancelled_task_leaves_the_others_their_answers() -> None:
    async def scenario() -> None:
        gate = Gate()
        committer = TaskCommitter(gate.asend, SHORT, 5.0)
        tasks = [asyncio.create_task(committer.submit(append(n))) for n in range(4)]
        await asyncio.to_thread(eventually, lambda: gate.calls, "the first is being sent")
        tasks[0].cancel()  # being sent
        tasks[2].cancel()  # waiting
        gate.opened.set()
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        assert [isinstance(outcome, list) for outcome in outcomes] == [False, True, False, True]
        assert sorted(n for _, call in gate.calls for n in call) == [0, 1, 2, 3]
        await committer.close()

    asyncio.run(scenario())


def test_many_threads_over_a_tiny_queue_are_all_answered_once() -> None:
    gate = Gate()
    gate.opened.set()
    committer = ThreadCommitter(
        lambda: gate.send, Bounds(call_events=3, call_bytes=100, pending_events=4, pending_bytes=100), 20.0
    )

    def work(thread: int) -> int:
        outcomes = [committer.submit(append(1000 * thread + n)) for n in range(100)]
        return sum(len(outcome) for outcome in outcomes if isinstance(outcome, list))

    with ThreadPoolExecutor(16) as pool:
        assert sum(pool.map(work, range(16))) == 1_600
    sent = [n for _, call in gate.calls for n in call]
    assert len(sent) == len(set(sent)) == 1_600
    for thread in range(16):
        mine = [n for n in sent if n // 1000 == thread]
        assert mine == sorted(mine), "appends of one thread keep their order"
    assert committer.stats().pending_events == 0
    committer.close()

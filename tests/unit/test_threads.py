"""Waiting and working, interrupted at each line and entered again there: nobody hangs, and nothing is forgotten."""

import threading

import pytest

from eventlog.plan import threads
from eventlog.plan.threads import Attendant, Flag, Waiters
from tests.support.interrupts import at_each_step, within
from tests.support.redis_process import eventually

PATIENCE_S = 20.0
HERE = within(threads)


def test_a_wait_ends_when_what_is_waited_for_holds_or_the_time_is_up() -> None:
    flag = Flag()
    assert not flag.wait(0.001)
    waiting = [threading.Thread(target=flag.wait, args=(PATIENCE_S,), daemon=True) for _ in range(3)]
    for thread in waiting:
        thread.start()
    flag.set()
    for thread in waiting:
        thread.join(PATIENCE_S)
        assert not thread.is_alive()
    assert flag.wait()
    flag.clear()
    assert not flag.is_set()
    assert not flag.wait(0)


def test_an_interrupted_wait_leaves_nothing_behind_and_others_are_woken() -> None:
    for interrupt in at_each_step(HERE, at_least=1):
        flag = Flag()
        woken: list[bool] = []
        other = threading.Thread(target=lambda flag=flag, woken=woken: woken.append(flag.wait(PATIENCE_S)), daemon=True)
        other.start()
        interrupt.during(lambda flag=flag: flag.wait(0.001))
        flag.set()
        other.join(PATIENCE_S)
        assert woken == [True]
        assert not flag._waiters._locks


def test_a_flag_that_a_handler_sets_in_the_middle_of_a_wait_ends_it() -> None:
    flags: list[Flag] = []
    for interrupt in at_each_step(HERE, at_least=1, handler=lambda: flags[-1].set()):
        flags.append(Flag())
        # Once the steps are used up, nobody sets it.
        interrupt.during(lambda line=interrupt.line: flags[-1].wait(PATIENCE_S if line < 2 else 0.05))
        assert flags[-1].is_set() or interrupt.left


def test_waiting_for_ever_is_waiting_long() -> None:
    assert Waiters().wait_for(lambda: True, float("inf"))


class Work:
    """Counts down what there is to do."""

    def __init__(self) -> None:
        self.left: list[int] = []
        self.done: list[int] = []
        self.attendant = Attendant(self.do, lambda: not self.left, "attending")

    def do(self) -> float | None:
        while self.left:
            self.done.append(self.left.pop(0))
        return 0.001 if len(self.done) % 2 else None

    def give(self, one: int) -> None:
        self.left.append(one)
        self.attendant.call()


def test_an_attendant_does_all_that_is_given_and_ends() -> None:
    work = Work()
    for one in range(200):
        work.give(one)
    eventually(lambda: len(work.done) == 200, "all is done")
    eventually(lambda: work.attendant.thread is None, "it ends")
    work.give(200)
    eventually(lambda: work.done == list(range(201)), "another one begins")


def test_many_threads_at_once_have_one_attendant() -> None:
    work = Work()
    giving = [threading.Thread(target=lambda: [work.give(one) for one in range(50)]) for _ in range(8)]
    for thread in giving:
        thread.start()
    for thread in giving:
        thread.join()
    eventually(lambda: sorted(work.done) == sorted(list(range(50)) * 8), "all is done, each once")


def test_a_call_that_is_interrupted_at_any_line_keeps_none_from_being_attended_to() -> None:
    for interrupt in at_each_step(HERE, at_least=1):
        work = Work()
        interrupt.during(lambda work=work: work.give(0))
        work.give(1)
        eventually(lambda work=work: work.done[-1:] == [1], "the next is attended to")


def test_an_attendant_at_work_is_not_started_again_after_a_call_that_was_interrupted() -> None:
    started: list[threading.Thread] = []
    for interrupt in at_each_step(within(threads, threading), at_least=1):
        at_work, go_on = Flag(), Flag()

        def do(at_work: Flag = at_work, go_on: Flag = go_on) -> None:
            started.append(threading.current_thread())
            at_work.set()
            go_on.wait(PATIENCE_S)

        attendant = Attendant(do, lambda: True, "attending")
        attendant.call()
        assert at_work.wait(PATIENCE_S)
        interrupt.during(attendant.call)
        attendant.call()
        assert attendant.thread is started[-1]
        go_on.set()
        started[-1].join(PATIENCE_S)


def test_a_call_in_the_middle_of_another_is_attended_to() -> None:
    works: list[Work] = []
    for interrupt in at_each_step(HERE, at_least=1, handler=lambda: works[-1].give(1)):
        works.append(work := Work())
        interrupt.during(lambda work=work: work.give(0))
        eventually(lambda work=work: 0 in work.done and not work.left, "all is attended to")


def test_where_no_thread_can_be_had_the_next_call_tries_again(monkeypatch: pytest.MonkeyPatch) -> None:
    work = Work()
    with monkeypatch.context() as ending:

        def refuse(thread: threading.Thread) -> None:
            raise RuntimeError("can't create new thread at interpreter shutdown")

        ending.setattr(threading.Thread, "start", refuse)
        work.give(0)
    assert work.done == []
    work.give(1)
    eventually(lambda: work.done == [0, 1], "both are done")

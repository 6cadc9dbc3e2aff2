"""A signal may raise anywhere in an appending thread: the others get their answers, and appending goes on."""

import threading
import time
from collections.abc import Sequence
from types import FrameType

from eventlog.log import commit_threads as threads
from eventlog.log.commit import Bounds
from eventlog.log.commit_threads import ThreadCommitter
from eventlog.model.events import Body, Event
from eventlog.model.log_values import Append, Outcome
from tests.support.interrupts import InterruptAt, at_each_line

DEADLINE_S = 1.0


def is_watched(frame: FrameType) -> bool:
    return frame.f_code.co_filename == threads.__file__


class Sender:
    """Answers each call with its appends' kinds; a call that holds `slow` waits until it may go on."""

    def __init__(self) -> None:
        self.sending = threading.Event()
        self.go_on = threading.Event()

    def __call__(self, appends: Sequence[Append], call_number: int) -> list[Outcome]:
        if any(append.bodies[0].kind == "slow" for append in appends):
            self.sending.set()
            assert self.go_on.wait(10)
        return [[Event(1, 1, body) for body in append.bodies] for append in appends]


def append_of(kind: str) -> Append:
    return Append([Body.of(kind)])


def in_thread(committer: ThreadCommitter, kind: str, failures: list[BaseException]) -> threading.Thread:
    def submit() -> None:
        try:
            committer.submit(append_of(kind))
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=submit)
    thread.start()
    return thread


def still_appends(committer: ThreadCommitter) -> None:
    started = time.monotonic()
    committer.submit(append_of("after"))
    assert time.monotonic() - started < DEADLINE_S, "the committer was stuck"


def test_an_interrupted_lone_caller_leaves_the_way_free() -> None:
    for interrupt in at_each_line(is_watched, at_least=5):
        sender = Sender()
        committer = ThreadCommitter(lambda sender=sender: sender, Bounds(), DEADLINE_S)
        interrupt.during(lambda committer=committer: committer.submit(append_of("interrupted")))
        still_appends(committer)


def test_an_interrupted_caller_that_waits_with_others_costs_them_nothing() -> None:
    for interrupt in at_each_line(is_watched, at_least=25):
        interrupts_one_of_many(interrupt)


def interrupts_one_of_many(interrupt: InterruptAt) -> None:
    sender = Sender()
    committer = ThreadCommitter(lambda: sender, Bounds(callers_alone=0), DEADLINE_S)
    failures: list[BaseException] = []
    first = in_thread(committer, "slow", failures)
    assert sender.sending.wait(10)
    before = in_thread(committer, "before", failures)
    behind: list[threading.Thread] = []

    def others_queue_up() -> None:
        deadline = time.monotonic() + 5
        while len(committer._queue) < 2 and time.monotonic() < deadline and not interrupted.is_set():
            time.sleep(0.001)
        behind.extend(in_thread(committer, "behind", failures) for _ in range(3))
        while len(committer._queue) < 4 and time.monotonic() < deadline:
            time.sleep(0.001)
        sender.go_on.set()

    interrupted = threading.Event()
    helper = threading.Thread(target=others_queue_up)
    helper.start()
    interrupt.during(lambda: committer.submit(append_of("interrupted")))
    interrupted.set()
    started = time.monotonic()
    helper.join()
    for thread in (first, before, *behind):
        thread.join()
    assert time.monotonic() - started < DEADLINE_S, "someone was left waiting"
    assert not failures
    still_appends(committer)

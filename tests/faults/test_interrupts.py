"""A signal may raise anywhere in an appending thread: the others must be answered, and appending must go on."""

import threading
import time
from collections.abc import Sequence
from types import FrameType

from eventlog.errors import BackendUnavailable
from eventlog.log import commit_threads as threads
from eventlog.log.commit import Bounds
from eventlog.log.commit_threads import ThreadCommitter
from eventlog.model.events import Body, Event
from eventlog.model.log_values import Append, Outcome
from tests.support.interrupts import InterruptAt, at_each_line

DEADLINE_S = 1.0
GUARDED = {"submit", "_await_room", "_await_turn", "_sleep", "_lead", "_take"}


def is_watched(frame: FrameType) -> bool:
    # Handing over and answering are the clean-up itself: they would only be cut short by a second signal, or by the
    # first within the microsecond that they take.
    return frame.f_code.co_filename == threads.__file__ and frame.f_code.co_name in GUARDED


class Sender:
    """Answers each call with its appends' kinds; a call that holds `slow` waits until it may go on."""

    def __init__(self) -> None:
        self.sending = threading.Event()
        self.go_on = threading.Event()
        self.calls: list[list[str]] = []

    def __call__(self, appends: Sequence[Append], call_number: int) -> list[Outcome]:
        kinds = [append.bodies[0].kind for append in appends]
        self.calls.append(kinds)
        if "slow" in kinds:
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
    for interrupt in at_each_line(is_watched, at_least=20):
        committer = ThreadCommitter(Sender(), Bounds(), DEADLINE_S)
        interrupt.during(lambda committer=committer: committer.submit(append_of("interrupted")))
        still_appends(committer)


def test_an_interrupted_caller_who_waits_or_leads_next_leaves_no_one_waiting() -> None:
    for interrupt in at_each_line(is_watched, at_least=50):
        interrupts_one_who_waits_or_leads_next(interrupt)


def interrupts_one_who_waits_or_leads_next(interrupt: InterruptAt) -> None:
    sender = Sender()
    committer = ThreadCommitter(sender, Bounds(), DEADLINE_S)
    failures: list[BaseException] = []
    first = in_thread(committer, "slow", failures)
    assert sender.sending.wait(10)
    behind: list[threading.Thread] = []

    def others_queue_up() -> None:
        deadline = time.monotonic() + 5
        while not committer._queue and time.monotonic() < deadline and not interrupted.is_set():
            time.sleep(0.001)
        behind.extend(in_thread(committer, "behind", failures) for _ in range(3))
        while len(committer._queue) < 3 and time.monotonic() < deadline:
            time.sleep(0.001)
        sender.go_on.set()

    interrupted = threading.Event()
    helper = threading.Thread(target=others_queue_up)
    helper.start()
    interrupt.during(lambda: committer.submit(append_of("interrupted")))
    interrupted.set()
    started = time.monotonic()
    helper.join()
    for thread in (first, *behind):
        thread.join()
    assert time.monotonic() - started < 2 * DEADLINE_S, "someone was left waiting"
    assert all(isinstance(failure, BackendUnavailable) for failure in failures)
    still_appends(committer)


def test_an_interrupted_follower_wakes_the_one_behind_it() -> None:
    """The call is led by another thread; the interrupted caller and others only wait for their answers."""
    for interrupt in at_each_line(is_watched, at_least=20):
        interrupts_a_follower(interrupt)


def interrupts_a_follower(interrupt: InterruptAt) -> None:
    sender = Sender()
    committer = ThreadCommitter(sender, Bounds(), DEADLINE_S)
    failures: list[BaseException] = []
    first = in_thread(committer, "slow", failures)
    assert sender.sending.wait(10)
    waiting = [in_thread(committer, "leads.next", failures)]
    deadline = time.monotonic() + 5
    while not committer._queue and time.monotonic() < deadline:
        time.sleep(0.001)

    def others_queue_up() -> None:
        until = time.monotonic() + 5
        while len(committer._queue) < 2 and time.monotonic() < until and not interrupted.is_set():
            time.sleep(0.001)
        waiting.extend(in_thread(committer, "behind", failures) for _ in range(3))
        while len(committer._queue) < 4 and time.monotonic() < until:
            time.sleep(0.001)
        sender.go_on.set()

    interrupted = threading.Event()
    helper = threading.Thread(target=others_queue_up)
    helper.start()
    interrupt.during(lambda: committer.submit(append_of("interrupted")))
    interrupted.set()
    started = time.monotonic()
    helper.join()
    for thread in (first, *waiting):
        thread.join()
    assert time.monotonic() - started < 2 * DEADLINE_S, "someone was left waiting"
    assert not failures
    still_appends(committer)

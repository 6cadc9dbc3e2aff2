"""What is told of calls that came to nothing: at once, and not again and again. Acts that interrupt each other."""

import threading

from eventlog.dispatch.monitor import Monitor
from eventlog.dispatch.notices import EVERY_S, Notices, named


def test_the_first_is_told_at_once_and_the_others_added_up_when_it_is_time() -> None:
    notices = Notices()
    assert notices.take(0.0) is None
    notices.note("full")
    assert notices.take(0.0) == "1 dropped, too many in flight"
    for _ in range(10_000):
        notices.note("full")
        notices.note("failed", detail="ConnectionError: x")
        assert notices.take(EVERY_S - 0.1) is None
    assert notices.due_in(EVERY_S - 0.5) == 0.5
    assert notices.take(EVERY_S) == ("10000 dropped, too many in flight, 10000 failed (last: ConnectionError: x)")
    assert notices.due_in(EVERY_S) is None
    assert notices.take(10 * EVERY_S) is None


def test_at_the_end_all_is_told_that_was_not() -> None:
    notices = Notices()
    notices.note("timed_out")
    notices.take(0.0)
    notices.note("displaced", 3)
    notices.note("given_up", 2)
    assert notices.take(0.1, all_of_it=True) == "3 dropped for terminal events, 2 given up at shutdown"
    assert notices.take(0.1, all_of_it=True) is None


def test_what_is_told_of_an_error_is_bounded() -> None:
    notices = Notices()
    notices.note("failed", detail=named(ValueError("x" * 100_000)))
    text = notices.take(0.0)
    assert text is not None
    assert len(text) < 400
    assert named(KeyError()) == "KeyError"


def test_an_act_that_interrupts_another_of_its_thread_is_carried_out_after_it() -> None:
    monitor = Monitor()
    done: list[str] = []

    def outer() -> str:
        done.append("outer begins")
        assert monitor.perform(lambda: done.append("inner")) is None
        assert monitor.read(lambda: list(done)) == ["outer begins"]
        done.append("outer ends")
        return "answer"

    assert monitor.perform(outer) == "answer"
    assert done == ["outer begins", "outer ends", "inner"]


def test_an_act_that_fails_leaves_the_way_free_and_what_was_postponed_is_not_forgotten() -> None:
    monitor = Monitor()
    done: list[str] = []

    def fails() -> None:
        monitor.perform(lambda: done.append("postponed"))
        raise KeyboardInterrupt

    try:
        monitor.perform(fails)
    except KeyboardInterrupt:
        done.append("interrupted")
    other = threading.Thread(target=lambda: monitor.perform(lambda: done.append("next")))
    other.start()
    other.join(10)
    assert done == ["interrupted", "postponed", "next"]

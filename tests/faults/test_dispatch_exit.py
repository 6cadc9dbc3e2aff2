"""However a process ends, it ends within the dispatcher's time-out, and what can be delivered is."""

import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.faults import dispatching

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_S = 60.0


@contextmanager
def running(*arguments: str) -> "Iterator[subprocess.Popen[str]]":
    process = subprocess.Popen(
        [sys.executable, "-W", "error", "-m", dispatching.__name__, *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def ends(*arguments: str, status: int = 0) -> tuple[list[str], str]:
    """Run a scenario to its end: what it said, and its warnings."""
    with running(*arguments) as process:
        said, told = process.communicate(timeout=PATIENCE_S)
        assert process.returncode == status, told
        return said.splitlines(), told


def test_a_burst_for_a_sink_that_hangs_is_counted_and_holds_the_process_up_for_its_time_out_alone() -> None:
    began = time.monotonic()
    said, told = ends("burst", "1")
    assert said == ["10000 40 9960", "exit"]
    assert 1 <= time.monotonic() - began < 20
    assert "40 given up at shutdown" in told


def test_a_time_out_of_zero_does_not_hold_the_process_up_at_all() -> None:
    said, told = ends("burst", "0")
    assert said == ["10000 40 9960", "exit"]
    assert "Traceback" not in told


def test_many_dispatchers_take_no_longer_to_end_than_one() -> None:
    began = time.monotonic()
    ends("many", "2")
    assert time.monotonic() - began < 20, "twenty of two seconds each"


def test_events_just_before_the_end_are_delivered() -> None:
    assert ends("last_words") == (["delivered a", "delivered b", "delivered run.finished"], "")


def test_coroutines_run_until_the_end_and_one_that_hangs_holds_the_process_up_for_the_time_out_alone() -> None:
    began = time.monotonic()
    said, told = ends("coroutines", "1")
    assert Counter(said) - Counter(["cleaned up"]) == Counter(
        ["delivered parent", "delivered child", "drained True 1", "delivered hangs"]
    )
    assert 1 <= time.monotonic() - began < 20
    assert "1 given up at shutdown" in told
    assert "Traceback" not in told


def test_those_of_a_dispatcher_that_was_forgotten_too() -> None:
    assert ends("forgotten") == (["delivered a", "delivered b", "delivered run.finished"], "")


def test_it_drains_before_what_was_there_earlier_is_closed() -> None:
    assert ends("closed_at_exit") == (["delivered a", "delivered b", "delivered c"], "")


def test_an_event_that_comes_after_its_end_at_exit_is_passed_over_in_silence() -> None:
    assert ends("at_exit") == (["delivered first", "delivered before"], "")


def test_a_signal_handler_may_hand_over_and_shut_down_wherever_it_interrupts() -> None:
    for _ in range(5):
        with running("terminated") as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            process.send_signal(signal.SIGTERM)
            said, told = process.communicate(timeout=PATIENCE_S)
            assert process.returncode == 7, told
            words = Counter(said.splitlines())
            assert words["delivered run.cancelled"] == 1
            assert words["drained True"] + words["drained False"] == 1


def test_a_forked_child_delivers_its_own_events_and_none_of_its_parents() -> None:
    said, told = ends("forked")
    assert Counter(said) == Counter(
        {
            **{f"delivered parent{n}": 1 for n in range(3)},
            **{f"delivered child{n}": 1 for n in range(5)},
            "drained True 1": 5,
        }
    )
    assert "Traceback" not in told


def test_a_forked_child_uses_an_asyncio_dispatcher_on_a_loop_of_its_own() -> None:
    said, told = ends("forked_with_a_loop")
    assert Counter(said) == Counter({**{f"delivered child{n}": 1 for n in range(5)}, "counted 1 1": 5})
    assert "Traceback" not in told


def test_a_sink_that_forks_delivers_nothing_twice() -> None:
    assert ends("forked_by_the_sink") == (["delivered a", "delivered b"], "")


def test_events_are_delivered_also_where_no_worker_can_be_started_any_more() -> None:
    assert ends("crowded") == (["delivered a", "delivered b", "delivered run.finished"], "")


def test_without_any_thread_events_are_delivered_by_the_shutdown() -> None:
    assert ends("threadless") == (["delivered a", "delivered b", "drained True 0"], "")

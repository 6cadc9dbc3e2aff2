"""A sampler never keeps its process from ending, whatever state its log is in."""

import subprocess
import sys
import textwrap
import time

import pytest

BEGIN = """
    import os, sys, threading, time
    from eventlog.telemetry.sampler import TelemetrySampler

    def push(run_id, samples, *, capacity=None, idempotency_key=None):
        {push}

    sampler = TelemetrySampler(push, "r", interval_s=0.01)
    sampler.start()
    until = time.monotonic() + 20
    while not sampler.stats().taken and time.monotonic() < until:
        time.sleep(0.005)
"""


def ends(source: str) -> tuple[int, str, float]:
    began_s = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", source], capture_output=True, text=True, timeout=60, check=False
    )
    return done.returncode, done.stderr, time.monotonic() - began_s


@pytest.mark.parametrize("push", ["time.sleep(1000)", "return samples", "raise ConnectionError('away')"])
def test_a_process_that_forgets_its_sampler_ends_at_once_and_in_silence(push: str) -> None:
    code, said, took_s = ends(textwrap.dedent(BEGIN).format(push=push))
    assert code == 0
    assert [line for line in said.splitlines() if "away" not in line] == []
    assert took_s < 30


def test_stop_is_bounded_when_the_log_hangs() -> None:
    source = textwrap.dedent(BEGIN).format(push="time.sleep(1000)") + textwrap.dedent("""
        began = time.monotonic()
        sampler.stop(0.5)
        assert time.monotonic() - began < 10
        sampler.stop()
    """)
    code, said, took_s = ends(source)
    assert code == 0
    assert said.endswith(" samples are lost, as sampling was stopped: the log does not answer\n")
    assert len(said.splitlines()) == 1
    assert took_s < 40


def test_a_forked_child_stops_its_parents_sampler_without_waiting() -> None:
    source = textwrap.dedent(BEGIN).format(push="return samples") + textwrap.dedent("""
        for _ in range(20):
            pid = os.fork()
            if pid == 0:
                began = time.monotonic()
                sampler.sample()
                sampler.stop(10)
                os._exit(0 if time.monotonic() - began < 5 and not sampler.running else 1)
            assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        sampler.stop()
        stats = sampler.stats()
        assert stats.taken == stats.pushed > 0, stats
    """)
    code, said, _ = ends(source)
    assert (code, said) == (0, "")

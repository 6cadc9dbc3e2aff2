"""The command line on a real Redis, and the same log in the hands of the test."""

import os
import subprocess
from collections.abc import Callable, Iterator

import pytest

from eventlog import EventLog, create_event_log
from eventlog.cli import run
from tests.support.redis_process import RedisProcess

from .program import Program

Here = Callable[..., "subprocess.CompletedProcess[bytes]"]


@pytest.fixture
def variables(redis_server: RedisProcess, key_prefix: str) -> dict[str, str]:
    """The environment that leads to the test's own log."""
    return {"EVENTLOG_REDIS_URL": redis_server.url, "EVENTLOG_KEY_PREFIX": key_prefix}


@pytest.fixture
def program(variables: dict[str, str]) -> Program:
    """`eventlog`, straight on Redis."""
    return Program(variables)


@pytest.fixture
def here(variables: dict[str, str], monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]) -> Here:
    """`eventlog` within the test's own process, for the many cases that need none of their own."""
    for name in [name for name in os.environ if name.startswith("EVENTLOG_")]:
        monkeypatch.delenv(name)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)

    def call(*args: str) -> "subprocess.CompletedProcess[bytes]":
        code = run(list(args))
        said = capfdbinary.readouterr()
        return subprocess.CompletedProcess(args, code, said.out, said.err)

    return call


@pytest.fixture
def log(redis_server: RedisProcess, key_prefix: str) -> Iterator[EventLog]:
    """The log that `program` works on."""
    with create_event_log("redis", url=redis_server.url, key_prefix=key_prefix) as opened:
        yield opened

"""The command line on a real Redis, and the same log in the hands of the test."""

from collections.abc import Iterator

import pytest

from eventlog import EventLog, create_event_log
from tests.support.redis_process import RedisProcess

from .program import Program


@pytest.fixture
def variables(redis_server: RedisProcess, key_prefix: str) -> dict[str, str]:
    """The environment that leads to the test's own log."""
    return {"EVENTLOG_REDIS_URL": redis_server.url, "EVENTLOG_KEY_PREFIX": key_prefix}


@pytest.fixture
def program(variables: dict[str, str]) -> Program:
    """`eventlog`, straight on Redis."""
    return Program(variables)


@pytest.fixture
def log(redis_server: RedisProcess, key_prefix: str) -> Iterator[EventLog]:
    """The log that `program` works on."""
    with create_event_log("redis", url=redis_server.url, key_prefix=key_prefix) as opened:
        yield opened

"""Servers that a test may stop, kill and fill: none of them is shared."""

from collections.abc import Iterator

import pytest

from tests.faults.proxy import ChaosProxy
from tests.support.redis_process import RedisProcess


@pytest.fixture
def own_server() -> Iterator[RedisProcess]:
    """A redis-server of this test alone."""
    with RedisProcess() as server:
        yield server


@pytest.fixture
def proxy(own_server: RedisProcess) -> Iterator[ChaosProxy]:
    """A proxy in front of `own_server`."""
    with ChaosProxy(own_server) as between:
        yield between

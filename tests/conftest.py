"""Fixtures for all tests: one real Redis a test process, shared under key prefixes that no two tests have in common."""

import uuid
from collections.abc import Iterator

import pytest

from tests.support.redis_process import RedisProcess


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisProcess]:
    """A real redis-server for this test process. Shared: never flush, kill or reconfigure it (start your own)."""
    with RedisProcess(appendonly=False) as server:
        yield server


@pytest.fixture
def key_prefix() -> str:
    """A prefix for Redis keys that no other test has."""
    return f"t{uuid.uuid4().hex[:12]}"

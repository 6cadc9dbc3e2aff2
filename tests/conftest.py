"""Fixtures for all tests: one real Redis a test process, shared under key prefixes that no two tests have in common.

Tests marked `chaos` run only where the suite runs in full, or where somebody asks for them (`-m chaos`).
"""

import uuid
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from tests.support.extent import FULL
from tests.support.redis_process import RedisProcess

# How long an example takes says how busy the machine is, and nothing of what is tested.
settings.register_profile("suite", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("suite")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what is marked `chaos`, unless the suite runs in full or markers were chosen by hand."""
    if FULL or config.option.markexpr:
        return
    chaos = [item for item in items if item.get_closest_marker("chaos")]
    if chaos:
        config.hook.pytest_deselected(items=chaos)
        items[:] = [item for item in items if not item.get_closest_marker("chaos")]


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisProcess]:
    """A real redis-server for this test process. Shared: never flush, kill or reconfigure it (start your own)."""
    with RedisProcess(appendonly=False) as server:
        yield server


@pytest.fixture
def key_prefix() -> str:
    """A prefix for Redis keys that no other test has."""
    return f"t{uuid.uuid4().hex[:12]}"

"""The clients over HTTP, against a real server on a real Redis."""

import uuid
from collections.abc import Iterator

import pytest

from tests.client.worlds import COLOURS, Behind, HttpWorld
from tests.contract.colours import Colour
from tests.contract.worlds import waits
from tests.support.redis_process import RedisProcess


@pytest.fixture(scope="session")
def shared(redis_server: RedisProcess) -> Iterator[Behind]:
    """One server for all tests that need no settings of their own."""
    behind = Behind({"url": redis_server.url, "key_prefix": f"t{uuid.uuid4().hex[:12]}"})
    yield behind
    behind.close()


@pytest.fixture
def workspace() -> str:
    """A workspace that no other test has."""
    return f"w{uuid.uuid4().hex[:12]}"


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Both clients are tried where they wait; elsewhere they are two drivers of the same calls, and one is."""
    if "world" in metafunc.fixturenames:
        colours = [colour for colour in COLOURS if colour == "sync" or waits(metafunc.function)]
        metafunc.parametrize("world", colours, indirect=True)


@pytest.fixture
def world(request: pytest.FixtureRequest, redis_server: RedisProcess, key_prefix: str) -> Iterator[HttpWorld]:
    """Where the logs of this test live."""
    here = HttpWorld(request.param, redis_server.url, key_prefix)
    yield here
    here.close()


@pytest.fixture
def log(world: HttpWorld, shared: Behind, workspace: str) -> Colour:
    """A client of a log with default retention."""
    return world.join(shared, workspace)

"""The contract suite runs every test in memory and on Redis: a test asks for `world`.

Tests that look into Redis itself ask for `redis_world`, which is every real Redis and not memory.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from tests.contract.colours import Colour
from tests.contract.worlds import MemoryWorld, RedisWorld, World, cases_of
from tests.support.redis_process import RedisProcess, binaries

REAL = tuple(binary.name for binary in binaries())


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Tests that ask for a world are repeated for each world and colour that can make a difference to them."""
    for fixture, names in (("world", ("memory", *REAL)), ("redis_world", REAL)):
        if fixture in metafunc.fixturenames:
            cases = cases_of(metafunc.function, names)
            metafunc.parametrize(fixture, cases, indirect=True, ids=["-".join(case) for case in cases])


@pytest.fixture(scope="session")
def servers(redis_server: RedisProcess) -> Iterator[Callable[[str], str]]:
    """Gives the URL of the shared server of a world's name; a second one is started when first asked for."""
    urls = {REAL[0]: redis_server.url}
    by_name = {binary.name: binary for binary in binaries()}
    with ExitStack() as stack:

        def url(name: str) -> str:
            if name not in urls:
                urls[name] = stack.enter_context(RedisProcess(binary=by_name[name], appendonly=False)).url
            return urls[name]

        yield url


@pytest.fixture
def world(request: pytest.FixtureRequest, servers: Callable[[str], str], key_prefix: str) -> Iterator[World]:
    """Where the logs of this test live."""
    name, colour = request.param
    here: World
    here = MemoryWorld(colour) if name == "memory" else RedisWorld(name, colour, servers(name), key_prefix)
    yield here
    here.close()


@pytest.fixture
def redis_world(request: pytest.FixtureRequest, servers: Callable[[str], str], key_prefix: str) -> Iterator[RedisWorld]:
    """A world on a real Redis, whose client may look at what is stored."""
    name, colour = request.param
    here = RedisWorld(name, colour, servers(name), key_prefix)
    yield here
    here.close()


@pytest.fixture
def log(world: World) -> Colour:
    """A log with default retention."""
    return world.open()

"""The contract suite runs every test in every world, in both colours (on fakeredis in one): a test asks for `world`.

Tests that look into Redis itself ask for `redis_world`, which is every real Redis and neither memory nor fakeredis.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from tests.contract.colours import Colour
from tests.contract.worlds import COLOURS, MemoryWorld, RedisWorld, World, fake_redis
from tests.support.redis_process import RedisProcess, binaries

REAL = tuple(binary.name for binary in binaries())
EVERY = ("memory", *REAL, "fakeredis")

# What fakeredis is known to do differently from Redis. Nothing else is left out for it.
WRONG_ON_FAKEREDIS = {
    "test_info_tells_the_state_of_the_log": "has no MEMORY USAGE, so the size is not known",
}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Tests that ask for a world are repeated for each world and colour."""
    for fixture, names in (("world", EVERY), ("redis_world", REAL)):
        if fixture in metafunc.fixturenames:
            if metafunc.function.__name__ in WRONG_ON_FAKEREDIS:
                names = tuple(name for name in names if name != "fakeredis")
            # The colours differ in how they talk to Redis, not in what they ask of it: one shows what fakeredis does.
            cases = [(name, colour) for name in names for colour in COLOURS if (name, colour) != ("fakeredis", "async")]
            metafunc.parametrize(fixture, cases, indirect=True, ids=["-".join(case) for case in cases])


@pytest.fixture(scope="session")
def servers() -> Iterator[Callable[[str], str]]:
    """Gives the URL of the shared server of a world's name; each is started when first asked for."""
    urls: dict[str, str] = {}
    by_name = {binary.name: binary for binary in binaries()}
    with ExitStack() as stack:

        def url(name: str) -> str:
            if name not in urls:
                if name == "fakeredis":
                    urls[name] = stack.enter_context(fake_redis())
                else:
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

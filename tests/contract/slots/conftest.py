"""The contract of slots runs in memory and on every real Redis that is here."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.contract.colours import Colour
from tests.contract.conftest import REAL
from tests.contract.slots.queues import SLOT_COLOURS
from tests.contract.worlds import MemoryWorld, RedisWorld, World, cases_of


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Tests that ask for slots are repeated for each place and colour that can make a difference to them."""
    if "place" in metafunc.fixturenames:
        cases = cases_of(metafunc.function, ("memory", *REAL))
        metafunc.parametrize("place", cases, indirect=True, ids=["-".join(case) for case in cases])


@pytest.fixture
def place(request: pytest.FixtureRequest, servers: Callable[[str], str], key_prefix: str) -> Iterator[World]:
    """Where the queues of this test live."""
    name, colour = request.param
    here: World
    here = MemoryWorld(colour) if name == "memory" else RedisWorld(name, colour, servers(name), key_prefix)
    yield here
    here.close()


@pytest.fixture
def log(place: World) -> Colour:
    """The log that the queues tell their story to."""
    return place.open()


@pytest.fixture
def slots(place: World, log: Colour) -> Any:
    """The slot queues of the workspace."""
    return SLOT_COLOURS[place.colour](log)

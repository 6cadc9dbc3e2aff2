"""Workspaces in memory and on a real Redis, in both colours."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.slots_service.colours import COLOURS
from tests.support.redis_process import RedisProcess

WORLDS = [(place, colour) for place in ("memory", "redis") for colour in COLOURS]


@pytest.fixture(params=WORLDS, ids="-".join)
def here(request: pytest.FixtureRequest) -> Iterator[Any]:
    """One workspace's log, slots, enforcer; `listener()` makes one."""
    place, colour = request.param
    options: dict[str, Any] = {"backend": place, "workspace": "w"}
    if place == "redis":
        server: RedisProcess = request.getfixturevalue("redis_server")
        options |= {"url": server.url, "key_prefix": request.getfixturevalue("key_prefix")}
    workspace = COLOURS[colour](**options)
    yield workspace
    workspace.close()

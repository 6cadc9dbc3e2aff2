"""How much a log keeps, over HTTP."""

from contextlib import closing
from typing import Any

import httpx
import pytest

from tests.server.api import Api, assert_problem
from tests.server.conftest import Serve
from tests.support.redis_process import RedisProcess


def put(api: Api, asked: Any) -> httpx.Response:
    return api.client.put(f"{api.base}/log/retention", json=asked)


def test_it_is_read_and_changed(api: Api) -> None:
    api.fill(9)
    assert api.get("/log/retention").json() == {"ttl_seconds": 3600.0, "max_entries": 10_000}
    assert put(api, {"max_entries": 4}).json() == {"ttl_seconds": 3600.0, "max_entries": 4}
    assert api.offsets() == [6, 7, 8, 9]
    changed = {"ttl_seconds": 60.5, "max_entries": 4}
    assert put(api, {"ttl_seconds": 60.5, "max_entries": None}).json() == changed
    assert api.get("/log/retention").json() == api.get("/log").json()["retention"] == changed


@pytest.mark.parametrize(
    ("asked", "field"),
    [
        ({}, "ttl_seconds"),
        ([], "body"),
        ({"max_entries": 0}, "max_entries"),
        ({"max_entries": "5"}, "max_entries"),
        ({"max_entries": 10**9}, "max_entries"),
        ({"ttl_seconds": -1}, "ttl_seconds"),
        ({"ttl_seconds": 0.0001}, "ttl_seconds"),
        ({"ttl_seconds": True}, "ttl_seconds"),
        ({"ttl": 5}, "ttl"),
    ],
)
def test_what_makes_no_sense_is_named_and_changes_nothing(api: Api, asked: Any, field: str) -> None:
    assert_problem(put(api, asked), 400, "INVALID_PARAMS", field)
    assert api.get("/log/retention").json() == {"ttl_seconds": 3600.0, "max_entries": 10_000}


def test_a_server_with_other_settings_leaves_logs_that_exist_as_they_are(
    redis_server: RedisProcess, serve: Serve, key_prefix: str
) -> None:
    for entries, offsets in ((20, range(1, 13)), (5, range(5, 25))):
        settings = {"key_prefix": key_prefix, "max_entries": entries}
        with serve(redis_server.url, log=settings) as url, closing(httpx.Client(base_url=url)) as client:
            api = Api(client, "w")
            api.fill(12)
            assert api.offsets() == list(offsets)
            new = Api(client, f"new{entries}")
            new.fill(12)
            assert len(new.offsets()) == min(entries, 12)

"""A real server (uvicorn on a loopback port) over a real Redis, shared by the tests of one process."""

import uuid
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Protocol

import httpx
import pytest
from eventlog_server import ServerSettings, background

from eventlog.config import EventLogConfig
from tests.server.api import Api
from tests.support.redis_process import RedisProcess


@contextmanager
def serving(redis_url: str, *, log: dict[str, Any] | None = None, **settings: Any) -> Iterator[str]:
    """A server of a test's own; yields its URL."""
    config = EventLogConfig(redis_url=redis_url, **{"key_prefix": f"t{uuid.uuid4().hex[:12]}", **(log or {})})
    with background(ServerSettings(port=0, log=config, **settings)) as address:
        yield address.url


class Serve(Protocol):
    def __call__(
        self, redis_url: str, *, log: dict[str, Any] | None = None, **settings: Any
    ) -> AbstractContextManager[str]: ...


@pytest.fixture
def serve() -> Serve:
    """Starts a server with settings of its own: `with serve(redis_server.url, body_max_bytes=2048) as url`."""
    return serving


@pytest.fixture(scope="session")
def server_url(redis_server: RedisProcess) -> Iterator[str]:
    """The shared server, with the settings a user gets."""
    with serving(redis_server.url) as url:
        yield url


@pytest.fixture
def workspace() -> str:
    """A workspace that no other test has."""
    return f"w{uuid.uuid4().hex[:12]}"


@pytest.fixture
def api(server_url: str, workspace: str) -> Iterator[Api]:
    """The routes of one workspace on the shared server."""
    with httpx.Client(base_url=server_url, timeout=20) as client:
        yield Api(client, workspace)

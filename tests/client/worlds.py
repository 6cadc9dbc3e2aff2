"""Logs behind a real server on a real Redis, as the contract suite talks to them: blocking and on asyncio."""

import asyncio
import threading
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any

from eventlog_server import ServerSettings, background

from eventlog import EventLog, create_async_event_log, create_event_log
from eventlog.config import EventLogConfig
from eventlog.model import Audit
from tests.contract.colours import AsyncColour, Colour, SyncColour
from tests.contract.worlds import RedisWorld


class Behind:
    """A server, and a log behind it in the test's own hands, for what no client can ask for."""

    def __init__(self, options: dict[str, Any]) -> None:
        self.config = EventLogConfig(backend="redis", redis_url=options.pop("url"), **{"workspace": "w", **options})
        # As much in a batch as the library takes.
        settings = ServerSettings(port=0, log=self.config, batch_max_events=10_000, body_max_bytes=32 * 1024 * 1024)
        self._server: AbstractContextManager[Any] = background(settings)
        self.url: str = self._server.__enter__().url

    def direct(self, workspace: str) -> EventLog:
        """A log straight on Redis. Close it."""
        return create_event_log("redis", config=replace(self.config, workspace=workspace))

    def close(self) -> None:
        self._server.__exit__(None, None, None)


class HttpSyncColour(SyncColour):
    """The log behind a server as it is. With `direct`, a log in the test's own hands, its storage can be looked at."""

    def __init__(self, url: str, workspace: str, direct: EventLog | None = None, **options: Any) -> None:
        self.direct = direct
        self.log: Any = create_event_log(url=url, workspace=workspace, **options)

    def verify(self) -> Audit:
        assert self.direct is not None
        return self.direct.verify()

    @property
    def storage(self) -> Any:
        assert self.direct is not None
        return self.direct.core.backend

    def close(self) -> None:
        self.log.close()
        if self.direct is not None:
            self.direct.close()


class HttpAsyncColour(AsyncColour):
    """Its asyncio twin, driven from outside."""

    def __init__(self, url: str, workspace: str, direct: EventLog | None = None, **options: Any) -> None:
        self.direct = direct
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._closed = False
        self.log: Any = create_async_event_log(url=url, workspace=workspace, **options)

    def verify(self) -> Audit:
        assert self.direct is not None
        return self.direct.verify()

    @property
    def storage(self) -> Any:
        assert self.direct is not None
        return self.direct.core.backend

    def close(self) -> None:
        super().close()
        if self.direct is not None:
            self.direct.close()


COLOURS: dict[str, type[HttpSyncColour | HttpAsyncColour]] = {"sync": HttpSyncColour, "async": HttpAsyncColour}


class HttpWorld(RedisWorld):
    """Clients of servers on the Redis at `url`, under keys that begin with `key_prefix`."""

    def __init__(self, colour: str, url: str, key_prefix: str) -> None:
        super().__init__("http", colour, url, key_prefix)
        self._servers: list[Behind] = []

    def open(self, **options: Any) -> Colour:
        """A client of a server of its own."""
        behind = Behind({"url": self.url, "key_prefix": self.key_prefix, **options})
        self._servers.append(behind)
        return self.join(behind, behind.config.workspace)

    def join(self, behind: Behind, workspace: str) -> Colour:
        """A client of a server that others use too."""
        self.key_prefix = behind.config.key_prefix
        log: Any = COLOURS[self.colour](behind.url, workspace, behind.direct(workspace))
        self._opened.append(log)
        return log  # type: ignore[no-any-return]

    def close(self) -> None:
        super().close()
        for server in self._servers:
            server.close()

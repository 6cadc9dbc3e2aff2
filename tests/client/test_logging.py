"""A logging handler may ship what is logged by a client, a dispatcher or a bus: its own shipping never feeds it."""

import asyncio
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest

from eventlog import AsyncEventDispatcher, EventBus, EventDispatcher, create_async_event_log, create_event_log
from eventlog.client import EventLogClient
from eventlog.errors import BackendUnavailable
from tests.client.worlds import Behind
from tests.support.redis_process import eventually


class Shipping(logging.Handler):
    """Passes each record's logger and text to `ship`."""

    def __init__(self, ship: Callable[[str, str], object]) -> None:
        super().__init__()
        self.ship = ship
        self.shipped: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if len(self.shipped) < 50:  # a test that fails shall end
            self.shipped.append(record.name)
            self.ship(record.name, record.getMessage())


@contextmanager
def shipping(ship: Callable[[str, str], object]) -> Iterator[list[str]]:
    """All that is logged, at any level, goes to `ship`; gives the loggers of what was."""
    handler, root = Shipping(ship), logging.getLogger()
    level = root.level
    root.setLevel(logging.DEBUG)
    root.addHandler(handler)
    try:
        yield handler.shipped
    finally:
        root.removeHandler(handler)
        root.setLevel(level)


def test_a_client_that_ships_records_logs_none_of_its_requests(shared: Behind, workspace: str) -> None:
    with (
        create_event_log(url=shared.url, workspace=workspace) as log,
        shipping(lambda name, text: log.append("log.line", {"text": text})) as shipped,
    ):
        logging.getLogger("app").info("hello")
        with log.follow(since=0) as follower:
            assert next(iter(follower)).payload["text"] == "hello"
    assert shipped == ["app"]


def test_nor_does_an_asyncio_client(shared: Behind, workspace: str) -> None:
    async def tried() -> None:
        async with create_async_event_log(url=shared.url, workspace=workspace) as log:
            tasks: list[asyncio.Task[Any]] = []

            def ship(name: str, text: str) -> None:
                tasks.append(asyncio.create_task(log.append("log.line", {"logger": name, "text": text})))

            with shipping(ship) as shipped:
                logging.getLogger("app").info("hello")
                await asyncio.gather(*tasks)
                assert [event.payload["text"] for event in await log.query()] == ["hello"]
        assert shipped == ["app"]

    asyncio.run(tried())


def test_what_others_ask_by_the_same_library_is_logged(shared: Behind) -> None:
    lines: list[str] = []
    with create_event_log(url=shared.url) as log, shipping(lambda name, text: lines.append(text)) as shipped:
        log.query()
        httpx.get(f"{shared.url}/healthz")
    assert "httpx" in shipped
    assert "httpcore.http11" in shipped
    assert not any("/events" in line for line in lines)


def test_a_dispatcher_takes_each_record_once(shared: Behind, workspace: str) -> None:
    with (
        create_event_log(url=shared.url, workspace=workspace) as log,
        EventDispatcher(log) as dispatcher,
        shipping(lambda name, text: dispatcher.dispatch(event_name="log.line", data={"text": text})) as shipped,
    ):
        logging.getLogger("app").info("hello")
        assert dispatcher.shutdown()
    assert shipped == ["app"]
    assert dispatcher.stats().delivered == 1


def fails(**event: object) -> None:
    raise ConnectionError("the sink is away")


async def afails(**event: object) -> None:
    raise ConnectionError("the sink is away")


@pytest.mark.parametrize("sink", [fails, afails])
def test_what_a_dispatcher_says_of_failures_is_no_event_of_any_dispatcher(sink: Callable[..., Any]) -> None:
    other = EventDispatcher(lambda **event: None)
    with EventDispatcher(sink) as dispatcher:

        def ship(name: str, text: str) -> None:
            dispatcher.dispatch(event_name="log.line", data={"text": text})
            other.dispatch(event_name="log.line", data={"text": text})

        with shipping(ship) as shipped:
            logging.getLogger("app").info("hello")
            dispatcher.shutdown()
    assert other.shutdown()
    # asyncio says, once, that it has an event loop.
    others = [name for name in shipped if name != "eventlog"]
    assert others in (["app"], ["app", "asyncio"])
    assert dispatcher.stats().dispatched == other.stats().delivered == len(others)


def test_nor_of_one_on_asyncio() -> None:
    async def tried() -> None:
        async with AsyncEventDispatcher(afails) as dispatcher:
            with shipping(lambda name, text: dispatcher.dispatch(event_name="log.line")) as shipped:
                logging.getLogger("app").info("hello")
                await dispatcher.shutdown()
        assert set(shipped[1:]) == {"eventlog"}
        assert dispatcher.stats().failed == 1

    asyncio.run(tried())


def test_what_a_bus_says_of_a_failed_event_is_not_emitted() -> None:
    async def tried() -> None:
        with (
            create_event_log("redis", url="redis://127.0.0.1:1", deadline_seconds=0.1) as log,
            EventBus(log=log) as bus,
            shipping(lambda name, text: bus.emit({"kind": "log.line", "payload": {"text": text}})) as shipped,
        ):
            logging.getLogger("app").info("hello")
            await asyncio.to_thread(eventually, lambda: "eventlog" in shipped, "the failure is logged")
            await bus.close()
        assert [name for name in shipped if name != "asyncio"] == ["app", "eventlog"]

    asyncio.run(tried())


def test_redis_logs_nothing_of_an_append(shared: Behind, workspace: str) -> None:
    with (
        shared.direct(workspace) as log,
        shipping(lambda name, text: log.append("log.line", {"text": text})) as shipped,
    ):
        logging.getLogger("app").info("hello")
    assert shipped == ["app"]


def test_a_server_that_is_away_logs_nothing_of_an_append() -> None:
    with EventLogClient("http://127.0.0.1:1", deadline_s=0.1) as log:

        def ship(name: str, text: str) -> None:
            with pytest.raises(BackendUnavailable):
                log.append("log.line", {"text": text})

        with shipping(ship) as shipped:
            logging.getLogger("app").info("hello")
    assert shipped == ["app"]

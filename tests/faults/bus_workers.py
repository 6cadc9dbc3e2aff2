"""A client process on a shared bus: emits its events, and says in which order it was given those of all.

Run as `python -m tests.faults.bus_workers '<json arguments>'`. Lines: `["ready"]`, then `["got", offset, kind, n]` for
each event, `["done"]` at the end.
"""

import asyncio
import json
import sys
import threading
from typing import Any

from eventlog import Event
from eventlog.bus.bus import EventBus
from tests.faults.opening import open_async_log, open_log
from tests.faults.workers import Worker, say


class BusWorker(Worker):
    """Such a process."""

    module = "tests.faults.bus_workers"


def told(event: Event) -> str:
    say("got", event.offset, event.kind, event.payload.get("n"))
    return event.kind


def blocking(url: str, name: str, count: int) -> None:
    with open_log(url) as log, EventBus(max_queue_size=100, log=log) as bus:

        def emit() -> None:
            for n in range(count):
                bus.emit({"kind": name, "payload": {"n": n}, "run_id": name})

        emitter = threading.Thread(target=emit)
        subscription = bus.subscribe()
        say("ready")
        for event in subscription:
            kind = told(event)
            if kind == "go":
                emitter.start()
            elif kind == "end":
                break
        emitter.join()


async def on_a_loop(url: str, name: str, count: int) -> None:
    async with open_async_log(url) as log, EventBus(max_queue_size=100, log=log) as bus, bus.subscribe() as events:

        async def emit() -> None:
            for n in range(count):
                await bus.emit({"kind": name, "payload": {"n": n}, "run_id": name})

        say("ready")
        async with asyncio.TaskGroup() as group:
            async for event in events:
                kind = told(event)
                if kind == "go":
                    group.create_task(emit())
                elif kind == "end":
                    break


def left_open(url: str) -> None:
    """Ends with subscribers that wait, and with events under way."""
    bus = EventBus(log=open_log(url))
    threading.Thread(target=list, args=(bus.subscribe(),), daemon=True).start()
    bus.emit({"kind": "a"})
    unbound = EventBus()
    threading.Thread(target=list, args=(unbound.subscribe(),), daemon=True).start()
    say("done")


def main(given: dict[str, Any]) -> None:
    if given["style"] == "left open":
        left_open(given["url"])
        return
    if given["style"] == "loop":
        asyncio.run(on_a_loop(given["url"], given["name"], given["count"]))
    else:
        blocking(given["url"], given["name"], given["count"])
    say("done")


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))

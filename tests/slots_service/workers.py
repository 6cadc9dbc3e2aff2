"""Processes of the chain: those that enforce and work, those that say that it is done, those that listen.

Run as `python -m tests.slots_service.workers '<json arguments>'`. Lines: `["granted", execution, fence, already_held]`,
`["ended", execution]` when the permit learns that its slot was given back, `["lost", …]`; `["following"]`;
`["listening"]`, `["stats", {…}]` after SIGTERM; `["done"]` at the end.
"""

import dataclasses
import json
import signal
import sys
import threading
from typing import Any

from eventlog import create_event_log
from eventlog.enforcement.completion import CompletionListener
from eventlog.enforcement.enforcer import Permit, PolicyEnforcer
from eventlog.log.blocking import EventLog
from tests.faults.workers import Worker, say


def enforce(log: EventLog, given: dict[str, Any]) -> None:
    """Wait for leave to run each execution in turn; the slot of each stays until somebody says that it is complete."""
    enforcer = PolicyEnforcer(log.slots())
    for execution in given["executions"]:
        over = threading.Event()

        def told(permit: Permit, over: threading.Event = over) -> None:
            say("lost" if permit.lost else "ended", permit.execution_id)
            over.set()

        permit = enforcer.enforce_and_wait(
            given["action"], execution_id=execution, timeout_s=60, lease_s=given.get("lease_s", 1.0), on_end=told
        )
        say("granted", execution, permit.fencing_token, permit.already_held)
        assert over.wait(60)


def complete(log: EventLog, given: dict[str, Any]) -> None:
    """Say that executions are complete, as often as each event `please.complete` asks; until killed."""
    with log.follow(kind="please.complete") as asked:
        say("following")
        for event in asked:
            for _ in range(event.payload["times"]):
                log.append("execution.completed", event.payload["completion"])


def listen(log: EventLog, given: dict[str, Any]) -> None:
    """Listen until SIGTERM."""
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    with CompletionListener(log, take_over_s=given.get("take_over_s", 0.5)) as listener:
        say("listening")
        assert stop.wait(100)
    say("stats", dataclasses.asdict(listener.stats()))


STYLES = {"enforce": enforce, "complete": complete, "listen": listen}


def main(given: dict[str, Any]) -> None:
    with create_event_log("redis", url=given["url"], workspace="w", key_prefix=given["key_prefix"]) as log:
        STYLES[given["style"]](log, given)
    say("done")


class Member(Worker):
    """A process of the chain."""

    module = "tests.slots_service.workers"


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))

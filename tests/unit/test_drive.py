"""The two drivers carry out the same plan the same way."""

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from eventlog.plan.drive import arun, run
from eventlog.plan.effects import Command, Park, Pause, Plan, at_once

Driver = Callable[[Plan[Any], Callable[[Command], Any]], Any]


def driven_async(plan: Plan[Any], execute: Callable[[Command], Any]) -> Any:
    async def aexecute(command: Command) -> Any:
        return execute(command)

    return asyncio.run(arun(plan, aexecute))


@pytest.fixture(params=[run, driven_async], ids=["sync", "async"])
def drive(request: pytest.FixtureRequest) -> Driver:
    driver: Driver = request.param
    return driver


def get(key: str) -> Command:
    return Command(("GET", key), 1.0)


def never(command: Command) -> Any:
    raise AssertionError(f"nothing was to be sent, yet: {command}")


def test_replies_go_back_to_where_the_plan_asked(drive: Driver) -> None:
    def plan() -> Plan[list[Any]]:
        first = yield get("a")
        nothing = yield Pause(0)
        second = yield get("b")
        return [first, nothing, second]

    assert drive(plan(), lambda command: f"<{command.args[1]!s}>") == ["<a>", None, "<b>"]


def test_a_failure_is_thrown_where_the_plan_asked_and_may_be_handled_there(drive: Driver) -> None:
    def plan() -> Plan[str]:
        try:
            yield get("bad")
        except KeyError as error:
            reply = yield get("good")
            return f"{error.args[0]} then {reply}"
        return "no failure"

    def execute(command: Command) -> str:
        if command.args[1] == "bad":
            raise KeyError("bad")
        return "good"

    assert drive(plan(), execute) == "bad then good"


def test_a_failure_that_the_plan_does_not_handle_reaches_the_caller(drive: Driver) -> None:
    closed = []

    def plan() -> Plan[None]:
        try:
            yield get("bad")
        finally:
            closed.append(True)

    def execute(command: Command) -> None:
        raise ConnectionError(command.args[0])

    with pytest.raises(ConnectionError, match="GET"):
        drive(plan(), execute)
    assert closed == [True]


def test_a_plan_without_effects_is_carried_out_when_it_is_driven(drive: Driver) -> None:
    done = []

    @at_once
    def method(value: int) -> int:
        done.append(value)
        return value + 1

    plan = method(1)
    assert done == []
    assert drive(plan, never) == 2
    assert done == [1]


def test_a_park_ends_when_it_is_woken_from_another_thread(drive: Driver) -> None:
    taken_back = []

    def subscribe(wake: Callable[[], None]) -> Callable[[], None]:
        threading.Timer(0.05, wake).start()
        return lambda: taken_back.append(True)

    def plan() -> Plan[float]:
        began = time.monotonic()
        yield Park(subscribe, 20)
        return time.monotonic() - began

    assert drive(plan(), never) < 10
    assert taken_back == [True]


def test_a_park_that_nobody_wakes_ends_by_itself(drive: Driver) -> None:
    taken_back = []

    def plan() -> Plan[str]:
        yield Park(lambda wake: lambda: taken_back.append(True), 0.05)
        return "over"

    assert drive(plan(), never) == "over"
    assert taken_back == [True]


def test_a_park_woken_while_it_subscribes_does_not_wait(drive: Driver) -> None:
    def subscribe(wake: Callable[[], None]) -> Callable[[], None]:
        wake()
        return lambda: None

    def plan() -> Plan[float]:
        began = time.monotonic()
        yield Park(subscribe, 20)
        return time.monotonic() - began

    assert drive(plan(), never) < 10

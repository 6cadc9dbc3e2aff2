"""What objects do in a forked child."""

import gc
import os
from collections.abc import Callable

from eventlog.plan import forks
from eventlog.plan.forks import call_in_child


class Thing:
    def __init__(self) -> None:
        self.calls: list[str] = []
        call_in_child(self.first)
        call_in_child(self.second)

    def first(self) -> None:
        self.calls.append("first")

    def second(self) -> None:
        self.calls.append("second")


def in_child(check: Callable[[], bool]) -> bool:
    child = os.fork()
    if child == 0:
        os._exit(0 if check() else 1)
    return os.waitpid(child, 0)[1] == 0


def test_methods_are_called_in_a_child_in_their_order_and_not_in_the_parent() -> None:
    thing, other = Thing(), Thing()
    assert in_child(lambda: thing.calls == other.calls == ["first", "second"])
    assert thing.calls == []


def test_a_child_of_a_child_is_a_child_too() -> None:
    thing = Thing()
    assert in_child(lambda: in_child(lambda: thing.calls == ["first", "second"] * 2))


def test_an_object_is_not_kept_alive_and_forgotten_with_its_end() -> None:
    gc.collect()
    before = len(forks._methods)
    things = [Thing(), Thing()]
    assert len(forks._methods) == before + len(things)
    things.clear()
    gc.collect()
    assert len(forks._methods) == before

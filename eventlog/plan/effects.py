"""Plans: operations written once as generators that do no I/O, and what they may ask for.

A plan yields an effect and is sent its reply. `drive.py` has the drivers that carry effects out, blocking
or on asyncio; a failed effect is thrown into the plan at the place that asked for it.
"""

from collections.abc import Callable, Generator
from dataclasses import dataclass
from functools import wraps
from typing import Any, ParamSpec, TypeVar, final

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Command:
    """One Redis command. `timeout_s` bounds the wait for its reply; the reply is sent back undecoded.

    `goes_on`: only over the connection that there is. A new one may lead to another Redis, such as a new primary.

    Numbers are given as text: a signal handler that raises while the packer formats one ends the process.
    """

    args: tuple[bytes | str, ...]
    timeout_s: float
    goes_on: bool = False


@final
@dataclass(frozen=True, slots=True)
class Pause:
    """Let `seconds` pass."""

    seconds: float


@final
@dataclass(frozen=True, slots=True)
class Park:
    """Wait until the callback handed to `subscribe` is called, at most `timeout_s`.

    `subscribe(wake)` returns a function that takes the subscription back; `wake` may be called from any thread.
    """

    subscribe: Callable[[Callable[[], None]], Callable[[], None]]
    timeout_s: float


Plan = Generator[Any, Any, T]
"""Yields `Command`, `Pause`, `Park`, or an effect that its own driver knows, such as a log's `Append`."""


def at_once(method: Callable[P, T]) -> Callable[P, Plan[T]]:
    """Make a plan of a method that needs no effect: it is carried out when the plan is driven."""

    @wraps(method)
    def plan(*args: P.args, **kwargs: P.kwargs) -> Plan[T]:
        yield from ()
        return method(*args, **kwargs)

    return plan

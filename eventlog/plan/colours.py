"""One operation, two colours: a method that returns a plan, as a call that blocks and as a call that is awaited.

Signature and docstring are those of the method, written once; editors and type checkers show them in both colours.
"""

from collections.abc import Callable, Coroutine
from inspect import Signature, signature
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

from .effects import Plan

P = ParamSpec("P")
T = TypeVar("T")
Ops = TypeVar("Ops")
Ops_co = TypeVar("Ops_co", covariant=True)


class Blocks(Protocol[Ops_co]):
    """Has operations, and carries out their plans by blocking."""

    @property
    def operations(self) -> Ops_co: ...

    def _run(self, plan: Plan[T], /) -> T: ...


class Awaits(Protocol[Ops_co]):
    """Has operations, and carries out their plans on the running event loop."""

    @property
    def operations(self) -> Ops_co: ...

    def _run(self, plan: Plan[T], /) -> Coroutine[Any, Any, T]: ...


def _like(operation: Callable[..., Any], call: Callable[..., Any]) -> None:
    """Copy name, docstring and parameters. `functools.wraps` would add a `__wrapped__` that is of neither colour."""
    call.__name__, call.__qualname__, call.__doc__ = operation.__name__, operation.__qualname__, operation.__doc__
    shown = signature(operation).replace(return_annotation=Signature.empty)
    setattr(call, "__signature__", shown)  # noqa: B010  (type checkers know no such attribute)


def blocking(operation: Callable[Concatenate[Ops, P], Plan[T]]) -> Callable[Concatenate[Blocks[Ops], P], T]:
    """The operation as a call that blocks."""
    name = operation.__name__

    def call(self: Blocks[Ops], /, *args: P.args, **kwargs: P.kwargs) -> T:
        plan: Plan[T] = getattr(self.operations, name)(*args, **kwargs)
        return self._run(plan)

    _like(operation, call)
    return call


def awaited(
    operation: Callable[Concatenate[Ops, P], Plan[T]],
) -> Callable[Concatenate[Awaits[Ops], P], Coroutine[Any, Any, T]]:
    """The operation as a call that is awaited."""
    name = operation.__name__

    async def call(self: Awaits[Ops], /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await self._run(getattr(self.operations, name)(*args, **kwargs))

    _like(operation, call)
    return call

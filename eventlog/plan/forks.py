"""What an object does in another process. The only place that registers with `os.register_at_fork` for others.

A child has the parent's objects, but none of its threads; a lock may be held by a thread that the child does not have.
"""

import os
import weakref
from collections.abc import Callable
from typing import Any, NoReturn

_methods: weakref.WeakKeyDictionary[object, list[Callable[[Any], object]]] = weakref.WeakKeyDictionary()


def call_in_child(method: Callable[[], object]) -> None:
    """Call this bound method first thing in every child, for as long as its object lives; it is not kept alive."""
    bound: Any = method
    _methods.setdefault(bound.__self__, []).append(bound.__func__)


class OfOneProcess:
    """Something with connections, threads or a lease: it cannot be pickled or copied, and says so."""

    __slots__ = ()

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            f"{type(self).__name__} objects cannot be pickled or copied: they belong to the process that opened them. "
            "Pass on what it was opened with, and open another one there"
        )


def _call_all() -> None:
    for owner, methods in list(_methods.items()):
        for method in methods:
            method(owner)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_call_all)

"""What a user may import, and nothing else."""

import types

import eventlog
from eventlog import client


def submodules() -> set[str]:
    """Those that were imported so far, by whichever test."""
    return {name for name, value in vars(eventlog).items() if isinstance(value, types.ModuleType) and name[0] != "_"}


def test_all_is_sorted_and_complete() -> None:
    assert eventlog.__all__ == sorted(eventlog.__all__)
    public = {name for name in vars(eventlog) if not name.startswith("_")} - submodules()
    assert public | set(client.__all__) == set(eventlog.__all__)


def test_every_public_class_and_function_is_ours_and_says_what_it_is() -> None:
    for name in eventlog.__all__:
        thing = getattr(eventlog, name)
        assert thing.__module__.startswith("eventlog."), name
        assert thing.__doc__, name


def test_every_public_method_says_what_it_does() -> None:
    undocumented = [
        f"{name}.{member}"
        for name in eventlog.__all__
        for member, value in vars(getattr(eventlog, name)).items()
        if not member.startswith("_")
        and (isinstance(value, types.FunctionType | property | classmethod | staticmethod))
        and not (value.fget if isinstance(value, property) else getattr(value, "__func__", value)).__doc__
    ]
    assert undocumented == []


def test_only_the_submodules_of_the_package_are_reachable() -> None:
    assert all(getattr(eventlog, name).__name__ == f"eventlog.{name}" for name in submodules())

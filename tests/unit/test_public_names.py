"""What a user may import, and nothing else."""

import importlib
import subprocess
import sys
import types
from pathlib import Path

import pytest

import eventlog

PACKAGES = ["eventlog"] + [
    f"eventlog.{path.parent.name}"
    for path in sorted(Path(eventlog.__file__).parent.glob("*/__init__.py"))
    if "exporter(" in path.read_text("utf-8")
]


def of(package: str) -> dict[str, object]:
    """The names that a package hands out, with what they stand for."""
    module = importlib.import_module(package)
    return {name: getattr(module, name) for name in module.__all__}


def test_the_top_hands_out_what_the_first_hour_needs() -> None:
    assert len(eventlog.__all__) <= 36


@pytest.mark.parametrize("package", PACKAGES)
def test_what_a_package_hands_out_is_ours_and_says_what_it_is(package: str) -> None:
    for name, thing in of(package).items():
        assert thing.__module__.startswith("eventlog."), name
        assert thing.__doc__, name


@pytest.mark.parametrize("package", PACKAGES)
def test_type_checkers_see_the_same_names(package: str) -> None:
    source = Path(importlib.import_module(package).__file__ or "").read_text("utf-8")
    assert [name for name in of(package) if f" import {name} as {name}\n" not in source] == []
    assert source.count("    from .") == len(of(package))


@pytest.mark.parametrize("package", PACKAGES)
def test_every_public_method_says_what_it_does(package: str) -> None:
    undocumented = [
        f"{name}.{member}"
        for name, thing in of(package).items()
        for member, value in vars(thing).items()
        if not member.startswith("_")
        and (isinstance(value, types.FunctionType | property | classmethod | staticmethod))
        and not (value.fget if isinstance(value, property) else getattr(value, "__func__", value)).__doc__
    ]
    assert undocumented == []


def test_a_name_that_is_not_handed_out_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        eventlog.Nothing  # noqa: B018


def test_importing_the_package_loads_no_module_of_its_rooms() -> None:
    said = "import sys, eventlog; print(*sorted(name for name in sys.modules if name.startswith('eventlog')))"
    loaded = subprocess.run([sys.executable, "-c", said], capture_output=True, text=True, check=True).stdout.split()
    assert loaded == ["eventlog", "eventlog.exports"]

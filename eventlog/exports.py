"""What a package hands out, loaded when it is asked for: importing the package loads none of its modules."""

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def exporter(package: str, modules: Mapping[str, str]) -> tuple[Callable[[str], Any], list[str]]:
    """The `__getattr__` and `__all__` of a package. `modules` has, for each module of it, the names it hands out."""
    home = {name: module for module, names in modules.items() for name in names.split()}

    def __getattr__(name: str) -> Any:
        if name not in home:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(import_module(f"{package}.{home[name]}"), name)

    return __getattr__, sorted(home)

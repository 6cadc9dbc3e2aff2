"""What a package hands out, loaded when it is asked for: importing the package loads none of its modules."""

from collections.abc import Callable, Mapping
from importlib import import_module
from importlib.util import find_spec
from typing import Any


def exporter(
    package: str, modules: Mapping[str, str], extras: Mapping[str, str] | None = None
) -> tuple[Callable[[str], Any], list[str]]:
    """The `__getattr__` and `__all__` of a package. `modules` has, for each module of it, the names it hands out.

    `extras` has the package that a module needs, where an installation may lack it: `import *` does without the names
    of such a module then; asked for by name, they say what to install.
    """
    home = {name: module for module, names in modules.items() for name in names.split()}

    def __getattr__(name: str) -> Any:
        if name not in home:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(import_module(f"{package}.{home[name]}"), name)

    absent = {module for module, needed in (extras or {}).items() if find_spec(needed) is None}
    return __getattr__, sorted(name for name in home if home[name] not in absent)

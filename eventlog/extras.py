"""The optional parts of an installation: how a missing one is named, and the command that installs it."""

from collections.abc import Iterator
from contextlib import contextmanager

from .errors import MissingExtra


def install_command(extra: str) -> str:
    """`pip install 'shared-eventlog[server]'`"""
    return f"pip install 'shared-eventlog[{extra}]'"


@contextmanager
def imports_of(extra: str, purpose: str) -> Iterator[None]:
    """Around imports of optional packages: raises MissingExtra if one of them is not installed."""
    try:
        yield
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        # A missing module of our own is a defect, which no extra repairs.
        if package in {"eventlog", "eventlog_server"}:
            raise
        problem = f"{purpose} needs {package}, which is not installed: {install_command(extra)}"
        raise MissingExtra(extra, problem) from error

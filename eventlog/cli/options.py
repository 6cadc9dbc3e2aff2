"""The options that several commands share, each declared once.

A command names such a group as one parameter, by its type: `Target` (which log), `Filters` and `ReplayFilters` (which
events), `EventParts` (the fields of an event), `Queue` (which slots). `with_options` replaces it by the options.
"""

import functools
import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer
from typer.models import ArgumentInfo

from ..errors import InvalidInput
from ..model.events import FIELDS, EventParts
from ..model.filters import FILTERS, Filters, ReplayFilters
from ..printing.output import Format
from .target import Target, find_target

APP_SETTINGS: dict[str, Any] = {
    "no_args_is_help": True,
    "context_settings": {"help_option_names": ["-h", "--help"]},
    # In "rich" mode what stands in brackets, such as [default: 1], would be taken for the name of a colour.
    "rich_markup_mode": "markdown",
}

_WHERE = "Which log"
_WHICH = "Which events"
_TYPES = {"text": str | None, "texts": list[str] | None, "integer": int | None}
_SHORT = {"kind": "-k"}

Workspace = Annotated[
    str | None,
    typer.Option(
        "--workspace",
        "-w",
        help="The workspace whose log it is. [env: EVENTLOG_WORKSPACE; default: default]",
        rich_help_panel=_WHERE,
    ),
]
Url = Annotated[
    str | None,
    typer.Option(
        "--url",
        metavar="URL",
        help="http:// or https:// goes through a server; redis://, rediss:// or unix:// straight to that Redis. "
        "[env: EVENTLOG_URL, else EVENTLOG_REDIS_URL; default: the embedded Redis]",
        rich_help_panel=_WHERE,
    ),
]
DataDir = Annotated[
    Path | None,
    typer.Option(
        "--data-dir",
        help="Where the embedded Redis keeps its data. [env: EVENTLOG_DATA_DIR]",
        rich_help_panel=_WHERE,
    ),
]
Action = Annotated[
    str, typer.Argument(help="The action that slots are wanted for, or one of its queues as ACTION/GROUP.")
]
ActionGroup = Annotated[str | None, typer.Option("--group", help="The queue of this group of the action.")]
Output = Annotated[Format, typer.Option("--output", "-o", help="Lines of text, or one JSON object a line.")]


class Queue(NamedTuple):
    """The queue of an action, or of a group of it."""

    action: str
    group_key: str | None

    @classmethod
    def of(cls, action: str, group: str | None) -> "Queue":
        """A queue as `slots ls` shows it, `action` or `action/group`, or with the group given apart."""
        name, _, inside = action.partition("/")
        if inside and group is not None:
            raise InvalidInput("group", f"is {inside!r} in {action!r} and {group!r} in --group: give one")
        return cls(name, inside or group)


class _Group(NamedTuple):
    """Options by name, and what their values become. Arguments among them are required."""

    options: Mapping[str, Any]
    build: Callable[..., Any]


def _given(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value not in (None, [])}


def _option(name: str, kind: Any, text: str, panel: str | None) -> Any:
    """`run_id` is `--run`, `stage_name` is `--stage`, `since_seq` is `--since-seq`."""
    spelt = name.removesuffix("_id").removesuffix("_name").replace("_", "-")
    names = (f"--{spelt}", _SHORT[name]) if name in _SHORT else (f"--{spelt}",)
    return Annotated[kind, typer.Option(*names, help=text, show_default=False, rich_help_panel=panel)]


def _filter_options(names: Mapping[str, Any]) -> dict[str, Any]:
    wanted = [field for field in FILTERS if field.name in names]
    return {field.name: _option(field.name, _TYPES[field.form], field.help, _WHICH) for field in wanted}


_GROUPS: dict[Any, _Group] = {
    Target: _Group({"workspace": Workspace, "url": Url, "data_dir": DataDir}, find_target),
    Queue: _Group({"action": Action, "group": ActionGroup}, Queue.of),
    Filters: _Group(_filter_options(Filters.__annotations__), _given),
    ReplayFilters: _Group(_filter_options(ReplayFilters.__annotations__), _given),
    EventParts: _Group({field.name: _option(field.name, str | None, field.help, None) for field in FIELDS}, _given),
}


def with_options(command: Callable[..., None]) -> Callable[..., None]:
    """The command with the options of each group in the place of the parameter that stands for it."""
    groups: dict[str, _Group] = {}
    parameters: dict[str, inspect.Parameter] = {}
    for name, parameter in inspect.signature(command).parameters.items():
        group = _GROUPS.get(parameter.annotation)
        if group is None:
            parameters[name] = parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)
            continue
        groups[name] = group
        for option, annotation in group.options.items():
            is_argument = isinstance(annotation.__metadata__[0], ArgumentInfo)
            parameters[option] = inspect.Parameter(
                option,
                inspect.Parameter.KEYWORD_ONLY,
                default=inspect.Parameter.empty if is_argument else None,
                annotation=annotation,
            )

    @functools.wraps(command)
    def with_groups(**values: Any) -> None:
        built = {
            name: group.build(**{option: values.pop(option) for option in group.options})
            for name, group in groups.items()
        }
        command(**values, **built)

    with_groups.__signature__ = inspect.Signature(list(parameters.values()))  # type: ignore[attr-defined]
    with_groups.__annotations__ = {name: parameter.annotation for name, parameter in parameters.items()}
    return with_groups

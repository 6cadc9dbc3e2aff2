"""What the commands print: lists as tables or as JSON, and pages until a limit or the end."""

import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, Protocol, TypeVar

from rich.cells import cell_len

from ..errors import InvalidInput
from ..printing.escape import escaped
from ..printing.output import Format, painted, put, put_json, wants_colour

_LONGEST_CELL = 100


class Cell(NamedTuple):
    """A piece of a table with the colour it has where colours are wanted (an SGR code such as `1;31`)."""

    text: str
    colour: str = ""


class Documented(Protocol):
    """An item that has a JSON form."""

    def to_dict(self) -> dict[str, Any]: ...


Item = TypeVar("Item", bound=Documented)


def put_list(
    form: Format, head: Sequence[str], items: Sequence[Item], row: Callable[[Item], Sequence[str | Cell]]
) -> None:
    """Write items as objects, one a line, or as the rows of a table."""
    if form is Format.json:
        for item in items:
            put_json(item.to_dict())
    else:
        put_table(head, [row(item) for item in items])


def put_table(head: Sequence[str], rows: Sequence[Sequence[str | Cell]], *, colour: bool | None = None) -> None:
    """Write rows in columns that line up, below a head if there is one. `colour=None`: where a person looks."""
    if colour is None:
        colour = wants_colour(os.environ)
    lines = [[_cell(cell) for cell in row] for row in ([head, *rows] if head else rows)]
    widths = [max(cell_len(cell.text) for cell in column) for column in zip(*lines, strict=True)]
    for line in lines:
        put("  ".join(_padded(cell, width, colour) for cell, width in zip(line, widths, strict=True)).rstrip())


def brief(text: str) -> str:
    """The beginning of a long text, enough to recognise it. JSON has all of it."""
    return text if len(text) <= _LONGEST_CELL else text[: _LONGEST_CELL - 1] + "…"


class AnyPage(Protocol):
    """What all pages have."""

    @property
    def cursor(self) -> str | None: ...
    @property
    def at_end(self) -> bool: ...


PageT = TypeVar("PageT", bound=AnyPage)


def pages(
    fetch: Callable[[str | None, int], PageT],
    cursor: str | None,
    limit: int | None,
    largest: int,
    items: Callable[[PageT], Sequence[object]],
) -> Iterator[PageT]:
    """Pages from `cursor` on until they have `limit` items in all, or there are no more; the last one says which."""
    left = limit
    while True:
        page = fetch(cursor, largest if left is None else min(left, largest))
        yield page
        if left is not None:
            left -= len(items(page))
        if page.at_end or left == 0:
            return
        cursor = page.cursor


def at_least(least: int, name: str, number: int) -> int:
    """The number as it is; raises `InvalidInput` if it is smaller than that."""
    if number < least:
        raise InvalidInput(name, f"{number} is not {least} or more")
    return number


def _cell(given: str | Cell) -> Cell:
    cell = Cell(given) if isinstance(given, str) else given
    return cell._replace(text=escaped(cell.text))


def _padded(cell: Cell, width: int, colour: bool) -> str:
    blanks = " " * (width - cell_len(cell.text))
    return (painted(cell.text, cell.colour) if colour and cell.colour else cell.text) + blanks

"""Columns of text that line up on a terminal, whatever is in them."""

from collections.abc import Sequence
from typing import NamedTuple

from rich.cells import cell_len

from ..printing.escape import escaped
from ..printing.output import painted, put


class Cell(NamedTuple):
    """A piece of a table with the colour it has where colours are wanted (an SGR code such as `1;31`)."""

    text: str
    colour: str = ""


def put_table(head: Sequence[str], rows: Sequence[Sequence[str | Cell]], *, colour: bool = False) -> None:
    """Write rows in columns, below a head if there is one."""
    lines = [[_cell(cell) for cell in row] for row in ([head, *rows] if head else rows)]
    widths = [max(cell_len(cell.text) for cell in column) for column in zip(*lines, strict=True)]
    for line in lines:
        put("  ".join(_padded(cell, width, colour) for cell, width in zip(line, widths, strict=True)).rstrip())


def _cell(given: str | Cell) -> Cell:
    cell = Cell(given) if isinstance(given, str) else given
    return cell._replace(text=escaped(cell.text))


def _padded(cell: Cell, width: int, colour: bool) -> str:
    blanks = " " * (width - cell_len(cell.text))
    return (painted(cell.text, cell.colour) if colour and cell.colour else cell.text) + blanks

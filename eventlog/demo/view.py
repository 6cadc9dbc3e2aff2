"""What the demo shows: the last events in a live table on a terminal, lines elsewhere."""

import os
import sys
import time
from collections import Counter, deque

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from ..model.events import Event
from ..model.log_values import Gap
from ..printing import output
from ..printing.escape import escaped
from ..printing.output import EventPrinter, Format, gap_line, wants_colour

_MOST_ROWS = 18
_TAKEN_ROWS = 16
_RATE_S = 5.0


class PlainView:
    """A line an event."""

    def __init__(self) -> None:
        self._printer = EventPrinter(Format.text, colour=wants_colour(os.environ))

    def event(self, event: Event) -> None:
        self._printer.event(event)

    def gap(self, gap: Gap) -> None:
        self._printer.gap(gap)

    def note(self, text: str) -> None:
        output.note(text)

    def tick(self) -> None:
        """Nothing waits to be drawn."""

    def close(self) -> None:
        """Nothing is kept open."""


class LiveView:
    """A table of the last events and a line of totals, redrawn a few times a second."""

    def __init__(self) -> None:
        self._console = Console()
        self._rows: deque[Event] = deque(maxlen=max(4, min(_MOST_ROWS, self._console.height - _TAKEN_ROWS)))
        self._sources: Counter[str] = Counter()
        self._recent: deque[float] = deque()
        self._total = 0
        self._live = Live(self._drawn(), console=self._console, refresh_per_second=8, get_renderable=self._drawn)
        self._live.start()

    def event(self, event: Event) -> None:
        self._rows.append(event)
        self._total += 1
        self._sources[event.source or "others"] += 1
        self._recent.append(time.monotonic())

    def gap(self, gap: Gap) -> None:
        self.note(gap_line(gap))

    def note(self, text: str) -> None:
        self._console.print(Text(escaped(text)))

    def tick(self) -> None:
        """Forget what is too old to count for the rate."""
        oldest = time.monotonic() - _RATE_S
        while self._recent and self._recent[0] < oldest:
            self._recent.popleft()

    def close(self) -> None:
        self._live.stop()

    def _drawn(self) -> Group:
        table = Table(box=None, padding=(0, 1), expand=True, show_header=True, header_style="dim")
        for name, ratio in (("offset", 1), ("source", 1), ("kind", 2), ("run/lane:seq", 3), ("payload", 6)):
            table.add_column(name, no_wrap=True, overflow="ellipsis", ratio=ratio)
        for event in tuple(self._rows):
            table.add_row(*(Text(escaped(cell), style=style) for cell, style in _cells(event)))
        by_source = ", ".join(f"{name} {count}" for name, count in self._sources.copy().most_common(8))
        rate = len(self._recent) / _RATE_S
        totals = Text(escaped(f"{self._total} events, {rate:.1f} a second: {by_source}"), style="bold")
        return Group(Text(), table, totals)


View = PlainView | LiveView


def open_view() -> View:
    """The view that suits stdout."""
    return LiveView() if sys.stdout.isatty() and os.environ.get("TERM") != "dumb" else PlainView()


def _cells(event: Event) -> list[tuple[str, str]]:
    run = "" if event.run_id is None else f"{event.run_id}/{event.lane_id}:{event.seq}"
    style = "red" if event.kind.endswith((".failed", ".error")) else "green" if event.is_terminal else "cyan"
    payload = event.payload_json[:400].decode("utf-8", "replace")
    return [(str(event.offset), "dim"), (event.source or "", ""), (event.kind, style), (run, "magenta"), (payload, "")]

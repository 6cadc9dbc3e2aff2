"""`eventlog follow`: the log as it grows, with the habits of `tail -f`."""

import contextlib
import logging
import os
import select
import stat
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Annotated

import typer

from ..errors import BackendUnavailable, EventLogError, InvalidInput
from ..log.blocking import EventLog, Follower
from ..model.events import Event
from ..model.filters import Filters
from ..model.ids import parse_cursor
from ..model.pages import MAX_PAGE
from ..printing.output import EventPrinter, Format, note, wants_colour
from .options import Output, with_options
from .tables import at_least, pages
from .target import Target

_PATIENCE_S = 1.0
_PIPE_POLL_MS = 500


@with_options
def follow(
    target: Target,
    wanted: Filters,
    since: Annotated[
        str | None, typer.Option(help="From after this event id or offset; 0 is the start. [default: from now]")
    ] = None,
    last: Annotated[int | None, typer.Option("--last", "-n", help="Show so many of the last events first.")] = None,
    until_terminal: Annotated[
        bool, typer.Option("--until-terminal", help="End after the terminal event of --run.")
    ] = False,
    output: Output = Format.text,
) -> None:
    """Print events as they are appended, until Ctrl-C.

    Outages of Redis or of the server are waited out; following resumes where it stood. Gaps are reported.
    """
    if since is not None and last is not None:
        raise InvalidInput("last", "starts at the end of the log, --since does not: give one of them")
    at_least(0, "last", last or 0)
    printer = EventPrinter(output, colour=wants_colour(os.environ))
    with target.open_log() as log:
        following = Following(log, printer, wanted, until_terminal)
        following.begin(since)
        for event in _last_events(log, following.cursor, last or 0, wanted):
            printer.event(event)
            if until_terminal and event.is_terminal:
                return
        following.go_on()


def _is_no_outage(record: logging.LogRecord) -> bool:
    return not str(record.msg).startswith("following waits")


class Outage:
    """Reports an outage on stderr, once; the library's own warning of it is left out."""

    def __init__(self) -> None:
        self._reported = False
        logging.getLogger("eventlog").addFilter(_is_no_outage)

    def report(self, error: EventLogError) -> None:
        """The log cannot be reached."""
        if not self._reported:
            note(f"--- {error}; waiting for it to come back ---")
        self._reported = True

    def over(self) -> None:
        """It answers again."""
        self._reported = False


class Following:
    """Follows over any number of outages, each reported once."""

    def __init__(self, log: EventLog, printer: EventPrinter, wanted: Filters, until_terminal: bool) -> None:
        self._log = log
        self._printer = printer
        self._filters = wanted
        self._until_terminal = until_terminal
        self._follower: Follower | None = None
        self._closed = False

    @property
    def cursor(self) -> str:
        """Where the follower stands."""
        return "0" if self._follower is None else self._follower.cursor

    def begin(self, since: str | None) -> None:
        """Take a position; raises `BackendUnavailable` if the log cannot be reached to begin with."""
        self._follower = self._from(since, None)
        if since is not None:
            self._log.page(since, 0)

    def go_on(self) -> None:
        """Print events until the end, which may never come."""
        with watched_pipe(self.close):
            outage = Outage()
            while self._follower is not None and not self._closed:
                try:
                    for event in self._follower:
                        self._printer.event(event)
                        outage.over()
                    return
                except BackendUnavailable as error:
                    outage.report(error)
                    self._follower = self._from(self._follower.cursor, self._follower.epoch)

    def close(self) -> None:
        """End `go_on`, from another thread."""
        self._closed = True
        if self._follower is not None:
            self._follower.close()

    def _from(self, since: str | None, epoch: str | None) -> Follower:
        return self._log.follow(
            since,
            epoch=epoch,
            until_terminal=self._until_terminal,
            on_gap=self._printer.gap,
            patience_s=_PATIENCE_S,
            **self._filters,
        )


def _last_events(log: EventLog, cursor: str, count: int, wanted: Filters) -> list[Event]:
    """The last `count` events up to and including `cursor`, oldest first."""
    position = parse_cursor(cursor)
    if not count or position is None:
        return []
    newest_first = pages(
        lambda until, size: log.page(None, size, until=until, order="desc", **wanted),
        str(position.offset + 1),
        count,
        MAX_PAGE,
        lambda page: page.events,
    )
    return [event for page in newest_first for event in page.events][::-1]


@contextlib.contextmanager
def watched_pipe(stop: Callable[[], None]) -> Iterator[None]:
    """Stop following when the reader of our stdout goes away, also while there is nothing to write."""
    done = threading.Event()
    if hasattr(select, "poll") and stat.S_ISFIFO(os.fstat(sys.stdout.fileno()).st_mode):
        threading.Thread(target=_watch, args=(sys.stdout.fileno(), done, stop), daemon=True).start()
    try:
        yield
    finally:
        done.set()


def _watch(pipe: int, done: threading.Event, stop: Callable[[], None]) -> None:
    poll = select.poll()
    poll.register(pipe, 0)
    while not done.is_set():
        if any(state & (select.POLLERR | select.POLLHUP) for _, state in poll.poll(_PIPE_POLL_MS)):
            stop()
            return

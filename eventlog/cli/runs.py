"""`eventlog runs`: what ran, how it stands, lane by lane and stage by stage, and what it used."""

import os
import threading
from collections.abc import Callable, Iterator
from typing import Annotated, Any, cast

import orjson
import typer

from ..errors import BackendUnavailable, InvalidInput, NotFound
from ..log.blocking import EventLog
from ..model.filters import Filters, ReplayFilters
from ..model.pages import MAX_PAGE
from ..printing.escape import escaped
from ..printing.output import EventPrinter, Format, note, put, put_json, say_none, shown_time, wants_colour
from ..runs.fold import StageView
from ..runs.records import MOST_RUNS, ReplayPage, RunStatus, RunSummary
from ..telemetry.sample import Sample
from .follow import Following, Outage, watched_pipe
from .options import APP_SETTINGS, Output, with_options
from .quantities import shown_bytes, shown_ms
from .tables import Cell, at_least, brief, pages, put_list, put_table
from .target import Target

app = typer.Typer(help="Runs: their status, lanes, stages, events and telemetry.", **APP_SETTINGS)

RunId = Annotated[str, typer.Argument(metavar="RUN", help="The run.")]
Limit = Annotated[int, typer.Option("--limit", "-n", help="At most so many.")]
All = Annotated[bool, typer.Option("--all", help="No limit.")]

_POLL_S = 0.5
_STAGE_HEAD = ["STAGE", "STATUS", "ATTEMPT", "GROUP", "STARTED", "TOOK", "EXIT", "AFTER", "WHY"]
_COLOURS = {
    "running": "36",
    "finished": "1;32",
    "succeeded": "1;32",
    "failed": "1;31",
    "cancelled": "33",
    "skipped": "33",
    "queued": "2",
}


@app.command("ls")
@with_options
def list_runs(
    target: Target,
    status: Annotated[str | None, typer.Option(help="running, finished, failed or cancelled.")] = None,
    limit: Limit = 100,
    everything: All = False,
    until: Annotated[str | None, typer.Option(help="Go on from the cursor that an earlier list printed.")] = None,
    output: Output = Format.text,
) -> None:
    """List runs, the latest active first. One whose events have all left the log is not there any more."""
    left = None if everything else at_least(1, "limit", limit)
    with target.open_log() as log:
        found = list(
            pages(
                lambda until, size: log.runs(size, until=until, status=cast(RunStatus | None, status)),
                until,
                left,
                MOST_RUNS,
                lambda page: page.runs,
            )
        )
    head = ["RUN", "STATUS", "EVENTS", "LANES", "STARTED", "LAST EVENT", "TOOK"]
    put_list(output, head, [run for page in found for run in page.runs], _row)
    if not found[-1].at_end:
        note(f"--- more: --until {found[-1].cursor} ---")


def _row(run: RunSummary) -> list[str | Cell]:
    return [
        run.run_id,
        _status(run.status),
        str(run.events),
        str(len(run.lanes)),
        shown_time(run.started_at),
        shown_time(run.last_event_at),
        shown_ms(run.duration_ms),
    ]


@app.command("show")
@with_options
def show(target: Target, run_id: RunId, output: Output = Format.text) -> None:
    """Show one run: its status and times, its stages, its lanes."""
    with target.open_log() as log:
        run, stages = log.run(run_id), log.stages(run_id)
    if output is Format.json:
        put_json({**run.to_dict(), "stages": [stage.to_dict() for stage in stages]})
        return
    put_table([], list(_facts(run)))
    if stages:
        put("")
        put_list(output, _STAGE_HEAD, stages, _stage_row)
    put("")
    put_table(["LANE", "EVENTS"], [[lane, str(last)] for lane, last in run.lanes.items()])


def _facts(run: RunSummary) -> Iterator[list[str | Cell]]:
    yield ["run", run.run_id]
    yield ["status", _status(run.status)]
    yield ["started", shown_time(run.started_at)]
    if run.ended_at is not None:
        yield ["ended", shown_time(run.ended_at)]
    yield ["last event", f"{shown_time(run.last_event_at)}  {run.last_id}"]
    yield ["took" if run.ended_at is not None else "runs for", shown_ms(run.duration_ms)]
    yield ["events", str(run.events)]


@app.command("stages")
@with_options
def stages(target: Target, run_id: RunId, output: Output = Format.text) -> None:
    """List the stages of a run: where each stands, which attempt it is, when it began and how it ended."""
    with target.open_log() as log:
        put_list(output, _STAGE_HEAD, log.stages(run_id), _stage_row)


def _stage_row(stage: StageView) -> list[str | Cell]:
    return [
        brief(stage.stage_name),
        _status(stage.status),
        str(stage.stage_attempt),
        brief(stage.group_id),
        _when(stage),
        _or_blank(stage.duration_ms, shown_ms),
        _or_blank(stage.exit_code),
        brief(", ".join(stage.depends_on)),
        brief(stage.error or stage.reason or ""),
    ]


def _when(stage: StageView) -> str:
    """When it was started; where that is not so, or not known, what is known instead, and since when."""
    if stage.started_at is not None:
        return shown_time(stage.started_at)
    if stage.completed_at is not None:
        return f"ended {shown_time(stage.completed_at)}"
    return "" if stage.queued_at is None else f"queued {shown_time(stage.queued_at)}"


@app.command("replay")
@with_options
def replay(
    target: Target,
    run_id: RunId,
    wanted: ReplayFilters,
    lane: Annotated[str | None, typer.Option(help="Only this lane.")] = None,
    since_seq: Annotated[int, typer.Option(help="After this seq of every lane.")] = 0,
    since: Annotated[str | None, typer.Option(help="Go on from the cursor that an earlier replay printed.")] = None,
    limit: Annotated[int | None, typer.Option("--limit", "-n", help="At most so many events. [default: all]")] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with what is appended until the run ends.")] = (
        False
    ),
    output: Output = Format.text,
) -> None:
    """Print the events of a run in the order of the log. How many of a lane are gone is reported on stderr.

    With --lane and --since-seq it goes on where a reader of that lane stood.
    """
    left = _limit(limit, follow)
    printer = EventPrinter(output, colour=wants_colour(os.environ))
    with target.open_log() as log:

        def fetch(cursor: str | None, size: int) -> ReplayPage:
            return log.replay_page(run_id, lane_id=lane, since_seq=since_seq, since=cursor, limit=size, **wanted)

        for page in pages(fetch, since, left, MAX_PAGE, lambda page: page.events):
            printer.missed(page.missed)
            printer.page(page.events, page.gap)
        if follow:
            of_run: Filters = {**wanted, "run_id": run_id, "lane_id": lane, "since_seq": since_seq}
            following = Following(log, printer, of_run, until_terminal=True)
            following.begin(page.cursor)
            following.go_on()
        elif not page.at_end:
            note(f"--- more: --since {page.cursor} ---")
        else:
            printer.end("events")


def _limit(limit: int | None, follow: bool) -> int | None:
    if follow and limit is not None:
        raise InvalidInput("limit", "has no meaning with --follow: give one of them")
    return None if limit is None else at_least(1, "limit", limit)


@app.command("telemetry")
@with_options
def telemetry(
    target: Target,
    run_id: RunId,
    from_seq: Annotated[int, typer.Option(help="After this sample.")] = 0,
    stage: Annotated[str | None, typer.Option("--stage", help="Of this stage.")] = None,
    limit: Annotated[int | None, typer.Option("--limit", "-n", help="At most so many samples. [default: all]")] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with what comes until the run ends.")] = False,
    output: Output = Format.text,
) -> None:
    """Print what a run used: samples of its processes, and those that others posted. What is gone is reported."""
    left = _limit(limit, follow)
    with target.open_log() as log:
        samples = _Samples(log, run_id, stage, from_seq, output)
        if follow:
            samples.follow()
        else:
            samples.read(left)
            samples.end()


class _Samples:
    """Prints the samples of a run from a place on."""

    def __init__(self, log: EventLog, run_id: str, stage: str | None, from_seq: int, output: Format) -> None:
        self._log = log
        self._run_id = run_id
        self._stage = stage
        self._from_seq = from_seq
        self._output = output
        self._silent = True
        self._first_id: str | None = None

    def read(self, left: int | None = None) -> None:
        """Print what there is, at most so many; where that is not all, print where to go on."""
        while True:
            # One more than is wanted shows whether there is more.
            limit = None if left is None else left + 1
            page = self._log.telemetry(self._run_id, from_seq=self._from_seq, stage_name=self._stage, limit=limit)
            freed = not page.samples and page.next_seq == self._from_seq + page.missed
            _report_gone(page.missed, self._output, freed=freed)
            self._silent = self._silent and not (page.missed or page.samples)
            wanted = page.samples[:left]
            for sample in wanted:
                _put_sample(sample, self._output)
            if len(wanted) < len(page.samples):
                note(f"--- more: --from-seq {wanted[-1].seq} ---")
                return
            left = None if left is None else left - len(wanted)
            if left == 0 or page.next_seq == self._from_seq:
                return
            self._from_seq = page.next_seq

    def follow(self) -> None:
        """Print what comes until the run has ended. Outages, and a log that was cleared, are waited out."""
        stopped = threading.Event()
        outage = Outage()
        ended = self._go_on()
        with watched_pipe(stopped.set):
            while not (ended or stopped.wait(_POLL_S)):
                try:
                    ended = self._go_on()
                except (BackendUnavailable, NotFound) as error:
                    outage.report(error)
                else:
                    outage.over()

    def _go_on(self) -> bool:
        """Print what came; whether the run has ended, so that no more will come."""
        # Asked before the samples are read: those of its last moments are there by then.
        ended = self._has_ended()
        self.read()
        return ended

    def _has_ended(self) -> bool:
        run = self._log.run(self._run_id)
        if self._first_id not in (None, run.first_id):
            # It began anew, and so did its samples.
            self._from_seq = 0
        self._first_id = run.first_id
        return run.status != "running"

    def end(self) -> None:
        """Say so where there was nothing to print."""
        if self._silent:
            say_none("samples", self._output)


def _report_gone(count: int, output: Format, *, freed: bool) -> None:
    if count and output is Format.json:
        put_json({"control": "missed", "missed": count})
    elif count:
        why = "the ring of the run was freed" if freed else "the ring of the run holds the newest"
        note(f"--- gone: {count} samples; {why} ---")


def _put_sample(sample: Sample, output: Format) -> None:
    if output is Format.json:
        put_json(sample.to_dict())
    else:
        put(sample_line(sample))


def sample_line(sample: Sample) -> str:
    """`2025-11-21 12:44:16.123 #7 stage=build cpu=98.5% rss=123.4 MiB read=1.2 MiB written=512 B guest={"gpu":1}`."""
    parts = [shown_time(sample.timestamp), f"#{sample.seq}"]
    parts += [f"{name}={value}" for name, value in (("stage", sample.stage_name), ("source", sample.source)) if value]
    host = sample.host or {}
    if "cpu_percent" in host:
        parts.append(f"cpu={host['cpu_percent']:.1f}%")
    names = {"rss_bytes": "rss", "io_read_bytes": "read", "io_write_bytes": "written"}
    parts += [f"{shown}={shown_bytes(host[name])}" for name, shown in names.items() if name in host]
    if sample.guest is not None:
        parts.append(f"guest={orjson.dumps(sample.guest).decode()}")
    return escaped(" ".join(parts))


def _status(status: str) -> Cell:
    return Cell(status, _COLOURS.get(status, ""))


def _or_blank(value: Any, shown: Callable[[Any], str] = str) -> str:
    return "" if value is None else shown(value)

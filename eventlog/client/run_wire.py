"""What travels between a client and the server about runs, stages and telemetry: requests and answers. Pure."""

from typing import Any

from ..reading import PageRequest
from ..runs.records import ENDINGS, ReplayPage, RunsPage, RunsQuery, RunSummary
from .wire import Params, Request, filter_params, position_params, read_event


def runs_request(query: RunsQuery) -> Request:
    """Ask for a page of runs."""
    params: Params = [("limit", query.limit)]
    if query.below is not None:
        params.append(("until", query.below))
    params += [("status", status) for status, kinds in ENDINGS.items() if kinds == query.endings]
    return Request("GET", "/runs", params)


def run_request(run_id: str) -> Request:
    """Ask how one run stands."""
    return Request("GET", _run(run_id), [])


def replay_request(request: PageRequest) -> Request:
    """Ask for a page of a run's events."""
    params = [*position_params("since", request.since), ("limit", request.limit), *filter_params(request.wanted)]
    params = [(name, value) for name, value in params if name != "run_id"]
    return Request("GET", f"{_run(str(request.wanted.run_id))}/events", params)


def read_runs(answer: Any) -> RunsPage:
    """A page of runs as the server sent it."""
    return RunsPage([RunSummary.from_dict(run) for run in answer["runs"]], answer["cursor"], answer["at_end"])


def read_replay(answer: Any) -> ReplayPage:
    """A page of a run's events as the server sent it."""
    return ReplayPage(
        run_id=answer["run_id"],
        events=[read_event(event) for event in answer["events"]],
        cursor=answer["cursor"],
        at_end=answer["at_end"],
        missed=answer["missed"],
    )


def _run(run_id: str) -> str:
    """A run's path: all characters of its id may stand there, but a lone `.` or `..` would be resolved."""
    return f"/runs/{run_id.replace('.', '%2E') if run_id in ('.', '..') else run_id}"

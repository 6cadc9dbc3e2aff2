"""Requests and answers of the server about runs, stages and telemetry. Pure."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import orjson

from ..model.events import Event
from ..model.pages import PageRequest
from ..runs.fold import StageView
from ..runs.records import ENDINGS, ReplayPage, RunsPage, RunsQuery, RunSummary
from ..telemetry.sample import OLDEST_MS, Posted, Sample
from .wire import JSON, KEY_HEADER, Params, Request, filter_params, position_params, read_gap


def runs_request(query: RunsQuery) -> Request:
    """Ask for a page of runs."""
    params: Params = [("limit", query.limit)]
    if query.below is not None:
        params.append(("until", query.below))
    params += [("status", status) for status, kinds in ENDINGS.items() if kinds == query.endings]
    return Request("GET", "/runs", params)


def replay_request(request: PageRequest) -> Request:
    """Ask for a page of a run's events."""
    params = [*position_params("since", request.since), ("limit", request.limit), *filter_params(request.wanted)]
    params = [(name, value) for name, value in params if name != "run_id"]
    return Request("GET", f"{run_path(str(request.wanted.run_id))}/events", params)


def push_request(run_id: str, samples: Sequence[Posted], capacity: int | None, key: str, waited_ms: int = 0) -> Request:
    """Add samples that have waited `waited_ms` since their age was taken. It may be repeated under its key."""
    body: dict[str, Any] = {"samples": [_sample(one, waited_ms) for one in samples]}
    if capacity is not None:
        body["capacity"] = capacity
    headers = {"Content-Type": JSON, KEY_HEADER: key}
    return Request("POST", f"{run_path(run_id)}/telemetry", [], orjson.dumps(body), headers)


def _sample(posted: Posted, waited_ms: int) -> dict[str, Any]:
    stage = {} if posted.stage_name is None else {"stage_name": posted.stage_name}
    age_ms = min(posted.age_ms + waited_ms, OLDEST_MS)
    age = {"age_ms": age_ms} if age_ms else {}
    return {**orjson.loads(posted.data), **stage, **age}


def telemetry_request(run_id: str, from_seq: int, stage_name: str | None, limit: int) -> Request:
    """Ask for samples."""
    params: Params = [("from_seq", from_seq), ("limit", limit)]
    if stage_name is not None:
        params.append(("stage_name", stage_name))
    return Request("GET", f"{run_path(run_id)}/telemetry", params)


def read_stages(answer: Any) -> list[StageView]:
    """The stages of a run as the server sent them."""
    return [StageView.from_dict(stage) for stage in answer["stages"]]


def read_pushed(answer: Any, *, of_caller: bool) -> list[Sample]:
    """The samples of an answer to a push. What only the client's own retry repeated is no duplicate."""
    samples = map(Sample.from_dict, answer["samples"])
    return [replace(sample, duplicate=sample.duplicate and of_caller) for sample in samples]


def read_runs(answer: Any) -> RunsPage:
    """A page of runs as the server sent it."""
    return RunsPage([RunSummary.from_dict(run) for run in answer["runs"]], answer["cursor"], answer["at_end"])


def read_replay(answer: Any) -> ReplayPage:
    """A page of a run's events as the server sent it."""
    return ReplayPage(
        run_id=answer["run_id"],
        events=[Event.from_dict(event) for event in answer["events"]],
        cursor=answer["cursor"],
        at_end=answer["at_end"],
        missed=answer["missed"],
        gap=read_gap(answer["gap"]),
    )


def run_path(run_id: str) -> str:
    """A run's path. All characters of an id may stand there, but `.` or `..` alone would be resolved as a path."""
    return f"/runs/{run_id.replace('.', '%2E') if run_id in ('.', '..') else run_id}"

"""Runs: what there is, how one stands, its events lane by lane, its stages, its telemetry."""

from typing import Annotated

from fastapi import Header, Query, Response

from eventlog.runs.records import RunsPage, RunSummary

from ..answers import Json
from ..pages import encode_replay
from ..route import Log, RunId, problems, routes
from ..schemas.base import Absent
from ..schemas.runs import (
    ReplayOut,
    ReplayQuery,
    RunsQuery,
    SamplesIn,
    SamplesOut,
    StagesOut,
    TelemetryOut,
    TelemetryQuery,
)

router = routes("/{workspace}/runs", "runs")


@router.get("", summary="All runs", response_model=RunsPage)
async def list_runs(log: Log, query: Annotated[RunsQuery, Query()]) -> Response:
    """Those that have events in the log, the latest active first, 100 unless `limit` says otherwise.

    Pass `cursor` as `until` to go further back. A page with a `status` may be short before the end is reached.
    """
    page = await log.runs(**dict(query))
    return Json(page.to_dict())


@router.get("/{run_id}", summary="One run", response_model=RunSummary, responses=problems(404))
async def get_run(log: Log, run_id: RunId) -> Response:
    """Its status, when it began and ended, how many events in which lanes. 404 once its last event has left the log."""
    found = await log.run(run_id)
    return Json(found.to_dict())


@router.get("/{run_id}/events", summary="Replay a run", response_model=ReplayOut, responses=problems(404))
async def replay_run(log: Log, run_id: RunId, query: Annotated[ReplayQuery, Query()]) -> Response:
    """Its events after `since_seq` of every lane, or of `lane_id`, oldest first.

    Pass `cursor` as `since` for the next page, with the same parameters otherwise. `missed` says for each lane how many
    events after `since_seq` are gone; a page with `since` leaves it empty.
    """
    page = await log.replay_page(run_id, **dict(query))
    return Json(encode_replay(page))


@router.get("/{run_id}/stages", summary="The stages of a run", response_model=StagesOut, responses=problems(404))
async def list_stages(log: Log, run_id: RunId) -> Response:
    """One view a stage, folded from the run's `stage.*` events: where it stands, which attempt, when, how it ended."""
    found = await log.stages(run_id)
    return Json({"run_id": run_id, "stages": [stage.to_dict() for stage in found]})


@router.get("/{run_id}/telemetry", summary="Read samples", response_model=TelemetryOut, responses=problems(404))
async def read_telemetry(log: Log, run_id: RunId, query: Annotated[TelemetryQuery, Query()]) -> Response:
    """The samples after `from_seq`, oldest first. Pass `next_seq` as `from_seq` to go on.

    `missed` says how many samples after `from_seq` are gone: evicted, or freed with the ring.
    """
    page = await log.telemetry(run_id, **dict(query))
    return Json(page.to_dict())


@router.post(
    "/{run_id}/telemetry",
    summary="Add samples",
    status_code=201,
    response_model=SamplesOut,
    responses={
        200: {"model": SamplesOut, "description": "A repetition: what the first push stored, marked `duplicate`."},
        **problems(404, 408, 413, 415, 422),
    },
)
async def push_telemetry(
    log: Log,
    run_id: RunId,
    asked: SamplesIn,
    key: Annotated[
        str | Absent,
        Header(
            alias="Idempotency-Key",
            description="A repetition under the same key adds nothing; the answer has what the first stored.",
        ),
    ] = None,
) -> Response:
    """Samples of the host, of guests, or both. The ring keeps the newest `capacity` from now on; 0 keeps none."""
    given = [sample.given() for sample in asked.samples]
    samples = await log.push_telemetry(run_id, given, capacity=asked.capacity, idempotency_key=key)
    answer = {"samples": [sample.to_dict() for sample in samples]}
    if samples and samples[0].duplicate:
        return Json({**answer, "duplicate": True})
    return Json(answer, 201)

"""What clients ask of runs and of their telemetry: queries and bodies, as the arguments of the library's calls."""

from collections.abc import Mapping
from typing import Any, TypedDict

from eventlog.errors import InvalidInput
from eventlog.telemetry.terms import DEFAULT_SAMPLES

from .parsing import Query, Scope, header

RUNS_PARAMETERS = ("limit", "until", "status")
REPLAY_PARAMETERS = ("since_seq", "lane_id", "since", "limit", "kind", "stage_name", "visibility")
TELEMETRY_PARAMETERS = ("from_seq", "stage_name", "limit")
TELEMETRY_KEYS = ("samples", "capacity")
RUNS_LISTED = 100
# As many as a run keeps unless it is told otherwise: one answer shows them all.
MOST_SAMPLES_READ = DEFAULT_SAMPLES


class RunsAsked(TypedDict):
    """The arguments of `log.runs`."""

    limit: int
    until: str | None
    status: Any


class ReplayAsked(TypedDict):
    """The arguments of `log.replay_page` beside the run."""

    lane_id: str | None
    since_seq: int
    since: str | None
    limit: int | None
    kind: list[str]
    stage_name: str | None
    visibility: str | None


class TelemetryAsked(TypedDict):
    """The arguments of `log.telemetry` beside the run."""

    from_seq: int
    stage_name: str | None
    limit: int


class Pushed(TypedDict):
    """The arguments of `log.push_telemetry` beside the run; the library says whether the samples are any."""

    samples: Any
    capacity: Any
    idempotency_key: str | None


def runs_request(raw: bytes) -> RunsAsked:
    """The query of `GET /runs`."""
    query = Query(raw, RUNS_PARAMETERS)
    return {
        "limit": _number(query, "limit", RUNS_LISTED),
        "until": query.text("until"),
        "status": query.text("status"),
    }


def replay_request(raw: bytes) -> ReplayAsked:
    """The query of `GET /runs/{run_id}/events`."""
    query = Query(raw, REPLAY_PARAMETERS)
    return {
        "lane_id": query.text("lane_id"),
        "since_seq": _number(query, "since_seq", 0),
        "since": query.text("since"),
        "limit": query.integer("limit"),
        "kind": query.all("kind"),
        "stage_name": query.text("stage_name"),
        "visibility": query.text("visibility"),
    }


def telemetry_request(raw: bytes) -> TelemetryAsked:
    """The query of `GET /runs/{run_id}/telemetry`."""
    query = Query(raw, TELEMETRY_PARAMETERS)
    return {
        "from_seq": _number(query, "from_seq", 0),
        "stage_name": query.text("stage_name"),
        "limit": _samples_wanted(query),
    }


def pushed(body: Mapping[str, Any], scope: Scope) -> Pushed:
    """The body of `POST /runs/{run_id}/telemetry`, and the header `Idempotency-Key`."""
    if "samples" not in body:
        raise InvalidInput("samples", "is missing: a list of samples")
    return {
        "samples": body["samples"],
        "capacity": body.get("capacity"),
        "idempotency_key": header(scope, b"idempotency-key"),
    }


def _samples_wanted(query: Query) -> int:
    wanted = _number(query, "limit", MOST_SAMPLES_READ)
    if wanted > MOST_SAMPLES_READ:
        raise InvalidInput("limit", f"{wanted} is above {MOST_SAMPLES_READ}; read on by next_seq")
    return wanted


def _number(query: Query, name: str, default: int) -> int:
    given = query.integer(name)
    return default if given is None else given

"""The events of a stage, one function a kind, as `Body`s for `append_many`. Pure; `fold.py` reads them."""

from collections.abc import Sequence
from typing import Any, TypedDict, Unpack

from ..errors import InvalidInput
from ..model.events import Body
from .fold import DEFAULT_GROUP
from .records import checked_run


class StageParts(TypedDict, total=False):
    """What a stage's event may say beside its payload; see `Event`. `group_id` is `g0` unless given."""

    lane_id: str | None
    group_id: str
    visibility: str
    source: str | None
    traceparent: str | None
    idempotency_key: str | None


def stage_queued(
    name: str,
    *,
    run_id: str,
    depends_on: Sequence[str] = (),
    stage_attempt: int | None = None,
    reason: str | None = None,
    **parts: Unpack[StageParts],
) -> Body:
    """The stage waits: for the stages in `depends_on`, for a slot, for another attempt. For `append_many`."""
    said = {"depends_on": _names(depends_on), "stage_attempt": stage_attempt, "reason": reason}
    return _body("stage.queued", name, run_id, said, parts)


def stage_started(
    name: str,
    *,
    run_id: str,
    stage_attempt: int = 1,
    depends_on: Sequence[str] = (),
    attempt_id: str | None = None,
    **parts: Unpack[StageParts],
) -> Body:
    """An attempt at the stage runs from now on. `stage` finds the attempt's number; here the caller has to know it."""
    said = {"stage_attempt": stage_attempt, "depends_on": _names(depends_on), "attempt_id": attempt_id}
    return _body("stage.started", name, run_id, said, parts)


def stage_succeeded(
    name: str,
    *,
    run_id: str,
    stage_attempt: int = 1,
    duration_ms: int | None = None,
    exit_code: int | None = None,
    **parts: Unpack[StageParts],
) -> Body:
    """The attempt did what it was to do."""
    said = {"stage_attempt": stage_attempt, "duration_ms": duration_ms, "exit_code": exit_code}
    return _body("stage.succeeded", name, run_id, said, parts)


def stage_failed(
    name: str,
    *,
    run_id: str,
    stage_attempt: int = 1,
    duration_ms: int | None = None,
    exit_code: int | None = None,
    error: str | None = None,
    reason: str | None = None,
    **parts: Unpack[StageParts],
) -> Body:
    """The attempt did not: `error` is what went wrong, `reason` why it was given up."""
    said = {
        "stage_attempt": stage_attempt,
        "duration_ms": duration_ms,
        "exit_code": exit_code,
        "error": error,
        "reason": reason,
    }
    return _body("stage.failed", name, run_id, said, parts)


def stage_skipped(
    name: str,
    *,
    run_id: str,
    stage_attempt: int | None = None,
    duration_ms: int | None = None,
    reason: str | None = None,
    **parts: Unpack[StageParts],
) -> Body:
    """The stage is not needed, or cannot run."""
    said = {"stage_attempt": stage_attempt, "duration_ms": duration_ms, "reason": reason}
    return _body("stage.skipped", name, run_id, said, parts)


def _body(kind: str, name: str, run_id: str, said: dict[str, Any], parts: StageParts) -> Body:
    if not isinstance(name, str):
        raise InvalidInput("stage_name", f"must be a string, not {type(name).__name__}")
    payload = {field: value for field, value in said.items() if value not in (None, [])}
    scope: Any = {"group_id": DEFAULT_GROUP, **parts}
    return Body.of(kind, payload, run_id=checked_run(run_id), stage_name=name, **scope)


def _names(names: Sequence[str]) -> list[str]:
    if isinstance(names, str) or not all(isinstance(name, str) for name in names):
        raise InvalidInput("depends_on", f"{names!r} is not a list of stage names")
    return list(names)

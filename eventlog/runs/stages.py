"""`stage` and `astage`: blocks of work that are recorded in a log, under attempt numbers."""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from types import TracebackType
from typing import Any, Protocol, TypedDict, Unpack

from ..model.events import Event, EventInput
from ..model.pages import Page
from ..plan.drive import arun, run
from .attempts import AttemptClaim, Attempts, LogCall, StageHandle
from .fold import DEFAULT_GROUP
from .given import refuse_async_log, refuse_blocking_log
from .stage_events import StageParts, stage_failed, stage_queued, stage_skipped, stage_started, stage_succeeded

__all__ = [
    "AsyncStageBlock",
    "AsyncStageLog",
    "AttemptClaim",
    "StageBlock",
    "StageHandle",
    "StageLog",
    "StageParts",
    "astage",
    "claim_attempt",
    "stage",
    "stage_failed",
    "stage_queued",
    "stage_skipped",
    "stage_started",
    "stage_succeeded",
]


class StageLog(Protocol):
    """What a stage needs of a log: an `EventLog`, or anything with these calls."""

    def append_many(self, events: Iterable[EventInput]) -> list[Event]: ...

    def page(
        self,
        *,
        until: object = ...,
        order: str = ...,
        kind: Iterable[str],
        run_id: str,
        stage_name: str,
    ) -> Page: ...

    def get(self, event_id: str) -> Event: ...


class AsyncStageLog(Protocol):
    """The asyncio twin of `StageLog`: an `AsyncEventLog`."""

    async def append_many(self, events: Iterable[EventInput]) -> list[Event]: ...

    async def page(
        self,
        *,
        until: object = ...,
        order: str = ...,
        kind: Iterable[str],
        run_id: str,
        stage_name: str,
    ) -> Page: ...

    async def get(self, event_id: str) -> Event: ...


class StageBlock:
    """See `stage`. May be entered again after its end: that is the next attempt."""

    def __init__(self, log: StageLog, attempts: Attempts) -> None:
        self._attempts = attempts
        self._execute: Callable[[LogCall], Any] = lambda call: call(log)

    def __enter__(self) -> StageHandle:
        return run(self._attempts.begin(), self._execute)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        run(self._attempts.end(error), self._execute)


class AsyncStageBlock:
    """See `astage`. May be entered again after its end: that is the next attempt."""

    def __init__(self, log: AsyncStageLog, attempts: Attempts) -> None:
        self._attempts = attempts
        self._execute: Callable[[LogCall], Awaitable[Any]] = lambda call: call(log)

    async def __aenter__(self) -> StageHandle:
        return await arun(self._attempts.begin(), self._execute)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await arun(self._attempts.end(error), self._execute)


class StageOptions(TypedDict, total=False):
    """What `stage` and `astage` may be given. `queued`: append `stage.queued` first; `group_id` is `g0` by default."""

    lane_id: str | None
    group_id: str
    depends_on: Sequence[str]
    source: str | None
    queued: bool


def stage(log: StageLog, name: str, *, run_id: str, **options: Unpack[StageOptions]) -> StageBlock:
    """Record a block of work in `log`: `with stage(log, "build", run_id="r1") as handle: …`

    Entering appends `stage.started` (with `queued`, `stage.queued` before it) with the number of this attempt, counted
    over all processes that try this stage of this run. Where that fails it raises, and the block does not run.

    Leaving appends `stage.succeeded`; or `stage.failed` with the type and message of what the block raised, which is
    raised on; or what the handle was given. With it come the duration in ms and the exit code of a `SystemExit` or
    `CalledProcessError`. An interrupt or a cancellation is a failure with the reason "cancelled". An end that cannot be
    appended is logged, and noted on what was raised, and raises nothing itself: the work was done all the same.

    Raises `InvalidInput` at once for a wrong name, run or group, and for an asyncio log.
    """
    refuse_async_log(log, "astage")
    return StageBlock(log, _attempts(name, run_id, **options))


def astage(log: AsyncStageLog, name: str, *, run_id: str, **options: Unpack[StageOptions]) -> AsyncStageBlock:
    """The asyncio twin of `stage`: `async with astage(log, "build", run_id="r1") as handle: …`"""
    refuse_blocking_log(log, "stage")
    return AsyncStageBlock(log, _attempts(name, run_id, **options))


def claim_attempt(log: StageLog, claim: AttemptClaim) -> int:
    """Claim an attempt and return its number, to record a stage without `stage`; appends its `stage.started`.

    If it raises it may be called again with the same claim: that appends nothing twice.
    """
    return run(claim.plan(), lambda call: call(log))


def _attempts(
    name: str,
    run_id: str,
    *,
    lane_id: str | None = None,
    group_id: str = DEFAULT_GROUP,
    depends_on: Sequence[str] = (),
    source: str | None = None,
    queued: bool = False,
) -> Attempts:
    parts: StageParts = {"lane_id": lane_id, "group_id": group_id, "source": source}
    return Attempts(name, run_id, depends_on, queued, parts)

"""What a log does with samples, whatever its colour and backend: checks and plans."""

import orjson

from ..errors import NotFound
from ..model.events import checked_key, checked_label
from ..model.guard import ContentGuard
from ..model.ids import MAX_COUNTER
from ..model.numbers import checked_integer
from ..model.payloads import encode_payload
from ..plan.effects import Pause, Plan
from ..runs.records import checked_run
from .protocol import Look, Push, Stretch, TelemetryBackend
from .sample import Sample, TelemetryPage, checked_samples
from .terms import MOST_SAMPLES

_STEP = 500
_SCREENED_AT_ONCE = 8


def push_samples(
    backend: TelemetryBackend,
    guard: ContentGuard,
    run_id: object,
    samples: object,
    capacity: object,
    idempotency_key: str | None,
) -> Plan[list[Sample]]:
    """Add samples to a run's ring. Empty where it keeps none; raises `NotFound` for a run that is not known.

    A repetition under a key is answered with what the first push stored, marked `duplicate`.
    """
    posted = checked_samples(samples)
    for n, one in enumerate(posted):
        posted[n] = one._replace(data=_screened(guard, one.data, f"samples[{n}]"))
        if n % _SCREENED_AT_ONCE == _SCREENED_AT_ONCE - 1:
            # A close look takes its time: on an event loop, others have a turn.
            yield Pause(0)
    push = Push(
        checked_run(run_id),
        posted,
        None if capacity is None else checked_integer("capacity", capacity, 0, MOST_SAMPLES),
        None if idempotency_key is None else checked_key(idempotency_key),
    )
    added = yield from backend.push(push)
    if added == "unknown":
        raise _unknown(push.run_id)
    if isinstance(added, str):
        return []
    return [Sample.of(one, duplicate=added.duplicate) for one in added.samples]


def _screened(guard: ContentGuard, data: bytes, field: str) -> bytes:
    """A sample's data after the content guard, which looks at `guest`: the rest is numbers."""
    said = orjson.loads(data)
    if "guest" not in said:
        return data
    guest = encode_payload(said["guest"])
    clean = guard.screen_json(guest, f"{field}.guest")
    return data if clean is guest else encode_payload({**said, "guest": orjson.loads(clean)})


def read_samples(
    backend: TelemetryBackend, run_id: object, from_seq: object, stage_name: object, limit: object
) -> Plan[TelemetryPage]:
    """The samples after `from_seq`, at most `limit`; as many bounded looks as that takes."""
    run_id = checked_run(run_id)
    next_seq = checked_integer("from_seq", from_seq, 0, MAX_COUNTER)
    stage = None if stage_name is None else checked_label("stage_name", stage_name)
    left = MAX_COUNTER if limit is None else checked_integer("limit", limit, 0, MAX_COUNTER)
    found: list[Sample] = []
    missed = 0
    while True:
        stretch = yield from backend.look(Look(run_id, next_seq, min(left, _STEP), stage))
        if stretch is None:
            raise _unknown(run_id)
        found += map(Sample.of, stretch.samples)
        left -= len(stretch.samples)
        next_seq, missed = stretch.next_seq, missed + stretch.missed
        if stretch.complete or not left:
            return TelemetryPage(run_id, found, next_seq, missed, _capacity(backend, stretch))


def _capacity(backend: TelemetryBackend, stretch: Stretch) -> int:
    return backend.capacity if stretch.capacity is None else stretch.capacity


def _unknown(run_id: str) -> NotFound:
    return NotFound(f"run {run_id} has neither an event in the log nor telemetry (any more)")

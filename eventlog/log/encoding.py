"""The shape of events in Redis: arguments of `log_append.lua`, its reply, and entries of the stream. Pure.

The stream's fields are a documented part of the product (docs/redis-layout.md): any Redis client may read them.
"""

import sys
from collections.abc import Iterator, Sequence
from typing import Any

from ..errors import Conflict
from ..model.events import DEFAULTS, FIELDS, Body, Event
from ..model.ids import EventId
from ..model.log_values import Append, Outcome, RunRecord

Arg = bytes | str

_PLAIN_SHAPE = "kind payload"
_FURTHER_NAMES = tuple(f" {field.name}" for field in FIELDS)


def encode_appends(appends: Sequence[Append]) -> list[Arg]:
    """The arguments that carry `appends`, as the script's header describes them."""
    args: list[Arg] = []
    parts = _Parts(args)
    for append in appends:
        if append.is_plain:
            parts.add(append.bodies)
            continue
        parts.end()
        expected = "" if append.expected_offset is None else str(append.expected_offset)
        args += ("G", expected, append.key or "", "0")
        count_at = len(args) - 1
        args[count_at] = str(parts.add(append.bodies))
        parts.end()
    parts.end()
    return args


class _Parts:
    """Collects neighbouring events of one shape under one header, so that names are not sent again."""

    def __init__(self, args: list[Arg]) -> None:
        self._args = args
        self._shape = ""
        self._count = 0
        self._count_at = 0

    def add(self, bodies: Sequence[Body]) -> int:
        """Append the events; returns how many parts were begun."""
        begun = 0
        args = self._args
        values: list[Arg]
        for body in bodies:
            if body[2:] == DEFAULTS:
                shape, values = _PLAIN_SHAPE, [body.kind, body.payload_json]
            else:
                shape, values = _shape_of(body)
            if shape != self._shape:
                self.end()
                self._shape = shape
                self._count_at = len(args) + 1
                args += (shape, "0")
                begun += 1
            self._count += 1
            args += values
        return begun

    def end(self) -> None:
        """Write the count of the part that is open, if any."""
        if self._shape:
            self._args[self._count_at] = str(self._count)
        self._shape = ""
        self._count = 0


def _shape_of(body: Body) -> tuple[str, list[Arg]]:
    shape = _PLAIN_SHAPE
    values: list[Arg] = [body.kind, body.payload_json]
    for name, value, default in zip(_FURTHER_NAMES, body[2:], DEFAULTS, strict=True):
        if value is not None and value != default:
            shape += name
            values.append(value)
    return shape, values


def decode_outcomes(
    reply: Sequence[bytes], appends: Sequence[Append]
) -> tuple[list[Outcome], list[tuple[list[Event], int]]]:
    """Give every append its outcome from the script's reply.

    Also returns where duplicates stand, as (list of events, index in it): they carry the repeated
    append's content until the caller has looked up the original's.
    """
    _, ms_raw, first, outcomes_raw, seqs_raw = reply
    ms, offset = int(ms_raw), int(first)
    outcomes = iter(outcomes_raw.decode().split(",") if outcomes_raw else ())
    seqs = iter(seqs_raw.split(b",") if seqs_raw else ())
    results: list[Outcome] = []
    duplicates: list[tuple[list[Event], int]] = []
    for append in appends:
        verdict = "0" if append.is_plain else next(outcomes)
        if verdict[0] == "c":
            results.append(Conflict(append.expected_offset or 0, int(verdict[1:])))
            continue
        events: list[Event] = []
        results.append(events)
        if verdict[0] == "d":
            _repeat(verdict, append.bodies, events, duplicates)
            continue
        for body in append.bodies:
            if body.idempotency_key is not None:
                verdict = next(outcomes)
                if verdict[0] == "d":
                    _repeat(verdict, (body,), events, duplicates, most=1)
                    continue
            events.append(Event(ms, offset, body, None if body.run_id is None else int(next(seqs))))
            offset += 1
    return results, duplicates


def _repeat(
    verdict: str,
    bodies: Sequence[Body],
    events: list[Event],
    duplicates: list[tuple[list[Event], int]],
    most: int = sys.maxsize,
) -> None:
    """Read `d<ms>-<offset>:<n>:<seqs>`: where the first append's n events stand, seqs for those in a run."""
    position, count, numbers = verdict[1:].split(":")
    ms, offset = EventId.parse(position)
    seqs = iter(numbers.split(" ") if numbers else ())
    for i in range(min(int(count), most)):
        # The first append may have been longer: what it had there is looked up.
        body = bodies[min(i, len(bodies) - 1)]
        seq = None if body.run_id is None else next(seqs, None)
        duplicates.append((events, len(events)))
        events.append(Event(ms, offset + i, body, None if seq is None else int(seq), duplicate=True))


def decode_entry(entry: Sequence[Any]) -> Event:
    """Read one stream entry `[id, [field, value, …]]` as XRANGE and XREAD give it."""
    raw_id, fields = entry
    ms, _, offset = raw_id.partition(b"-")
    if len(fields) == 4 and fields[0] == b"kind" and fields[2] == b"payload":
        return Event(int(ms), int(offset), Body(fields[1].decode(), fields[3]))
    named = {fields[i].decode(): fields[i + 1] for i in range(0, len(fields), 2)}
    seq = named.pop("seq", None)
    payload = named.pop("payload", b"{}")
    known = {name: value.decode() for name, value in named.items() if name in Body._fields}
    kind = known.pop("kind", "")
    return Event(int(ms), int(offset), Body(kind, payload, **known), None if seq is None else int(seq))


def decode_run(run_id: str, fields: Sequence[bytes], now_ms: int) -> RunRecord:
    """Read a run's hash, its fields and values in turn."""
    named = {name.decode(): value.decode() for name, value in pairs(fields)}
    last = EventId.parse(named["last"])
    ended = named.get("ended")
    return RunRecord(
        run_id=run_id,
        first=EventId.parse(named["first"]),
        last=last,
        events=int(named["count"]),
        lanes={name[5:]: int(seq) for name, seq in named.items() if name.startswith("lane:")},
        ended=ended,
        # A record of an earlier version does not say where.
        ended_at=None if ended is None else EventId.parse(named.get("ended_id", named["last"])),
        now_ms=now_ms,
    )


def pairs(flat: Sequence[Any]) -> Iterator[tuple[Any, Any]]:
    """Two by two, as Redis sends what it has by name."""
    return zip(flat[::2], flat[1::2], strict=True)

"""Lanes put together: one stream of the events of several, in order of (timestamp, lane, seq). Pure."""

import heapq
import logging
from collections.abc import Iterable, Iterator, Mapping

from ..model.events import Event
from .given import checked_by_name, checked_events

_log = logging.getLogger("eventlog")

_Key = tuple[int, str, int]


def parallel_merge(lanes: Mapping[str, Iterable[Event]]) -> list[Event]:
    """One stream of the events of all `lanes` (by lane), ordered by (timestamp, lane, seq).

    Every lane ascends in it: where a lane's time runs back, its seq decides. The result depends on the events alone,
    not on the order in which they are given, and has each event of a lane once. Where the seq of a lane, as given, runs
    back, a warning is logged that names lane and seqs. Raises `InvalidInput` for lanes that are no mapping, or hold
    anything but events.
    """
    return list(_merged({lane: _in_order(lane, events) for lane, events in _checked(lanes).items()}))


def merge_lanes(lanes: Mapping[str, Iterable[Event]]) -> Iterator[Event]:
    """`parallel_merge` for lanes that are in order already, event by event: holds one event a lane.

    A lane whose seq runs back is not put in order: its events come as they are given, with a warning. An event that
    comes twice in a row comes once. Raises as `parallel_merge`, for what is no event where the iteration comes to it.
    """
    checked = _checked(lanes).items()
    return _merged({lane: _once(_watched(lane, events, "handed out as they come")) for lane, events in checked})


def _checked(lanes: Mapping[str, Iterable[Event]]) -> dict[str, Iterator[Event]]:
    by_name = checked_by_name("lanes", lanes, "events")
    return {lane: checked_events(f"lanes.{lane}", events) for lane, events in by_name.items()}


def _merged(lanes: Mapping[str, Iterable[Event]]) -> Iterator[Event]:
    merged = heapq.merge(*(_placed(lane, events) for lane, events in lanes.items()), key=lambda placed: placed[0])
    return (event for _, event in merged)


def _placed(lane: str, events: Iterable[Event]) -> Iterator[tuple[_Key, Event]]:
    """The events of a lane with their places among all; none before one that precedes it in its lane."""
    newest_ms = 0
    for number, event in enumerate(events):
        newest_ms = max(newest_ms, event.position.ms)
        yield (newest_ms, lane, number), event


def _in_order(lane: str, events: Iterable[Event]) -> list[Event]:
    """The events of a lane, each once, by time and seq; its runs do not wait for each other."""
    runs: dict[str | None, list[Event]] = {}
    for event in _watched(lane, dict.fromkeys(events), "put in order"):
        runs.setdefault(event.run_id, []).append(event)
    timed: list[tuple[int, Event]] = []
    for run in runs.values():
        newest_ms = 0
        for event in sorted(run, key=_order):
            newest_ms = max(newest_ms, event.position.ms)
            timed.append((newest_ms, event))
    return [event for _, event in sorted(timed, key=lambda each: (each[0], *_order(each[1])))]


def _order(event: Event) -> tuple[int, int, int, str, str, bytes]:
    # Events of several logs may have the same place; then what they say decides.
    return (_rank(event), *event.position, event.run_id or "", event.kind, event.payload_json)


def _rank(event: Event) -> int:
    return event.offset if event.seq is None else event.seq


def _watched(lane: str, events: Iterable[Event], done: str) -> Iterator[Event]:
    """The same events; warns, once, where a seq does not ascend."""
    newest: dict[str | None, Event] = {}
    warned = False
    for event in events:
        before = newest.get(event.run_id)
        if before is not None and not warned and before != event and _rank(event) <= _rank(before):
            warned = True
            _log.warning("lane %s: seq runs back from %d to %d; %s", lane, _rank(before), _rank(event), done)
        if before is None or _rank(event) >= _rank(before):
            newest[event.run_id] = event
        yield event


def _once(events: Iterable[Event]) -> Iterator[Event]:
    before: Event | None = None
    for event in events:
        if event != before:
            yield event
        before = event

"""What a replay says is gone, where the log moves on while it is read."""

from collections.abc import Callable, Collection
from typing import Any

import pytest

from eventlog import create_event_log
from eventlog.log.runs import read_replay, replay, replay_request, whole_replay
from eventlog.model.filters import EventFilter
from eventlog.model.log_values import ReadRequest, Segment
from eventlog.plan.drive import run
from eventlog.plan.effects import Plan


class LosesBetweenReads:
    """A log in memory whose second page of a replay finds that `lose` was called in between."""

    def __init__(self, backend: Any, lose: Callable[[], object]) -> None:
        self._backend = backend
        self._lose = lose

    def __getattr__(self, name: str) -> Any:
        return getattr(self._backend, name)

    def read(self, request: ReadRequest) -> Plan[Segment]:
        if request.since is not None and request.since.offset == 1000:
            self._lose()
        found: Plan[Segment] = self._backend.read(request)
        return found


def test_what_is_evicted_between_the_pages_of_a_whole_replay_is_told_by_a_warning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    log = create_event_log("memory", max_entries=1500)
    log.append_many([{"kind": "a", "run_id": "r"}] * 1500)
    backend: Any = LosesBetweenReads(log.core.backend, lambda: log.append_many([{"kind": "b"}] * 1200))
    found = run(replay(backend, whole_replay("r", None, EventFilter.of())), lambda effect: None)
    assert [event.seq for event in found] == [*range(1, 1001), *range(1201, 1501)]
    assert [record.getMessage() for record in caplog.records] == ["events missed: 200 (1001 to 1200, trimmed)"]


def test_a_replay_from_which_nothing_is_evicted_warns_of_nothing(caplog: pytest.LogCaptureFixture) -> None:
    log = create_event_log("memory", max_entries=1500)
    log.append_many([{"kind": "a", "run_id": "r"}] * 2500)
    assert [event.seq for event in log.replay("r")] == list(range(1001, 2501))
    assert caplog.records == []


class Meddled:
    """A backend in which something happens just before the first seqs of lanes are looked up."""

    def __init__(self, backend: Any, meddle: Callable[[], object]) -> None:
        self._backend = backend
        self._meddle = meddle

    def __getattr__(self, name: str) -> Any:
        return getattr(self._backend, name)

    def first_seqs(self, run_id: str, lanes: Collection[str]) -> Plan[dict[str, int]]:
        self._meddle()
        found: Plan[dict[str, int]] = self._backend.first_seqs(run_id, lanes)
        return found


def test_what_is_evicted_while_a_replay_is_read_is_neither_lost_silently_nor_told_though_it_was_given() -> None:
    log = create_event_log("memory", max_entries=10)
    log.append_many([{"kind": "a", "run_id": "r", "lane_id": "x" if n % 2 else "y"} for n in range(12)])
    backend: Any = Meddled(log.core.backend, lambda: log.append_many([{"kind": "b"}] * 5))
    request = replay_request("r", None, 3, EventFilter.of())
    page = run(read_replay(backend, request), lambda effect: None)
    assert [(event.lane_id, event.seq) for event in page.events] == [("y", 2), ("x", 2), ("y", 3)]
    assert page.missed == {"x": 1, "y": 1}

"""A tail that waits for the end of a run: it ends with the terminal event, never without having handed it out."""

from collections.abc import Callable, Iterator

from eventlog.errors import BackendUnavailable
from eventlog.log.memory import MemoryBackend
from eventlog.log.protocol import Backend
from eventlog.log.reading import Tail
from eventlog.model.events import Body, Event
from eventlog.model.filters import EventFilter
from eventlog.model.ids import Cursor
from eventlog.model.log_values import Append, ReadRequest, Segment
from eventlog.model.retention import Retention
from eventlog.plan.drive import run
from eventlog.plan.effects import Command, Plan


def _refuse(command: Command) -> object:
    raise AssertionError(f"memory sends no commands: {command}")


class _Busy(MemoryBackend):
    """Somebody appends right after a read."""

    def __init__(self) -> None:
        super().__init__(Retention.of())
        self.after_reads: Iterator[Callable[[], None]] = iter(())

    def add(self, kind: str) -> None:
        run(self.append([Append((Body.of(kind, run_id="r"),))], 0), _refuse)

    def read(self, request: ReadRequest) -> Plan[Segment]:
        segment = yield from super().read(request)
        next(self.after_reads, lambda: None)()
        return segment


def _tail(backend: Backend, since: int) -> Tail:
    return Tail(backend, Cursor(None, since), EventFilter.of(run_id="r"), until_terminal=True)


def _kinds(tail: Tail) -> list[str]:
    """What four steps hand out, unless the tail ends before."""
    found: list[str] = []
    for _ in range(4):
        if not tail.ended:
            found += [item.kind for item in run(tail.step(0.01), _refuse) if isinstance(item, Event)]
    return found


def test_a_reader_that_stands_behind_the_end_is_given_what_follows_and_ends() -> None:
    backend = _Busy()
    for kind in ("run.started", "run.finished", "after"):
        backend.add(kind)
    tail = _tail(backend, 2)
    assert _kinds(tail) == ["after"]
    assert tail.ended


def test_an_outage_while_the_tail_looks_back_loses_nothing() -> None:
    backend = _Busy()
    for kind in ("run.started", "run.finished", "after"):
        backend.add(kind)
    tail = _tail(backend, 2)

    def fail() -> None:
        raise BackendUnavailable("away")

    backend.after_reads = iter([lambda: None, fail])
    assert _kinds(tail) == ["after"]
    assert tail.ended


def test_an_end_that_comes_while_the_tail_looks_for_one_is_handed_out() -> None:
    backend = _Busy()
    backend.add("run.started")
    tail = _tail(backend, 1)
    backend.after_reads = iter([lambda: backend.add("run.finished")])
    assert _kinds(tail) == ["run.finished"]
    assert tail.ended

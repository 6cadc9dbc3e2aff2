"""A mailbox of a bus over a log that grows and loses its beginning, in whatever order: nothing goes missing in silence.

The machine stands for what `bus/shared.py` does with a log: it publishes late, breaks off where the log has lost what
was not published yet, and reads pages for the subscription in its own time.
"""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from eventlog import Event, Gap
from eventlog.bus.fanout import Fanout
from eventlog.bus.history import History
from eventlog.bus.mailbox import Backlog, Mailbox
from eventlog.bus.selection import Selection
from eventlog.bus.subscription import Subscription
from eventlog.errors import FellBehind
from eventlog.model import Body, EventFilter
from eventlog.model.ids import EventId
from tests.support.extent import examples

PAGE = 4


def at(offset: int) -> EventId:
    return EventId(offset, offset)


class NeverBehind(Fanout[Subscription]):
    """A bus whose mailboxes the test reads for itself."""

    def refill(self, subscription: object) -> None:
        raise AssertionError("the test reads")


class BesideALog(RuleBasedStateMachine):
    """Two hands feed the mailbox: one publishes what is appended, late; another reads pages, in its own time."""

    def __init__(self) -> None:
        super().__init__()
        self.log: dict[int, Event] = {}
        self.ever: dict[int, Event] = {}
        self.last = 0
        self.published = 0
        self.lost_unseen: set[int] = set()
        self.reading: tuple[int, History, Backlog | None] | None = None
        self.reads_log = False
        self.given: list[int] = []
        self.gaps: list[Gap] = []

    @initialize(
        run_id=st.sampled_from([None, "a"]),
        kinds=st.sampled_from([None, ["x"]]),
        visibility=st.sampled_from([None, "public"]),
        bound=st.integers(1, 6),
        keeps=st.integers(0, 6),
    )
    def subscribe(
        self, run_id: str | None, kinds: list[str] | None, visibility: str | None, bound: int, keeps: int
    ) -> None:
        self.selection = Selection(visibility, None, kinds, run_id, ends_unnamed=False)
        self.bound, self.keeps = bound, keeps
        self.bus = NeverBehind()
        self.bus.history = History(keeps)
        self.mailbox = Mailbox(self.selection, bound, at(0), behind=False)
        self.subscription = Subscription(self.bus, self.mailbox, None)
        self.bus.add(self.subscription)

    @rule(
        kind=st.sampled_from(["x", "x", "y", "run.finished"]),
        run_id=st.sampled_from(["a", "b", None]),
        visibility=st.sampled_from(["public", "private"]),
        times=st.integers(1, 5),
    )
    def append(self, kind: str, run_id: str | None, visibility: str, times: int) -> None:
        for _ in range(1 if kind == "run.finished" else times):
            self.last += 1
            event = Event(self.last, self.last, Body.of(kind, run_id=run_id, visibility=visibility))
            self.log[self.last] = self.ever[self.last] = event

    @rule(count=st.integers(1, 8))
    def trim(self, count: int) -> None:
        for offset in sorted(self.log)[:count]:
            del self.log[offset]

    @rule(count=st.integers(1, 8))
    def publish(self, count: int) -> None:
        if self.published + 1 < self._base() and self.published < self.last:
            self.lost_unseen.update(range(self.published + 1, self._base()))
            for kept in self.bus.history:
                self.bus.keep(*kept, [])
            self.published = self._base() - 1
            self.bus.history = History(self.keeps, at(self.published))
            self.mailbox.behind = self.reads_log = True
        for offset in range(self.published + 1, min(self.published + count, self.last) + 1):
            self.bus.publish(at(offset), self.log[offset], [])
            self.published = offset

    def _base(self) -> int:
        return min(self.log, default=self.last + 1)

    @precondition(lambda self: self.reading is None and self.mailbox.behind and not self._has_work())
    @rule()
    def ask(self) -> None:
        if self.reads_log or not self.bus.read_history(self.subscription):
            self.reading = (self.mailbox.position.offset, self.bus.history, None)

    def _has_work(self) -> bool:
        """A reader asks for more when it has been given all that is queued."""
        return bool(self.mailbox.queue) or self.mailbox.over

    @precondition(lambda self: self.reading is not None and self.reading[2] is None)
    @rule()
    def find(self) -> None:
        assert self.reading is not None
        since, history, _ = self.reading
        gap = (
            Gap(self._base() - 1 - since, since + 1, self._base() - 1, "trimmed") if since + 1 < self._base() else None
        )
        matches = self.selection.to_read.matcher()
        there = [(at(offset), event) for offset, event in sorted(self.log.items()) if offset > since and matches(event)]
        page = there[:PAGE]
        self.page_ends_log = len(there) <= PAGE
        self.reading = (since, history, Backlog(gap, page, at(self.last) if self.page_ends_log else page[-1][0]))

    @precondition(lambda self: self.reading is not None and self.reading[2] is not None)
    @rule()
    def read(self) -> None:
        assert self.reading is not None
        _, history, backlog = self.reading
        assert backlog is not None
        self.bus.read(self.subscription, backlog)
        if self.page_ends_log and backlog.gap is None and history is self.bus.history:
            self.reads_log = False
            self.bus.read_history(self.subscription)
        self.reading = None

    @rule(count=st.integers(1, 12))
    def take(self, count: int) -> None:
        while self.mailbox.queue and count:
            item = self.mailbox.take()
            count -= 1
            if isinstance(item, Gap):
                self.gaps.append(item)
            elif item is not None:
                self.given.append(item.offset)

    @invariant()
    def events_come_in_order_each_once_and_only_what_is_wanted(self) -> None:
        assert self.given == sorted(set(self.given))
        assert all(self.selection.wants(self.ever[offset]) for offset in self.given)

    @invariant()
    def no_more_is_queued_than_was_allowed(self) -> None:
        if self.last:
            assert len(self.mailbox.queue) <= max(self.bound, PAGE) + self.bound + 1, "a page, ends kept aside, a gap"

    def teardown(self) -> None:
        """In the end, when all is published and read, each event was given or told as missed."""
        if not self.last:
            return
        self._drain()
        told = {offset for gap in self.gaps for offset in range(gap.from_offset, gap.to_offset + 1)}
        end = min((n for n, event in self.ever.items() if self.selection.ends(event)), default=None)
        wanted = [n for n, event in self.ever.items() if self.selection.wants(event)]
        if self.mailbox.error is not None:
            assert isinstance(self.mailbox.error, FellBehind)
            return
        if self.mailbox.over:
            assert end is not None
            ending = min((n for n in self.given if self.selection.ends(self.ever[n])), default=end)
            wanted = [n for n in wanted if n <= ending]
        for n in wanted:
            assert n in self.given or n in told, f"{n} is silently missing"
            if self.ever[n].is_terminal and n not in self.lost_unseen and (end is None or n <= end):
                assert n in self.given, f"the end of a run at {n} is missing"
        if self.selection.to_read == EventFilter() and not self.mailbox.over:
            assert len(self.given) + sum(gap.missed for gap in self.gaps) == self.last

    def _drain(self) -> None:
        self.take(10**6)
        for _ in range(3 * self.last + 20):
            self.publish(10**6)
            if self.reading is None and self.mailbox.behind and not self._has_work():
                self.ask()
            if self.reading is not None and self.reading[2] is None:
                self.find()
            if self.reading is not None:
                self.read()
            self.take(10**6)
        assert not self.mailbox.behind or self.mailbox.over


TestBesideALog = BesideALog.TestCase
TestBesideALog.settings = settings(max_examples=examples(300), stateful_step_count=40, deadline=None)

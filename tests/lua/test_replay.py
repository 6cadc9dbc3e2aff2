"""Every script may be repeated: a lost reply costs nothing and does nothing twice."""

from collections.abc import Iterator

import pytest
import redis

from eventlog.errors import BackendUnavailable, Conflict
from eventlog.log.redis import RedisBackend
from eventlog.model import Body
from eventlog.model.log_values import Append, Outcome, ReadRequest
from eventlog.model.retention import Retention
from eventlog.plan.drive import run
from eventlog.store.keys import WorkspaceKeys
from eventlog.store.links import SyncLink
from tests.support.redis_process import RedisProcess


class Writer:
    """A backend whose calls the test numbers itself."""

    def __init__(self, server: RedisProcess, key_prefix: str) -> None:
        self.keys = WorkspaceKeys.of("w", key_prefix)
        self.backend = RedisBackend(self.keys, Retention.of(), 5.0)
        self.link = SyncLink(server.url, 1)

    def append(self, number: int, *appends: Append) -> list[Outcome]:
        return run(self.backend.append(appends, number), self.link.execute)

    def length(self) -> int:
        return run(self.backend.read(ReadRequest()), self.link.execute).state.length


@pytest.fixture
def writer(redis_server: RedisProcess, key_prefix: str) -> Iterator[Writer]:
    writer = Writer(redis_server, key_prefix)
    yield writer
    writer.link.close()


MIXED = (
    Append([Body.of("plain", {"n": 1})]),
    Append([Body.of("run", run_id="r"), Body.of("run", run_id="r", lane_id="x")]),
    Append([Body.of("keyed", idempotency_key="k"), Body.of("again", idempotency_key="k")]),
    Append([Body.of("batch", run_id="r"), Body.of("batch")], key="b"),
    Append([Body.of("conflicting")], expected_offset=99),
    Append([Body.of("expected")], expected_offset=6),
)


def said(outcomes: list[Outcome]) -> list[object]:
    return [str(one) if isinstance(one, Conflict) else [(e, e.duplicate) for e in one] for one in outcomes]  # type: ignore[union-attr]


def test_the_same_call_number_gives_the_same_reply_and_appends_nothing(writer: Writer) -> None:
    first = writer.append(1, *MIXED)
    assert writer.length() == 7
    for _ in range(3):
        assert said(writer.append(1, *MIXED)) == said(first)
    assert writer.length() == 7
    assert said(writer.append(2, *MIXED)) != said(first)


def test_an_older_call_number_is_stale_and_appends_nothing(writer: Writer) -> None:
    writer.append(1, *MIXED)
    writer.append(2, Append([Body.of("newer")]))
    with pytest.raises(BackendUnavailable) as stale:
        writer.append(1, *MIXED)
    assert stale.value.outcome_unknown
    assert writer.length() == 8


def test_a_call_that_appended_nothing_is_remembered_too(writer: Writer) -> None:
    refused = Append([Body.of("a")], expected_offset=1)
    first = writer.append(1, refused)
    other = RedisBackend(writer.keys, Retention.of(), 5.0)
    run(other.append([Append([Body.of("b")])], 1), writer.link.execute)
    assert said(writer.append(1, refused)) == said(first), "now it would fit, but the call was answered"
    assert writer.length() == 1


def test_two_writers_do_not_take_each_others_numbers(writer: Writer) -> None:
    other = RedisBackend(writer.keys, Retention.of(), 5.0)
    writer.append(5, Append([Body.of("a")]))
    run(other.append([Append([Body.of("b")])], 1), writer.link.execute)
    assert writer.length() == 2


def test_reads_and_clears_may_be_repeated(writer: Writer) -> None:
    writer.append(1, *MIXED)
    request = ReadRequest(count=10)
    first, again = (run(writer.backend.read(request), writer.link.execute) for _ in range(2))
    assert first.events == again.events
    assert run(writer.backend.clear(), writer.link.execute) == 7
    assert run(writer.backend.clear(), writer.link.execute) == 0
    assert writer.length() == 0


def test_what_is_remembered_of_a_call_expires(writer: Writer, redis_server: RedisProcess, key_prefix: str) -> None:
    writer.append(1, *MIXED)
    with redis.Redis.from_url(redis_server.url) as client:
        (key,) = client.scan_iter(match=f"{key_prefix}:*writer:*", count=1000)
        assert 0 < client.pttl(key) <= 600_000

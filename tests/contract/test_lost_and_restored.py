"""A Redis that loses its data, or gets an older state of it back: on servers of the test's own."""

from collections.abc import Iterator

import pytest
from redis import Redis

from eventlog import Event, Gap
from tests.contract.colours import Colour, Gaps, Reading
from tests.contract.worlds import COLOURS
from tests.support.redis_process import RedisProcess, binaries, eventually


@pytest.fixture(
    params=[(binary, colour) for binary in binaries() for colour in COLOURS], ids=lambda p: f"{p[0].name}-{p[1]}"
)
def home(request: pytest.FixtureRequest) -> Iterator[tuple[RedisProcess, Colour]]:
    """A server that may be killed and flushed, and a log on it."""
    binary, colour = request.param
    with RedisProcess(binary=binary) as server:
        log = COLOURS[colour](backend="redis", url=server.url, workspace="w", max_entries=100)
        yield server, log
        log.close()


def _now_ms(client: Redis) -> int:
    seconds, micros = client.time()
    return int(seconds * 1000 + micros // 1000)


def test_a_flushed_server_is_a_reset_for_every_reader(home: tuple[RedisProcess, Colour]) -> None:
    server, log = home
    old = log.append_many([{"kind": "a"}] * 5)
    epoch = log.info().epoch
    gaps = Gaps()
    with Reading(log.follow(0, on_gap=gaps)) as reading:
        eventually(lambda: len(reading.events) == 5, "the old ones are given")
        with server.client() as client:
            # Two logs born in one millisecond are told apart by their epoch alone.
            eventually(lambda: _now_ms(client) > old[0].position.ms, "a millisecond has passed")
            client.flushall()
        new = log.append_many([{"kind": "b"}] * 8)
        eventually(lambda: len(reading.events) == 13, "the new ones are given")
    assert reading.events == old + new
    assert gaps[0].reason == "reset"
    for given in (None, epoch):
        page = log.page(old[2], epoch=given)
        assert (page.gap, page.events) == (Gap(0, 1, 0, "reset"), new)


def test_a_restart_loses_nothing_and_nobody_is_told_anything(home: tuple[RedisProcess, Colour]) -> None:
    server, log = home
    before = log.append_many([{"kind": "a", "run_id": "r", "idempotency_key": f"k{n}"} for n in range(5)])
    server.kill()
    server.start()
    assert log.query() == before
    assert log.append("a", idempotency_key="k3") == before[3]
    after = log.append("b", run_id="r")
    assert (after.offset, after.seq) == (6, 6)
    page = log.page(before[1])
    assert (page.gap, page.events) == (None, [*before[2:], after])
    assert log.verify().clean


def rolled_back(server: RedisProcess, log: Colour) -> tuple[list[Event], list[Event]]:
    """Five events, a backup, four more that the restore of the backup loses again."""
    kept = log.append_many([{"kind": "kept"}] * 5)
    server.stop()
    backup = server.save_data()
    server.start()
    lost = log.append_many([{"kind": "lost"}] * 4)
    server.stop()
    server.restore_data(backup)
    server.start()
    return kept, lost


def test_a_restored_backup_is_a_rollback_for_those_who_saw_more(home: tuple[RedisProcess, Colour]) -> None:
    server, log = home
    kept, lost = rolled_back(server, log)
    assert log.query() == kept
    page = log.page(lost[1])
    assert page.gap is not None
    assert (page.gap.reason, page.gap.missed, page.events) == ("rollback", 5, [])
    # They go on with what is appended now, although it takes offsets they know.
    new = log.append_many([{"kind": "new"}] * 3)
    assert [event.offset for event in new] == [6, 7, 8]
    assert log.page(page.cursor, epoch=page.epoch).events == new
    again = log.page(lost[1])
    assert again.gap is not None
    assert (again.gap.reason, again.gap.missed, again.events) == ("rollback", 5, new)


def test_a_restored_backup_is_nothing_to_those_who_saw_less(home: tuple[RedisProcess, Colour]) -> None:
    server, log = home
    kept, _ = rolled_back(server, log)
    new = log.append_many([{"kind": "new"}] * 6)
    for seen in (kept[1], kept[-1]):
        page = log.page(seen, epoch=log.info().epoch)
        assert (page.gap, page.events) == (None, [*kept[seen.offset :], *new])


def test_a_reader_overtaken_by_the_restored_log_is_told_all_the_same(home: tuple[RedisProcess, Colour]) -> None:
    server, log = home
    _, lost = rolled_back(server, log)
    new = log.append_many([{"kind": "new"}] * 10)  # offsets 6 to 15, beyond the 9 that the reader saw
    page = log.page(lost[-1], epoch=log.info().epoch)
    assert page.gap is not None
    assert (page.gap.reason, page.gap.missed) == ("rollback", 5)
    assert page.events == new


def test_a_follower_lives_through_a_rollback(home: tuple[RedisProcess, Colour]) -> None:
    server, log = home
    gaps = Gaps()
    kept = log.append_many([{"kind": "kept"}] * 5)
    server.stop()
    backup = server.save_data()
    server.start()
    with Reading(log.follow(0, on_gap=gaps)) as reading:
        lost = log.append_many([{"kind": "lost"}] * 4)
        eventually(lambda: len(reading.events) == 9, "all are given")
        server.kill()
        server.restore_data(backup)
        server.start()
        new = log.append_many([{"kind": "new"}] * 2)
        eventually(lambda: len(reading.events) == 11, "the new ones are given")
    assert reading.events == kept + lost + new
    assert {gap.reason for gap in gaps} == {"rollback"}


def test_a_log_restored_after_it_began_anew_is_recognised(home: tuple[RedisProcess, Colour]) -> None:
    server, log = home
    old = log.append_many([{"kind": "old"}] * 5)
    epoch = log.info().epoch
    server.stop()
    backup = server.save_data()
    server.start()
    with server.client() as client:
        client.flushall()
    other = log.append_many([{"kind": "other"}] * 3)
    other_epoch = log.info().epoch
    server.stop()
    server.restore_data(backup)
    server.start()
    assert log.info().epoch == epoch
    assert log.page(old[1], epoch=epoch).gap is None
    page = log.page(other[-1], epoch=other_epoch)
    assert page.gap is not None
    assert (page.gap.reason, page.events) == ("reset", old)

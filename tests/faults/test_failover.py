"""A replica that missed appends is promoted: readers are told, and what was given out again is not skipped."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest
from eventlog_server import ServerSettings, background
from redis import Redis

from eventlog import Event, Gap, create_event_log
from eventlog.config import EventLogConfig
from tests.faults.opening import ROOMY, open_log
from tests.faults.proxy import ChaosProxy
from tests.faults.test_followers import fill, items
from tests.support.redis_process import RedisProcess, await_replica, eventually


@contextmanager
def pair() -> Iterator[tuple[RedisProcess, RedisProcess]]:
    """A primary and a replica that follows it."""
    with (
        RedisProcess("--repl-diskless-sync-delay", "0", tcp=True, appendonly=False) as primary,
        RedisProcess(tcp=True, appendonly=False) as replica,
    ):
        with replica.client() as redis:
            redis.replicaof("127.0.0.1", primary.port)
        await_replica(primary, replica)
        yield primary, replica


@contextmanager
def failed_over(kept: int, lost: int) -> Iterator[tuple[RedisProcess, str, list[Event]]]:
    """A promoted replica with `kept` events; with it, the epoch and the events of a reader who saw `lost` more."""
    with pair() as (primary, replica):
        with replica.client() as redis, open_log(primary.url) as log:
            fill(log, kept)
            await_replica(primary, replica)
            part(redis)
            fill(log, lost, "lost")
            seen = log.query()
            primary.kill()
            redis.replicaof("NO", "ONE")
            assert redis.xlen("eventlog:{w1}:log") == kept
        yield replica, log_epoch(replica), seen


def part(replica: Redis) -> None:
    """Let it lose sight of its primary: it keeps what it has, waits for a primary that is not there, and stays one
    that refuses writes until it is promoted."""
    replica.replicaof("127.0.0.1", 1)


def log_epoch(server: RedisProcess) -> str:
    with open_log(server.url) as log:
        return log.info().epoch or ""


def gaps(found: list[Event | Gap]) -> list[Gap]:
    return [item for item in found if isinstance(item, Gap)]


def offsets(found: list[Event | Gap]) -> list[int]:
    return [item.offset for item in found if isinstance(item, Event)]


def test_a_reader_ahead_of_the_promoted_log_is_told_and_sees_the_offsets_given_out_again() -> None:
    with failed_over(kept=20, lost=5) as (replica, epoch, seen), open_log(replica.url) as log:
        cursor = seen[-1].id
        assert seen[-1].offset == 25
        with log.follow(since=cursor, epoch=epoch) as follower:
            fill(log, 10, "again")
            found = items(follower, 30)
        assert [gap.reason for gap in gaps(found)] == ["rollback"]
        assert offsets(found) == list(range(21, 31))
        assert log.page(since=cursor).gap == gaps(found)[0]
        assert log.verify().clean


def test_a_reader_within_what_was_kept_goes_on_as_if_nothing_had_happened() -> None:
    with failed_over(kept=20, lost=5) as (replica, epoch, seen), open_log(replica.url) as log:
        fill(log, 10, "again")
        with log.follow(since=seen[14].id, epoch=epoch) as follower:
            found = items(follower, 30)
        assert not gaps(found)
        assert offsets(found) == list(range(16, 31))


def test_a_reader_whose_place_was_given_out_again_and_passed_is_told() -> None:
    """The new log is longer than the old one was: offsets alone would look like an ordinary continuation."""
    with failed_over(kept=20, lost=5) as (replica, epoch, seen), open_log(replica.url) as log:
        fill(log, 50, "again")
        page = log.page(since=seen[-1].id, epoch=epoch)
        assert page.gap is not None
        assert page.gap.reason == "rollback"
        assert [event.offset for event in page.events] == list(range(21, 71))


def test_clients_that_were_connected_to_the_old_primary_go_on_at_its_address() -> None:
    """The promoted server takes over the address: one log object, its pool and its follower live through it."""
    with pair() as (primary, replica), ChaosProxy(primary) as address:
        with replica.client() as promoted, open_log(address.url) as log:
            fill(log, 20)
            await_replica(primary, replica)
            with log.follow(since=0) as follower:
                items(follower, 20)
                part(promoted)
                fill(log, 5, "lost")
                items(follower, 25)
                primary.kill()
                promoted.replicaof("NO", "ONE")
                address.redirect(replica)
                fill(log, 10, "again")
                found = items(follower, 30)
            assert log.verify().clean
        assert [gap.reason for gap in gaps(found)] == ["rollback"]
        assert offsets(found) == list(range(21, 31))


@pytest.mark.parametrize("surface", ["library", "http"])
def test_a_follower_that_was_on_one_of_two_primaries_is_told_no_less_than_it_misses(surface: str) -> None:
    """By its offsets alone, the one would go on where the other left off."""
    with pair() as (old, new), ChaosProxy(old) as address, ExitStack() as stack:
        with new.client() as promoted, open_log(address.url) as log, open_log(new.url) as other:
            fill(log, 20)
            await_replica(old, new)
            if surface == "http":
                config = EventLogConfig(redis_url=address.url, max_entries=ROOMY)
                server = stack.enter_context(background(ServerSettings(port=0, heartbeat_s=0.2, log=config)))
                reader = stack.enter_context(create_event_log(url=server.url, workspace="w1"))
            else:
                reader = log
            with reader.follow(since=0) as follower:
                items(follower, 20)
                promoted.replicaof("NO", "ONE")
                fill(other, 7, "other")
                wait_for_another_millisecond(promoted)
                fill(log, 7, "seen")
                items(follower, 27)
                wait_for_another_millisecond(promoted)
                address.redirect(new)
                last = other.append("fresh").offset
                found = items(follower, last)
                assert follower.epoch == other.info().epoch
        assert offsets(found) == [last]
        (told,) = gaps(found)
        assert told.reason == "rollback"
        assert told.missed == last - 1 - 20


def wait_for_another_millisecond(redis: Redis) -> None:
    began = redis.time()
    eventually(lambda: _ms(redis.time()) > _ms(began), "a millisecond has passed")


def _ms(time: tuple[int, int]) -> int:
    return time[0] * 1000 + time[1] // 1000

"""A replica that missed appends is promoted: readers are told, and what was given out again is not skipped."""

from collections.abc import Iterator
from contextlib import contextmanager

from redis import Redis

from eventlog import Event, Gap
from tests.faults.opening import open_log
from tests.faults.test_followers import fill, items
from tests.support.redis_process import RedisProcess, eventually


@contextmanager
def failed_over(kept: int, lost: int) -> Iterator[tuple[RedisProcess, str, list[Event]]]:
    """A promoted replica with `kept` events; with it, the cursor and epoch of a reader who saw `lost` more."""
    with RedisProcess("--repl-diskless-sync-delay", "0", tcp=True) as primary, RedisProcess(tcp=True) as replica:
        with primary.client() as redis, replica.client() as follower:
            follower.replicaof("127.0.0.1", primary.port)
            eventually(lambda: redis.wait(1, 1000) == 1, "the replica follows")
            with open_log(primary.url) as log:
                fill(log, kept)
                eventually(lambda: redis.wait(1, 1000) == 1, "the replica has all")
                part(follower)
                fill(log, lost, "lost")
                seen = log.query()
                primary.kill()
            eventually(lambda: follower.replicaof("NO", "ONE"), "it is promoted")
            assert follower.xlen("eventlog:{w1}:log") == kept
        epoch = log_epoch(replica)
        yield replica, epoch, seen


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
    with RedisProcess(tcp=True) as replica, RedisProcess("--repl-diskless-sync-delay", "0", tcp=True) as primary:
        port = primary.port
        with primary.client() as redis, replica.client() as follower_redis, open_log(primary.url) as log:
            follower_redis.replicaof("127.0.0.1", port)
            eventually(lambda: redis.wait(1, 1000) == 1, "the replica follows")
            fill(log, 20)
            eventually(lambda: redis.wait(1, 1000) == 1, "the replica has all")
            with log.follow(since=0) as follower:
                items(follower, 20)
                part(follower_redis)
                fill(log, 5, "lost")
                items(follower, 25)
                primary.kill()
                follower_redis.replicaof("NO", "ONE")
                replica.stop()
                successor = RedisProcess("--port", str(port), tcp=True)
                successor.restore_data(replica.save_data())
                successor.port = port
                try:
                    successor.start()
                    fill(log, 10, "again")
                    found = items(follower, 30)
                finally:
                    successor.close()
        assert [gap.reason for gap in gaps(found)] == ["rollback"]
        assert offsets(found) == list(range(21, 31))

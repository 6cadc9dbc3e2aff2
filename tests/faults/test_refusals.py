"""A Redis that forbids, is full, or is not there: what was refused is named, and what was never sent is known."""

import asyncio
import contextlib
import logging
import re
import socket
import socketserver
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import redis

from eventlog import create_async_slot_queue, create_slot_queue
from eventlog.errors import BackendFull, BackendRefused, BackendUnavailable
from tests.faults.opening import open_async_log, open_log
from tests.support.redis_process import RedisProcess, eventually

Call = Callable[..., object]


def append(url: str, deadline_s: float = 5.0) -> object:
    with open_log(url, deadline_s=deadline_s) as log:
        return log.append("a")


def append_on_asyncio(url: str, deadline_s: float = 5.0) -> object:
    async def main() -> object:
        async with open_async_log(url, deadline_s=deadline_s) as log:
            return await log.append("a")

    return asyncio.run(main())


def acquire(url: str, deadline_s: float = 5.0) -> object:
    with create_slot_queue("redis", url=url, workspace="w1", deadline_seconds=deadline_s) as slots:
        return slots.enqueue("build", "e1", max_concurrent=1)


def acquire_on_asyncio(url: str, deadline_s: float = 5.0) -> object:
    async def main() -> object:
        async with create_async_slot_queue("redis", url=url, workspace="w1", deadline_seconds=deadline_s) as slots:
            return await slots.enqueue("build", "e1", max_concurrent=1)

    return asyncio.run(main())


EVERYWHERE = pytest.mark.parametrize("call", [append, append_on_asyncio, acquire, acquire_on_asyncio])


@EVERYWHERE
@pytest.mark.parametrize(
    ("rules", "named"),
    [
        ("-xadd", "XADD"),
        ("-time", "TIME"),
        ("-hset", "HSET"),
        ("-evalsha", "EVALSHA"),
        ("-eval", "EVAL"),
        ("-@scripting", "EVALSHA"),
        ("resetkeys ~other:*", "eventlog:{w1}:*"),
    ],
)
def test_a_command_or_key_that_the_user_lacks_is_named(
    own_server: RedisProcess, call: Call, rules: str, named: str
) -> None:
    with pytest.raises(BackendRefused, match="NOPERM") as caught:
        call(own_server.user(rules))
    assert named in str(caught.value)
    assert not caught.value.outcome_unknown


@pytest.mark.parametrize("renamed", ["EVALSHA", "XADD", "TIME"])
def test_a_command_that_was_renamed_away_is_named(renamed: str) -> None:
    with RedisProcess("--rename-command", renamed, "", appendonly=False) as server:
        for call in (append, append_on_asyncio):
            with pytest.raises(BackendRefused, match=f"does not have the command {renamed}"):
                call(server.url)


@pytest.mark.parametrize(
    "said",
    [
        "ERR unknown command `EVALSHA`, with args beginning with: `x`",
        "unsupported command 'EVALSHA'",
        "ERR Command is not available: 'EVALSHA'. See the documentation.",
        "ERR command not supported",
    ],
)
def test_a_service_that_has_no_such_command_is_understood_in_its_own_words(said: str) -> None:
    with answering(f"-{said}\r\n".encode()) as port:
        for call in (append, append_on_asyncio):
            with pytest.raises(BackendRefused, match="does not have the command EVALSHA"):
                call(f"redis://127.0.0.1:{port}/0")


@pytest.mark.parametrize("code", ["NOAUTH", "WRONGPASS"])
def test_a_password_that_changes_is_a_clear_refusal_and_heals(own_server: RedisProcess, code: str) -> None:
    url = own_server.user("") if code == "WRONGPASS" else own_server.url

    def change(password: str) -> None:
        with own_server.client() as admin:
            if code == "WRONGPASS":
                admin.execute_command("ACL", "SETUSER", "app", "resetpass", f">{password or 'pw'}")
                admin.execute_command("CLIENT", "KILL", "USER", "app")
            else:
                admin.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
                admin.config_set("requirepass", password)

    async def main() -> None:
        with open_log(url, deadline_s=0.5) as log:
            async with open_async_log(url, deadline_s=0.5) as other:
                log.append("a")
                await other.append("b")
                await asyncio.to_thread(change, "another")
                for attempt in (lambda: asyncio.to_thread(log.append, "c"), lambda: other.append("c")):
                    with pytest.raises(BackendRefused, match=code):
                        await attempt()
                if code == "NOAUTH":
                    with redis.Redis.from_url(own_server.url, password="another") as admin:
                        admin.config_set("requirepass", "")
                else:
                    await asyncio.to_thread(change, "")
                assert (log.append("d").offset, (await other.append("e")).offset) == (3, 4)

    asyncio.run(main())


def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@EVERYWHERE
@pytest.mark.parametrize("fault", ["refused", "no such host", "no such socket", "no TLS", "database", "password"])
def test_what_could_not_be_sent_was_not_carried_out(call: Call, fault: str, redis_server: RedisProcess) -> None:
    with answering(b"-ERR no\r\n") as port:
        url = {
            "refused": f"redis://127.0.0.1:{closed_port()}/0",
            "no such host": "redis://nowhere.invalid/0",
            "no such socket": "unix:///nowhere/s",
            "no TLS": f"rediss://127.0.0.1:{port}/0",
            "database": redis_server.url + "?db=9999",
            "password": redis_server.url.replace("://", "://nobody:x@", 1),
        }[fault]
        with pytest.raises(BackendUnavailable) as caught:
            call(url, 0.1)
    assert not caught.value.outcome_unknown
    assert isinstance(caught.value, BackendRefused) == (fault in ("database", "password"))


@contextmanager
def answering(reply: bytes) -> Iterator[int]:
    """A port at which something gives this answer to all that it is sent."""

    class Answer(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            with contextlib.suppress(OSError):
                while data := self.request.recv(65536):
                    self.request.sendall(reply * max(1, len(re.findall(rb"(?:^|\r\n)\*\d+\r\n", data))))

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Answer) as server:
        serving = threading.Thread(target=server.serve_forever, args=(0.01,))
        serving.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            serving.join()


@pytest.mark.parametrize("tcp", [True, False])
def test_what_meets_a_redis_that_has_ended_was_not_sent(tcp: bool) -> None:
    async def main() -> None:
        with RedisProcess(tcp=tcp) as server, open_log(server.url, deadline_s=0.3) as log:
            async with open_async_log(server.url, deadline_s=0.3) as other:
                log.append("a")
                await other.append("b")
                # Its end is seen on the idle connections.
                await asyncio.to_thread(server.kill)
                await asyncio.sleep(0.01)
                for attempt in (lambda: asyncio.to_thread(log.append, "c"), lambda: other.append("c")):
                    with pytest.raises(BackendUnavailable) as caught:
                        await attempt()
                    assert not caught.value.outcome_unknown

    asyncio.run(main())


@pytest.mark.parametrize(
    ("options", "code"), [(("--maxmemory", "1"), "OOM"), (("--min-replicas-to-write", "1"), "NOREPLICAS")]
)
def test_a_redis_that_takes_no_writes_says_so_at_once(options: tuple[str, ...], code: str) -> None:
    with RedisProcess(*options, appendonly=False) as server:
        for call in (append, append_on_asyncio, acquire):
            with pytest.raises(BackendFull, match=code) as caught:
                call(server.url)
            assert not caught.value.outcome_unknown


@pytest.mark.parametrize("code", ["MOVED 866 127.0.0.1:7001", "ASK 866 127.0.0.1:7001", "CROSSSLOT Keys differ"])
def test_a_node_of_a_cluster_says_what_is_supported(code: str) -> None:
    with answering(f"-{code}\r\n".encode()) as port:
        for call in (append, append_on_asyncio):
            with pytest.raises(BackendRefused, match=rf"node of a cluster \({code.split()[0]}\)") as caught:
                call(f"redis://127.0.0.1:{port}/0")
            assert "127.0.0.1" not in str(caught.value)


def test_a_key_that_another_program_wrote_is_named_with_its_workspace(own_server: RedisProcess) -> None:
    with own_server.client() as client:
        for key in ("log", "slots:build:line"):
            client.set(f"eventlog:{{w1}}:{key}", "x")
    for call in (append, append_on_asyncio, acquire):
        with pytest.raises(BackendRefused, match=r"eventlog:\{w1\}:\* \(WRONGTYPE\)") as caught:
            call(own_server.url)
        assert not caught.value.outcome_unknown


def test_followers_and_waiters_do_without_blocking_reads(
    own_server: RedisProcess, caplog: pytest.LogCaptureFixture
) -> None:
    url = own_server.user("-xread -blpop -blmpop")

    def warned() -> list[str]:
        return [record.getMessage() for record in caplog.records if "run XREAD" in record.getMessage()]

    async def main() -> None:
        async with open_async_log(url) as log:
            following = log.follow(since=0)
            await log.append("b")
            assert [(await anext(following)).offset for _ in range(2)] == [1, 2]
            await following.aclose()

    with caplog.at_level(logging.WARNING, "eventlog"), open_log(url) as log:
        with log.follow(since=0) as follower:
            appending = threading.Thread(target=lambda: eventually(warned, "it waits") or log.append("a"))
            appending.start()
            assert next(iter(follower)).offset == 1
            appending.join()
            asyncio.run(main())
        with log.slots().acquire("build", max_concurrent=1) as slot:
            waiting = threading.Thread(target=lambda: log.slots().acquire("build", max_concurrent=1).release())
            waiting.start()
            slot.release()
            waiting.join(10)
            assert not waiting.is_alive()
    assert len(warned()) == 1

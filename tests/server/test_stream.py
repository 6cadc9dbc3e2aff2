"""Following over HTTP: order, resuming, control events, filters, and clients that misbehave."""

import json
import random
import threading
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import httpx
import pytest

from tests.server.api import NDJSON, Api, Message, assert_problem, following, take
from tests.server.conftest import Serve
from tests.server.raw import RawConnection
from tests.support.redis_process import RedisProcess, eventually


def test_what_is_there_comes_in_order_then_what_is_appended(api: Api) -> None:
    events = api.fill(3)
    with following(api, "?since=0") as stream:
        begun = [next(stream) for _ in range(4)]
        assert [(m.event, m.id, m.data) for m in begun[:3]] == [("message", e["id"], e) for e in events]
        assert (begun[3].event, begun[3].id, begun[3].data) == (
            "caught_up",
            events[2]["id"],
            {"cursor": events[2]["id"], "epoch": api.get("/log").json()["epoch"]},
        )
        more = api.fill(2)
        assert [m.data for m in (next(stream), next(stream))] == more


def test_without_a_cursor_a_stream_begins_now(api: Api) -> None:
    api.fill(3)
    with following(api) as stream:
        assert next(stream).event == "caught_up"
        api.fill(1)
        assert next(stream).data["offset"] == 4


def test_last_event_id_wins_over_since(api: Api) -> None:
    events = api.fill(4)
    with following(api, "?since=0", Last_Event_ID=events[1]["id"]) as stream:
        assert [m.data["offset"] for m in take(stream, 2)] == [3, 4]


def test_an_empty_last_event_id_is_as_good_as_none(api: Api) -> None:
    api.fill(2)
    with following(api, "?since=1", Last_Event_ID="") as stream:
        assert take(stream, 1)[0].data["offset"] == 2


def test_a_stream_may_be_resumed_at_any_control_event(api: Api) -> None:
    api.fill(5)
    api.client.delete(f"{api.base}/events")
    api.fill(2)
    with following(api, "?since=2") as stream:
        gap = next(stream)
        assert gap.event == "gap"
        assert {k: v for k, v in gap.data.items() if k != "cursor"} == {
            "missed": 3, "from_offset": 3, "to_offset": 5, "reason": "trimmed",
        }  # fmt: skip
        assert gap.id == gap.data["cursor"]
        assert [m.data["offset"] for m in take(stream, 2)] == [6, 7]
    assert gap.id is not None
    with following(api, Last_Event_ID=gap.id) as stream:
        assert [(m.event, m.data.get("offset")) for m in (next(stream), next(stream))] == [
            ("message", 6),
            ("message", 7),
        ]


def test_filters_hold_and_hold_after_a_resume(api: Api) -> None:
    api.post([{"kind": k, "run_id": "r"} for k in ("tool.a", "turn", "tool.b", "tool.c", "turn")])
    with following(api, "?since=0&kind=tool.*&run_id=r") as stream:
        first = take(stream, 1)[0]
    assert first.id is not None
    with following(api, "?kind=tool.*&run_id=r", Last_Event_ID=first.id) as stream:
        assert [m.data["offset"] for m in take(stream, 2)] == [3, 4]
        assert take(stream, 1, "caught_up")[0].id.endswith("-5")  # type: ignore[union-attr]
        api.post([{"kind": "turn", "run_id": "r"}, {"kind": "tool.d"}, {"kind": "tool.e", "run_id": "r"}])
        assert take(stream, 1)[0].data["offset"] == 8


def test_a_visibility_ceiling_holds_live(api: Api) -> None:
    with following(api, "?visibility=internal") as stream:
        take(stream, 1, "caught_up")
        api.post([{"kind": "a", "visibility": level} for level in ("private", "internal", "public")])
        assert [m.data["offset"] for m in take(stream, 2)] == [2, 3]


@pytest.mark.parametrize("live", [True, False])
def test_until_terminal_ends_after_the_runs_last_event(api: Api, live: bool) -> None:
    story = [{"kind": "run.started", "run_id": "r"}, {"kind": "run.finished", "run_id": "other"}]
    end = [{"kind": "run.finished", "run_id": "r"}, {"kind": "late", "run_id": "r"}]
    api.post(story if live else story + end)
    with following(api, "?since=0&run_id=r&until_terminal=true") as stream:
        assert next(stream).data["kind"] == "run.started"
        if live:
            take(stream, 1, "caught_up")
            api.post(end)
        assert [m.data["kind"] for m in stream] == ["run.finished"]


def test_the_headers_keep_proxies_from_buffering(api: Api) -> None:
    with api.client.stream("GET", f"{api.base}/events/stream") as answer:
        assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert "no-cache" in answer.headers["cache-control"]
        assert answer.headers["x-accel-buffering"] == "no"


def test_a_quiet_stream_has_heartbeats(redis_server: RedisProcess, serve: Serve) -> None:
    with serve(redis_server.url, heartbeat_s=0.1) as url, closing(httpx.Client(base_url=url)) as client:
        api = Api(client, "w")
        with following(api) as stream:
            take(stream, 1, "caught_up")
            assert [m.event for m in (next(stream), next(stream), next(stream))] == [":", ":", ":"]
        with client.stream("GET", f"{api.base}/events/stream", headers={"Accept": NDJSON}) as answer:
            lines = answer.iter_lines()
            assert [json.loads(next(lines))["control"] for _ in range(3)] == ["caught_up", "heartbeat", "heartbeat"]


@pytest.mark.parametrize(("heartbeat_s", "passed_over"), [(0.1, 40), (3600.0, 1000)], ids=["by time", "by number"])
def test_the_id_of_a_quiet_filtered_stream_moves_on(
    redis_server: RedisProcess, serve: Serve, heartbeat_s: float, passed_over: int
) -> None:
    """Else a reader that resumes later would be told that it missed what its filter would have left out."""
    settings: dict[str, Any] = {
        "log": {"max_entries": passed_over},
        "heartbeat_s": heartbeat_s,
        "batch_max_events": 2000,
    }
    with serve(redis_server.url, **settings) as url, closing(httpx.Client(base_url=url, timeout=20)) as client:
        api = Api(client, "w")
        first = api.fill(1, run_id="r")[0]
        for query in ("?kind=rare", "?run_id=r", "?kind=rare&run_id=r"):
            with following(api, query, Last_Event_ID=first["id"]) as stream:
                take(stream, 1, "caught_up")
                api.fill(passed_over // 2)
                last = api.fill(passed_over // 2)[-1]["id"]
                beat = take(stream, 1, "heartbeat")[0]
                while beat.id != last:
                    beat = take(stream, 1, "heartbeat")[0]
                assert beat.data == {"cursor": last, "epoch": api.get("/log").json()["epoch"]}
            with following(api, query, Last_Event_ID=last) as stream:
                assert next(stream).event == "caught_up"
            first = {"id": last}


def test_the_first_event_of_a_log_brings_its_epoch(api: Api) -> None:
    with following(api, "?since=0&kind=b") as stream:
        assert next(stream).data == {"cursor": "0-0", "epoch": None}
        event = api.fill(1)[0]
        told = take(stream, 1, "caught_up")[0].data
        assert told == {"cursor": event["id"], "epoch": api.get("/log").json()["epoch"]}


def test_lines_carry_the_same_as_messages(api: Api) -> None:
    api.fill(4)
    api.client.delete(f"{api.base}/events")
    events = api.fill(2)
    with api.client.stream("GET", f"{api.base}/events/stream?since=1", headers={"Accept": NDJSON}) as answer:
        assert answer.headers["content-type"] == NDJSON
        lines = (json.loads(line) for line in answer.iter_lines())
        gap, *rest = (next(lines) for _ in range(4))
        assert (gap["control"], gap["missed"], gap["reason"]) == ("gap", 3, "trimmed")
        epoch = api.get("/log").json()["epoch"]
        assert rest == [*events, {"control": "caught_up", "cursor": events[1]["id"], "epoch": epoch}]


def test_text_that_would_break_a_stream_arrives_as_it_was(api: Api) -> None:
    payload = {"text": "a\nb\r\n\nc\u2028d\u2029é\U0001f600\u0000", "id: 1": "data: x"}
    with following(api, "?since=0") as stream:
        api.post({"kind": "a", "payload": payload, "source": "é"})
        assert take(stream, 1)[0].data["payload"] == payload


def test_a_wiped_redis_is_told_and_the_new_log_is_followed_from_its_start(serve: Serve) -> None:
    with (
        RedisProcess(appendonly=False) as redis,
        serve(redis.url) as url,
        closing(httpx.Client(base_url=url)) as client,
    ):
        api = Api(client, "w")
        api.fill(5)
        with following(api) as stream, redis.client() as plain:
            take(stream, 1, "caught_up")
            plain.flushall()
            api.fill(3)
            told = [next(stream) for _ in range(4)]
    assert (told[0].event, told[0].data["reason"]) == ("gap", "reset")
    assert [m.data["offset"] for m in told[1:]] == [1, 2, 3]


def test_a_stream_outlives_a_restart_of_redis(serve: Serve) -> None:
    with RedisProcess() as redis, serve(redis.url) as url, closing(httpx.Client(base_url=url, timeout=20)) as client:
        api = Api(client, "w")
        with following(api) as stream:
            take(stream, 1, "caught_up")
            api.fill(2)
            assert [m.data["offset"] for m in take(stream, 2)] == [1, 2]
            redis.restart()
            eventually(lambda: api.post({"kind": "a"}).status_code == 201, "appends again")
            assert take(stream, 1)[0].data["offset"] == 3


def test_many_followers_of_many_workspaces_need_no_more_connections_to_redis(serve: Serve) -> None:
    with RedisProcess(appendonly=False) as redis, serve(redis.url, completions=False) as url:
        connections = [RawConnection(url) for _ in range(60)]
        for number, connection in enumerate(connections):
            connection.send(f"GET /v1/workspaces/w{number % 20}/events/stream HTTP/1.1\r\nhost: x\r\n\r\n".encode())
        for connection in connections:
            connection.until(b"caught_up")
        with httpx.Client(base_url=url) as client, redis.client() as plain:
            for number in range(20):
                Api(client, f"w{number}").fill(1)
            for connection in connections:
                connection.until(b'"offset":1,')
            assert len(plain.client_list()) <= 8 + 1 + 1
        for connection in connections:
            connection.close()


def test_a_client_that_reads_nothing_hinders_nobody_and_is_dropped(redis_server: RedisProcess, serve: Serve) -> None:
    with (
        serve(redis_server.url, send_timeout_s=0.5, streams_max=2) as url,
        closing(httpx.Client(base_url=url, timeout=20)) as client,
        RawConnection(url, small_buffer=True) as frozen,
    ):
        api = Api(client, "w")
        frozen.send(b"GET /v1/workspaces/w/events/stream?since=0 HTTP/1.1\r\nhost: x\r\n\r\n")
        frozen.until(b"caught_up")
        with following(api, "?since=0") as stream:
            large = [{"kind": "a", "payload": {"x": "y" * 20_000}}] * 40
            for _ in range(15):
                assert api.post(large).status_code == 201
                take(stream, 40)
            eventually(lambda: admitted(api), "the place of the frozen client's stream is free")
        assert frozen.closed_by_server()


def admitted(api: Api) -> bool:
    with api.client.stream("GET", f"{api.base}/events/stream") as answer:
        return answer.status_code == 200


def test_a_stream_that_the_client_closes_is_forgotten(redis_server: RedisProcess, serve: Serve) -> None:
    with serve(redis_server.url, streams_max=1) as url, closing(httpx.Client(base_url=url)) as client:
        api = Api(client, "w")
        for _ in range(3):
            eventually(lambda: admitted(api), "the place of the stream before is free")


class CutOff(threading.Thread):
    """A client that is cut off at random points and resumes at the last id it has seen."""

    def __init__(self, url: str, workspace: str, pieces: Iterator[int]) -> None:
        super().__init__()
        self.seen: list[int] = []
        self.last_id = ""
        self.cuts = 0
        self._url = url
        self._path = f"/v1/workspaces/{workspace}/events/stream"
        self._pieces = pieces

    def run(self) -> None:
        for bytes_read in self._pieces:
            self._read(bytes_read)
            self.cuts += 1

    def _read(self, most_bytes: int) -> None:
        resume = {"Last-Event-ID": self.last_id} if self.last_id else {}
        raw = b""
        with httpx.stream("GET", f"{self._url}{self._path}?since=0", headers=resume, timeout=20) as answer:
            for piece in answer.iter_raw():
                raw += piece
                if len(raw) >= most_bytes:
                    break
        text = raw[:most_bytes].decode("ascii")
        for block in text.split("\n\n")[:-1]:
            fields = dict(line.split(": ", 1) for line in block.split("\n"))
            assert "gap" not in fields.values()
            if fields.get("event") is None:
                self.seen.append(json.loads(fields["data"])["offset"])
            self.last_id = fields.get("id", self.last_id)


@pytest.mark.chaos
def test_a_client_cut_50_times_at_random_points_sees_every_offset_once(api: Api, server_url: str) -> None:
    seed = random.randrange(10**6)
    print(f"seed {seed}")
    chance = random.Random(seed)
    reader = CutOff(server_url, api.workspace, iter([chance.randrange(1, 12_000) for _ in range(50)]))
    reader.start()
    appended = 0
    while reader.is_alive():
        with httpx.Client(base_url=server_url) as client:
            for _ in range(20):
                appended += len(Api(client, api.workspace).fill(chance.randrange(1, 20)))
    reader.join()
    assert reader.cuts == 50
    rest: list[Message] = []
    with following(api, Last_Event_ID=reader.last_id or "0") as stream:
        while not rest or rest[-1].event != "caught_up":
            rest.append(next(stream))
    offsets = reader.seen + [m.data["offset"] for m in rest if m.event == "message"]
    assert offsets == list(range(1, appended + 1))
    assert len(reader.seen) > 50


def test_a_stream_of_a_log_that_cannot_be_reached_is_refused_not_empty(serve: Serve) -> None:
    with RedisProcess() as redis, serve(redis.url) as url:
        redis.kill()
        assert_problem(httpx.get(f"{url}/v1/workspaces/w/events/stream"), 503, "BACKEND_UNAVAILABLE")

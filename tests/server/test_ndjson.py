"""NDJSON: a result line for each line, a bad line refuses only itself, streaming both ways."""

import json

import httpx
import pytest

from tests.server.api import NDJSON, Api, assert_problem
from tests.server.conftest import Serve
from tests.server.raw import RawConnection
from tests.support.redis_process import RedisProcess


def results(answer: httpx.Response) -> list[dict[str, object]]:
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == NDJSON
    return [json.loads(line) for line in answer.text.split("\n")[:-1]]


def test_each_line_has_its_result_in_order_and_a_bad_one_refuses_only_itself(api: Api) -> None:
    lines = ['{"kind":"a"}', "nonsense", '{"kind":"b"}', '{"kind":""}', '{"kind":"c","kind":"d"}', "[]", '{"kind":"e"}']
    found = results(api.post("\n".join(lines), NDJSON))
    assert [line.get("kind") or line["line"] for line in found] == ["a", 2, "b", 4, 5, 6, "e"]
    assert [line["offset"] for line in found if "offset" in line] == [1, 2, 3]
    errors = [line["error"] for line in found if "error" in line]
    assert [(e["code"], e["field"]) for e in errors] == [  # type: ignore[index]
        ("INVALID_PARAMS", field) for field in ("line", "kind", "line", "event")
    ]
    assert api.last_offset() == 3


def test_blank_lines_and_carriage_returns_are_passed_over_but_counted(api: Api) -> None:
    found = results(api.post('\r\n\n{"kind":"a"}\r\n  \n!\n', NDJSON))
    assert [line.get("kind") or line["line"] for line in found] == ["a", 5]


def test_a_byte_order_mark_may_begin_any_line(api: Api) -> None:
    found = results(api.post('\ufeff{"kind":"a"}\r\n\ufeff\r\n\ufeff{"kind":"b"}\n\n\ufeff!', NDJSON))
    assert [line.get("kind") or line["line"] for line in found] == ["a", "b", 5]


def test_an_empty_body_has_no_results(api: Api) -> None:
    assert results(api.post("", NDJSON)) == []


def test_many_lines_keep_their_order_across_blocks(api: Api) -> None:
    found = results(api.post("".join(f'{{"kind":"a","payload":{{"n":{n}}}}}\n' for n in range(1, 2501)), NDJSON))
    assert [(e["offset"], e["payload"]) for e in found] == [(n, {"n": n}) for n in range(1, 2501)]


def test_a_line_that_is_too_long_refuses_only_itself(redis_server: RedisProcess, serve: Serve, workspace: str) -> None:
    with serve(redis_server.url, body_max_bytes=2000) as url, httpx.Client(base_url=url) as client:
        body = b'{"kind":"a"}\n' + b" " * 50_000 + b'\n{"kind":"b"}\n' + b"x" * 3000
        answer = client.post(f"/v1/workspaces/{workspace}/events", content=body, headers={"Content-Type": NDJSON})
        found = results(answer)
    assert [line.get("kind") or line["error"]["code"] for line in found] == [  # type: ignore[index]
        "a", "PAYLOAD_TOO_LARGE", "b", "PAYLOAD_TOO_LARGE",
    ]  # fmt: skip


def test_repeated_keys_are_duplicates_of_the_first(api: Api) -> None:
    found = results(api.post('{"kind":"a","idempotency_key":"k"}\n{"kind":"b","idempotency_key":"k"}', NDJSON))
    assert found[1] == {**found[0], "duplicate": True}


@pytest.mark.parametrize(
    ("query", "headers", "field"),
    [("?expected_offset=0", {}, "expected_offset"), ("", {"Idempotency_Key": "k"}, "Idempotency-Key")],
)
def test_conditions_that_need_one_append_are_refused(api: Api, query: str, headers: dict[str, str], field: str) -> None:
    assert_problem(api.post('{"kind":"a"}', NDJSON, query, **headers), 400, "INVALID_PARAMS", field)
    assert api.last_offset() == 0


def test_results_come_while_the_client_still_sends(server_url: str, workspace: str) -> None:
    with RawConnection(server_url) as connection:
        connection.post_head(workspace, f"content-type: {NDJSON}", "transfer-encoding: chunked")
        for number in range(1, 4):
            connection.chunk(b'{"kind":"a"}\n')
            assert f'"offset":{number},' in connection.until(b"}\n\r\n").decode()
        connection.chunk(b"")
        connection.until(b"0\r\n\r\n")


def test_a_client_that_never_reads_its_results_is_dropped(
    redis_server: RedisProcess, serve: Serve, workspace: str
) -> None:
    with serve(redis_server.url, send_timeout_s=0.5) as url:
        with RawConnection(url, small_buffer=True) as connection:
            connection.post_head(workspace, f"content-type: {NDJSON}", "transfer-encoding: chunked")
            block = b'{"kind":"a"}\n' * 5000
            assert connection.refuses_before_long(b"%x\r\n%s\r\n" % (len(block), block))
        assert httpx.get(url + "/healthz").status_code == 200

"""Telemetry over HTTP: samples pushed into a run's ring, and read from it."""

from typing import Any

import httpx
import pytest

from tests.server.api import Api, assert_problem
from tests.server.conftest import Serve
from tests.support.redis_process import RedisProcess

HOST = {"rss_bytes": 123_456_789, "cpu_percent": 98.5, "io_read_bytes": 0, "io_write_bytes": 2**40}
PATH = "/runs/r/telemetry"


def _push(api: Api, *samples: Any, path: str = PATH, headers: dict[str, str] | None = None, **more: Any) -> Any:
    return api.client.post(api.base + path, json={"samples": samples, **more}, headers=headers)


def _pushed(api: Api, *samples: Any, **more: Any) -> list[dict[str, Any]]:
    answer = _push(api, *samples, **more)
    assert answer.status_code == 201, answer.text
    found: list[dict[str, Any]] = answer.json()["samples"]
    return found


def _seqs(api: Api, query: str = "") -> list[int]:
    answer = api.get(PATH + query)
    assert answer.status_code == 200, answer.text
    return [sample["seq"] for sample in answer.json()["samples"]]


@pytest.fixture
def run(api: Api) -> Api:
    """A workspace in which the run `r` is known."""
    api.fill(1, run_id="r")
    return api


def test_samples_are_read_as_they_were_pushed_with_their_places(run: Api) -> None:
    assert run.get(PATH).json() == {"run_id": "r", "samples": [], "next_seq": 0, "missed": 0, "capacity": 5000}
    guest = {"gpu": [{"é": "\u2028"}], "none": None}
    first, second = _pushed(
        run,
        {"stage_name": "build", "source": "host-1", "host": HOST},
        {"stage_name": None, "host": {"rss_bytes": 1}, "guest": guest},
    )
    assert first == {"seq": 1, "timestamp": first["timestamp"], "stage_name": "build", "source": "host-1", "host": HOST}
    assert second == {"seq": 2, "timestamp": second["timestamp"], "host": {"rss_bytes": 1}, "guest": guest}
    event = run.get("/runs/r/events").json()["events"][0]
    assert first["timestamp"] >= event["timestamp"], "both are by the Redis clock"
    page = run.get(PATH).json()
    assert page == {"run_id": "r", "samples": [first, second], "next_seq": 2, "missed": 0, "capacity": 5000}


def test_reading_goes_on_where_it_stood(run: Api) -> None:
    _pushed(run, *({"guest": {"n": n}} for n in range(25)))
    found: list[int] = []
    from_seq = 0
    while True:
        page = run.get(f"{PATH}?from_seq={from_seq}&limit=10").json()
        found += [sample["seq"] for sample in page["samples"]]
        if page["next_seq"] == from_seq:
            break
        from_seq = page["next_seq"]
    assert found == list(range(1, 26))
    assert run.get(f"{PATH}?from_seq=25").json()["next_seq"] == 25
    assert run.get(f"{PATH}?from_seq=99").json()["samples"] == []


def test_samples_of_one_stage_are_found_among_those_of_others(run: Api) -> None:
    _pushed(run, *({"stage_name": f"s{n % 3}", "guest": {}} for n in range(9)), {"guest": {}})
    assert _seqs(run, "?stage_name=s1") == [2, 5, 8]
    assert _seqs(run, "?stage_name=s1&from_seq=2&limit=1") == [5]
    assert run.get(f"{PATH}?stage_name=s1").json()["next_seq"] == 10
    assert _seqs(run, "?stage_name=never") == []


def test_a_ring_shows_all_of_its_samples_in_one_answer(run: Api) -> None:
    for _ in range(11):
        _pushed(run, *({"guest": {}} for _ in range(500)))
    page = run.get(PATH).json()
    assert [sample["seq"] for sample in page["samples"]] == list(range(501, 5501))
    assert (page["missed"], page["next_seq"], page["capacity"]) == (500, 5500, 5000)


def test_a_run_may_have_a_capacity_of_its_own(run: Api) -> None:
    _pushed(run, *({"guest": {"n": n}} for n in range(10)), capacity=4)
    page = run.get(PATH).json()
    assert ([sample["seq"] for sample in page["samples"]], page["missed"], page["capacity"]) == ([7, 8, 9, 10], 6, 4)
    assert run.get(f"{PATH}?from_seq=5").json()["missed"] == 1
    assert _pushed(run, {"guest": {}}, capacity=0) == []
    assert _pushed(run, {"guest": {}}) == []
    assert _seqs(run) == []
    assert run.get(PATH).json()["capacity"] == 0


def test_a_server_that_keeps_no_samples_takes_and_gives_none(serve: Serve, redis_server: RedisProcess) -> None:
    settings = {"telemetry_samples": 0}
    with serve(redis_server.url, log=settings) as url, httpx.Client(base_url=url, timeout=20) as client:
        api = Api(client, "w")
        api.fill(1, run_id="r")
        assert _pushed(api, {"host": HOST}) == []
        assert api.get(PATH).json()["samples"] == []
        assert_problem(api.get("/runs/unknown/telemetry"), 404, "NOT_FOUND")


def test_a_push_that_is_repeated_with_its_key_is_answered_as_the_first_was(run: Api) -> None:
    headers = {"Idempotency-Key": "k1"}
    first = _pushed(run, {"guest": {"n": 1}}, headers=headers)
    assert "duplicate" not in first[0]
    again = _push(run, {"guest": {"n": 9}, "stage_name": "other"}, {"guest": {}}, headers=headers)
    assert again.status_code == 200
    assert again.json() == {"samples": [{**first[0], "duplicate": True}], "duplicate": True}
    assert _seqs(run) == [1]
    assert "duplicate" not in run.get(PATH).json()["samples"][0]
    assert _pushed(run, {"guest": {"n": 2}}, headers={"Idempotency-Key": "k2"})[0]["seq"] == 2
    assert_problem(
        _push(run, {"guest": {}}, headers={"Idempotency-Key": "a b"}), 400, "INVALID_PARAMS", "idempotency_key"
    )


def test_a_run_that_is_not_there_is_404_and_gets_no_ring(api: Api) -> None:
    api.fill(1, run_id="another")
    assert_problem(api.get(PATH), 404, "NOT_FOUND")
    assert_problem(_push(api, {"host": HOST}), 404, "NOT_FOUND")
    api.fill(1, run_id="r")
    assert _seqs(api) == []


def test_clearing_the_log_frees_the_rings(run: Api) -> None:
    _pushed(run, {"host": HOST})
    run.client.delete(f"{run.base}/events")
    assert_problem(run.get(PATH), 404, "NOT_FOUND")


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("from_seq=abc", "from_seq"),
        ("from_seq=-1", "from_seq"),
        ("from_seq=%2B1", "from_seq"),
        ("from_seq=1e3", "from_seq"),
        ("from_seq=1.0", "from_seq"),
        ("from_seq=", "from_seq"),
        ("from_seq=%D9%A3", "from_seq"),
        ("from_seq=9007199254740992", "from_seq"),
        ("from_seq=1&from_seq=1", "from_seq"),
        ("limit=-1", "limit"),
        ("limit=abc", "limit"),
        ("limit=5001", "limit"),
        ("stage_name=", "stage_name"),
        ("stage_name=%00", "stage_name"),
        ("since=1", "since"),
    ],
)
def test_bad_parameters_are_400_naming_the_parameter(run: Api, query: str, field: str) -> None:
    assert_problem(run.get(f"{PATH}?{query}"), 400, "INVALID_PARAMS", field)


@pytest.mark.parametrize("path", ["/runs/a%20b/telemetry", f"/runs/{'a' * 129}/telemetry", "/runs/%00/telemetry"])
def test_what_is_no_run_id_is_refused(api: Api, path: str) -> None:
    assert_problem(api.get(path), 400, "INVALID_PARAMS", "run_id")
    assert_problem(_push(api, {"host": HOST}, path=path), 400, "INVALID_PARAMS", "run_id")


BAD_BODIES: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "samples"),
    "no samples": (b"{}", "samples"),
    "null": (b'{"samples":null}', "samples"),
    "an object": (b'{"samples":{}}', "samples"),
    "a string": (b'{"samples":"x"}', "samples"),
    "an array": (b"[]", "body"),
    "not JSON": (b'{"samples":[', "body"),
    "NaN": (b'{"samples":[{"host":{"rss_bytes":NaN}}]}', "body"),
    "unknown key": (b'{"samples":[],"colour":"red"}', "colour"),
    "no object": (b'{"samples":[1]}', "samples[0]"),
    "neither host nor guest": (b'{"samples":[{"guest":{}},{"stage_name":"s"}]}', "samples[1]"),
    "unknown field": (b'{"samples":[{"guest":{},"seq":1}]}', "samples[0].seq"),
    "unknown measure": (b'{"samples":[{"host":{"gpu":1}}]}', "samples[0].host.gpu"),
    "a negative measure": (b'{"samples":[{"host":{"rss_bytes":-1}}]}', "samples[0].host.rss_bytes"),
    "a measure in words": (b'{"samples":[{"host":{"cpu_percent":"all"}}]}', "samples[0].host.cpu_percent"),
    "a flag for a measure": (b'{"samples":[{"host":{"cpu_percent":true}}]}', "samples[0].host.cpu_percent"),
    "host a list": (b'{"samples":[{"host":[]}]}', "samples[0].host"),
    "guest a number": (b'{"samples":[{"guest":1}]}', "samples[0].guest"),
    "a stage without a name": (b'{"samples":[{"guest":{},"stage_name":""}]}', "samples[0].stage_name"),
    "an escape in the source": (rb'{"samples":[{"guest":{},"source":"\u001b[2J"}]}', "samples[0].source"),
    "a negative capacity": (b'{"samples":[],"capacity":-1}', "capacity"),
    "a fraction of capacity": (b'{"samples":[],"capacity":1.5}', "capacity"),
    "a flag for a capacity": (b'{"samples":[],"capacity":true}', "capacity"),
}


@pytest.mark.parametrize("name", BAD_BODIES)
def test_a_bad_body_is_400_and_adds_nothing(run: Api, name: str) -> None:
    raw, field = BAD_BODIES[name]
    answer = run.client.post(run.base + PATH, content=raw, headers={"Content-Type": "application/json"})
    assert_problem(answer, 400, "INVALID_PARAMS", field)
    assert _seqs(run) == []


def test_what_is_too_large_is_413_and_adds_nothing(run: Api) -> None:
    assert_problem(_push(run, {"guest": {"x": "y" * 9000}}), 413, "PAYLOAD_TOO_LARGE", "samples[0]")
    assert_problem(_push(run, *({"guest": {}} for _ in range(501))), 413, "PAYLOAD_TOO_LARGE", "samples")
    assert_problem(_push(run, {"guest": {"x": "y" * 2_000_000}}), 413, "PAYLOAD_TOO_LARGE", "body")
    assert _seqs(run) == []


def test_hidden_reasoning_is_no_telemetry(run: Api) -> None:
    refused = _push(run, {"guest": {}}, {"guest": {"model": {"chainOfThought": "first, I"}}})
    document = assert_problem(refused, 422, "REJECTED_CONTENT", "samples[1].guest.model.chainOfThought")
    assert "first, I" not in str(document)
    assert _seqs(run) == []


def test_other_types_and_methods_are_refused(run: Api) -> None:
    answer = run.client.post(run.base + PATH, content=b"x", headers={"Content-Type": "text/csv"})
    assert_problem(answer, 415, "UNSUPPORTED_MEDIA_TYPE")
    answer = run.client.delete(run.base + PATH)
    assert_problem(answer, 405, "METHOD_NOT_ALLOWED")
    assert answer.headers["allow"] == "GET, HEAD, POST"

"""`eventlog query`, `eventlog log`, `eventlog verify` and `eventlog doctor`."""

import json
import time
from pathlib import Path

import pytest
import redis

from eventlog import EventLog
from eventlog.store.keys import WorkspaceKeys
from tests.support.redis_process import RedisProcess

from .conftest import Here
from .program import Program


def _offsets(out: bytes) -> list[int]:
    return [json.loads(line)["offset"] for line in out.splitlines()]


@pytest.fixture
def filled(log: EventLog) -> EventLog:
    for number in range(1, 7):
        log.append(
            "tool.invoked" if number % 2 else "turn.started",
            {"n": number},
            run_id=f"r{1 + number % 3}",
            stage_name="build" if number < 3 else "test",
            visibility="private" if number == 5 else "public",
        )
    return log


@pytest.mark.parametrize(
    ("args", "offsets"),
    [
        ([], [1, 2, 3, 4, 5, 6]),
        (["--since", "4"], [5, 6]),
        (["--since", "0", "--until", "3"], [1, 2]),
        (["--limit", "2"], [1, 2]),
        (["--limit", "0"], []),
        (["--all", "--desc"], [6, 5, 4, 3, 2, 1]),
        (["--order", "desc", "-n", "2"], [6, 5]),
        (["--kind", "tool.*"], [1, 3, 5]),
        (["-k", "tool.invoked", "-k", "turn.*"], [1, 2, 3, 4, 5, 6]),
        (["--run", "r2", "--lane", "main"], [1, 4]),
        (["--stage", "build"], [1, 2]),
        (["--visibility", "internal"], [1, 2, 3, 4, 6]),
        (["--since-time", "1h"], [1, 2, 3, 4, 5, 6]),
        (["--since-time", "2100-01-01T00:00:00Z"], []),
    ],
)
def test_a_query_finds_what_was_asked_for(args: list[str], offsets: list[int], here: Here, filled: EventLog) -> None:
    done = here("query", "-o", "json", *args)
    assert done.returncode == 0, done.stderr
    assert _offsets(done.stdout) == offsets


def test_lines_of_text_name_all_that_an_event_has(program: Program, log: EventLog) -> None:
    event = log.append("a.b", {"n": 1}, run_id="r", stage_name="s", group_id="g", visibility="private", source="me")
    line = program("query", TZ="UTC").stdout.decode().rstrip("\n")
    stamp = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(event.timestamp))
    assert line.startswith(stamp)
    assert line[23:] == ' #1 a.b r/main:1 stage=s group=g private source=me {"n":1}'


def test_that_there_is_more_is_told_with_the_cursor_to_go_on_from(program: Program, filled: EventLog) -> None:
    events = filled.query()
    assert f"--since {events[1].id} " in program("query", "-n", "2").stderr.decode()
    assert f"--until {events[4].id} " in program("query", "-n", "2", "--desc").stderr.decode()
    assert program("query", "-n", "6").stderr == b""


def test_what_was_missed_is_told_on_stderr_and_in_json_as_a_control_line(program: Program, log: EventLog) -> None:
    log.append("a")
    log.append("b")
    log.clear()
    log.append("c")
    done = program("query", "--since", "0")
    assert b"#3 c" in done.stdout
    assert done.stderr.decode().startswith("--- gap: 2 events missed, offsets 1 to 2: they were evicted or cleared")
    first, second = program("query", "--since", "0", "-o", "json").stdout.splitlines()
    assert json.loads(first) == {
        "control": "gap", "missed": 2, "from_offset": 1, "to_offset": 2, "reason": "trimmed"
    }  # fmt: skip
    assert json.loads(second)["offset"] == 3


def test_more_than_a_page_is_read_page_by_page(program: Program, log: EventLog) -> None:
    log.append_many([{"kind": "a"}] * 2300)
    assert _offsets(program("query", "--all", "-o", "json").stdout) == list(range(1, 2301))
    assert _offsets(program("query", "-n", "1500", "--desc", "-o", "json").stdout) == list(range(2300, 800, -1))


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--since", "abc"], "since: 'abc' is not a cursor"),
        (["--since", "$"], "since: '$' is not a cursor"),
        (["--until", str(2**64)], "until: "),
        (["--limit", "-1"], "limit: "),
        (["--limit", "x"], "--limit"),
        (["--kind", "a b"], "kind: 'a b' is neither"),
        (["--order", "up"], "order: 'up' is neither asc nor desc"),
        (["--since-time", "soon"], "since_time: 'soon' is neither"),
        (["-o", "xml"], "--output"),
    ],
)
def test_bad_input_is_named(args: list[str], said: str, here: Here) -> None:
    done = here("query", *args)
    assert done.returncode == 2
    assert said in done.stderr.decode()
    assert done.stderr.count(b"\n") == 1


def test_a_redis_that_is_away_is_exit_code_3_and_one_line(program: Program, tmp_path: Path) -> None:
    url = f"unix://{tmp_path}/none"
    for args in (["query"], ["append", "a"], ["follow"], ["verify"]):
        done = program(*args, "--url", url, EVENTLOG_DEADLINE_SECONDS="0.3")
        assert done.returncode == 3, done.stderr
        assert done.stderr.count(b"\n") == 1
        assert b"Redis did not answer within 0.3 s" in done.stderr


def test_verify_counts_and_finds_a_sound_log_sound(program: Program, filled: EventLog) -> None:
    done = program("verify")
    assert done.returncode == 0
    assert done.stdout.decode().splitlines() == [
        "default: 6 events, offsets 1 to 6, 3 runs, last offset 6",
        "sound: offsets dense, times in order, counters and run index agree",
    ]
    assert json.loads(program("verify", "-o", "json").stdout)["clean"] is True


def test_verify_exits_1_and_names_what_is_wrong(
    program: Program, filled: EventLog, redis_server: RedisProcess, key_prefix: str
) -> None:
    with redis.Redis.from_url(redis_server.url) as client:
        client.xdel(WorkspaceKeys.of("default", key_prefix).log, filled.query()[2].id)
    done = program("verify")
    assert done.returncode == 1
    assert b"problem: offset 3 is missing" in done.stdout
    assert json.loads(program("verify", "-o", "json").stdout)["problems"]


def test_verify_through_a_server_is_refused_with_what_would_be_right(program: Program) -> None:
    done = program("verify", "--url", "http://127.0.0.1:1")
    assert done.returncode == 2
    assert b"give a redis:// or unix:// URL" in done.stderr


def _doctor(program: Program, *args: str, **variables: str) -> tuple[int, dict[str, dict[str, str]]]:
    done = program("doctor", "-o", "json", *args, **variables)
    return done.returncode, {check["name"]: check for check in map(json.loads, done.stdout.splitlines())}


def test_doctor_says_what_is_right_and_what_is_not(program: Program) -> None:
    code, checks = _doctor(program)
    assert code == 0
    assert checks["redis"]["status"] == "ok"
    # The server of the tests has no append-only file.
    assert (checks["redis persistence"]["status"], checks["redis persistence"]["advice"] != "") == ("warn", True)
    assert checks["redis memory"]["found"].startswith("maxmemory-policy noeviction")
    text = program("doctor").stdout.decode()
    assert "warn  redis persistence  nothing is kept on disk" in text
    assert "→ set appendonly yes" in text


def test_doctor_says_which_setting_makes_no_sense(program: Program) -> None:
    code, checks = _doctor(program, EVENTLOG_MAX_ENTRIES="0")
    assert (code, checks["settings"]["status"]) == (0, "warn")
    assert checks["settings"]["found"].startswith("EVENTLOG_MAX_ENTRIES: 0 is not from 1 to 100000000")


def test_doctor_fails_where_keys_would_be_evicted(program: Program) -> None:
    with RedisProcess("--maxmemory", "50mb", "--maxmemory-policy", "allkeys-lru") as server:
        code, checks = _doctor(program, "--url", server.url)
    assert code == 1
    assert checks["redis memory"]["status"] == "fail"
    assert checks["redis persistence"]["status"] == "ok"


def test_doctor_tells_of_a_redis_that_is_away_without_its_password(program: Program) -> None:
    code, checks = _doctor(program, "--url", "redis://me:secret@127.0.0.1:1/0")
    assert code == 1
    assert checks["redis"]["status"] == "fail"
    assert "secret" not in str(checks)


def test_doctor_starts_the_embedded_redis_and_leaves_none_behind(program: Program, tmp_path: Path) -> None:
    code, checks = _doctor(program, "--data-dir", str(tmp_path / "d"))
    assert code == 0
    assert checks["embedded redis"]["found"].endswith("and stops again")
    assert checks["redis persistence"]["found"].startswith("append-only file, appendfsync everysec")
    assert not (tmp_path / "d" / "redis.sock").exists()


def test_doctor_tells_of_a_data_directory_that_cannot_be_used(program: Program, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    code, checks = _doctor(program, "--data-dir", str(tmp_path / "file"))
    assert code == 1
    assert checks["data directory"]["status"] == "fail"


def test_what_a_log_keeps_is_shown_and_changed(here: Here, filled: EventLog) -> None:
    assert here("log", "retention").stdout == b"ttl_seconds  3600\nmax_entries  10000\n"
    changed = here("log", "retention", "--max-entries", "2", "-o", "json")
    assert json.loads(changed.stdout) == {"ttl_seconds": 3600.0, "max_entries": 2}
    assert [event.offset for event in filled.query()] == [5, 6]
    assert here("log", "retention", "--ttl-seconds", "60.5").stdout == b"ttl_seconds  60.5\nmax_entries  2\n"
    refused = here("log", "retention", "--max-entries", "0")
    assert refused.returncode != 0
    assert b"max_entries" in refused.stderr

"""A real test suite run by `eventlog exec`, as people see it: on the command line and over HTTP, from either side."""

import json
import sys
import textwrap
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.redis_process import RedisProcess

from .program import PATIENCE_S, Program
from .serving import Server, serving

# One process of the tests has them all, so there is one server.
pytestmark = pytest.mark.xdist_group("exec_shown")

SUITE = """
    import time

    def test_that_takes_its_time():
        held = bytearray(30 * 1024 * 1024)
        time.sleep(0.4)
        assert len(held)

    def test_that_fails_at_first(tmp_path_factory):
        from pathlib import Path
        seen = Path(__file__).with_name("seen")
        known = seen.exists()
        seen.touch()
        assert known, "never seen before"
"""


@pytest.fixture(scope="module")
def variables(redis_server: RedisProcess) -> dict[str, str]:
    """One key prefix for the module: the server serves it; every test has a workspace."""
    return {"EVENTLOG_REDIS_URL": redis_server.url, "EVENTLOG_KEY_PREFIX": f"t{uuid.uuid4().hex[:12]}"}


@pytest.fixture(scope="module")
def server(variables: dict[str, str]) -> Iterator[Server]:
    with serving(Program(variables)) as running:
        yield running


@pytest.fixture(params=["straight on Redis", "through a server"])
def program(request: pytest.FixtureRequest, variables: dict[str, str], server: Server) -> Program:
    """The command line on one side or the other; the server sees the same log."""
    where = variables if request.param == "straight on Redis" else {"EVENTLOG_URL": server.url}
    # The suite that is run needs none of the plugins that happen to be installed, some of which take seconds to load.
    alone = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    return Program({**where, **alone, "EVENTLOG_WORKSPACE": f"w{uuid.uuid4().hex[:12]}"})


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    """A suite of two tests, one of which fails when it is run for the first time."""
    (tmp_path / "test_things.py").write_text(textwrap.dedent(SUITE))
    return tmp_path


class Api:
    """The workspace of `program` over HTTP."""

    def __init__(self, server: Server, program: Program) -> None:
        self._base = f"{server.url}/v1/workspaces/{program.environ['EVENTLOG_WORKSPACE']}"

    def get(self, path: str, **params: str) -> Any:
        """The JSON at a path below the workspace."""
        answer = httpx.get(f"{self._base}{path}", params=params, trust_env=False, timeout=PATIENCE_S)
        assert answer.status_code == 200, answer.text
        return answer.json()


@pytest.fixture
def api(server: Server, program: Program) -> Api:
    return Api(server, program)


def _said(program: Program, *args: str) -> list[Any]:
    """What a command prints as JSON, an object a line."""
    done = program(*args, "-o", "json")
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def _pytest(suite: Path) -> list[str]:
    return [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", "/dev/null", str(suite)]


def test_a_suite_s_stages_lines_samples_and_exit_code_are_there_for_all_to_see(
    program: Program, api: Api, suite: Path
) -> None:
    options = ["--run", "r1", "--stage", "test", "--depends-on", "setup", "--sample-interval", "0.1"]
    command = ["exec", "--action", "test", "--max-concurrent", "1", *options, "--", *_pytest(suite)]
    first = program(*command)
    assert first.returncode == 1, first.stderr
    assert b"1 failed, 1 passed" in first.stdout

    [view] = _said(program, "runs", "stages", "r1")
    assert (view["stage_name"], view["status"], view["exit_code"]) == ("test", "failed", 1)
    assert view["depends_on"] == ["setup"]
    assert view["stage_attempt"] == 1
    assert view["duration_ms"] > 400
    assert view["queued_at"] <= view["started_at"] < view["completed_at"]
    assert api.get("/runs/r1/stages") == {"run_id": "r1", "stages": [view]}

    [summary] = _said(program, "runs", "ls")
    assert (summary["run_id"], summary["status"]) == ("r1", "failed")
    assert api.get("/runs")["runs"] == [summary]
    assert api.get("/runs/r1") == summary

    lines = [
        event["payload"]["line"] for event in _said(program, "runs", "replay", "r1") if event["kind"] == "exec.output"
    ]
    assert lines == first.stdout.decode().splitlines()
    replayed = api.get("/runs/r1/events", kind="exec.output", limit="1000")["events"]
    assert [event["payload"]["line"] for event in replayed] == lines

    samples = _said(program, "runs", "telemetry", "r1", "--stage", "test")
    assert max(sample["host"].get("rss_bytes", 0) for sample in samples) > 30 * 1024 * 1024
    assert api.get("/runs/r1/telemetry", stage_name="test")["samples"] == samples

    shown = program("runs", "show", "r1")
    assert shown.returncode == 0, shown.stderr
    assert {"r1", "test", "failed", "setup"} <= set(shown.stdout.decode().split())


def test_a_run_of_several_stages_and_a_suite_that_is_run_again(program: Program, api: Api, suite: Path) -> None:
    stage = ["exec", "--action", "ci", "--no-limit", "--run", "r1", "--stage-only"]
    assert program("append", "run.started", "--run", "r1").returncode == 0
    compiling = [sys.executable, "-m", "compileall", "-q", str(suite)]
    assert program(*stage, "--stage", "compile", "--", *compiling).returncode == 0
    testing = ["--stage", "test", "--depends-on", "compile", "--retries", "2", "--sample-interval", "0.1"]
    assert program(*stage, *testing, "--", *_pytest(suite)).returncode == 0
    assert program("append", "run.finished", "--run", "r1").returncode == 0

    views = api.get("/runs/r1/stages")["stages"]
    assert views == _said(program, "runs", "stages", "r1")
    told = [(view["stage_name"], view["status"], view["stage_attempt"], view["exit_code"]) for view in views]
    assert told == [("compile", "succeeded", 1, 0), ("test", "succeeded", 2, 0)]
    assert views[1]["depends_on"] == ["compile"]
    assert api.get("/runs/r1")["status"] == "finished"
    samples = api.get("/runs/r1/telemetry")["samples"]
    assert {sample["stage_name"] for sample in samples} == {"compile", "test"}
    assert [sample["seq"] for sample in samples] == list(range(1, len(samples) + 1))

"""Stages told by blocks of work, on every log: true attempt numbers, ends, and what is shown of them."""

import asyncio
import json
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from eventlog import Event
from eventlog.model import Body
from eventlog.runs.fold import StageView, fold_stages
from eventlog.runs.stages import StageHandle, astage, stage, stage_queued, stage_skipped
from tests.contract.colours import AsyncColour, Colour, SyncColour
from tests.contract.worlds import RedisWorld, World

ROOT = Path(__file__).parents[2]
Work = Callable[[StageHandle], object]


def perform(log: Colour, name: str, work: Work = lambda handle: None, *, run_id: str = "r1", **options: object) -> None:
    """Carry out `work` as a stage of the run, in the colour of the log."""
    if isinstance(log, SyncColour):
        with stage(log.log, name, run_id=run_id, **options) as handle:  # type: ignore[arg-type]
            work(handle)
    else:
        assert isinstance(log, AsyncColour)
        raised = log.wait_for(_perform(log, name, work, run_id, options))
        if raised is not None:
            raise raised


async def _perform(
    log: AsyncColour, name: str, work: Work, run_id: str, options: dict[str, object]
) -> BaseException | None:
    # An exit or an interrupt that left the task would end the event loop of the colour.
    try:
        async with astage(log.log, name, run_id=run_id, **options) as handle:  # type: ignore[arg-type]
            work(handle)
    except BaseException as error:
        return error
    return None


def events(log: Colour, run_id: str = "r1") -> list[Event]:
    return log.query(run_id=run_id, kind="stage.*")


def story(log: Colour, run_id: str = "r1") -> list[tuple[str, int | None]]:
    return [(event.kind.removeprefix("stage."), event.payload.get("stage_attempt")) for event in events(log, run_id)]


def view(log: Colour, run_id: str = "r1") -> StageView:
    (only,) = fold_stages(events(log, run_id))
    return only


def fails(handle: StageHandle) -> None:
    raise ValueError(f"attempt {handle.attempt} went wrong")


def exits(code: object) -> Work:
    def work(_: StageHandle) -> None:
        sys.exit(code)  # type: ignore[arg-type]

    return work


def test_a_block_that_ends_well_has_started_and_succeeded(log: Colour) -> None:
    perform(log, "build", lane_id="l1", group_id="g2", depends_on=["fetch"], source="ci")
    started, succeeded = events(log)
    for event in (started, succeeded):
        assert (event.stage_name, event.group_id, event.lane_id, event.source) == ("build", "g2", "l1", "ci")
    assert started.payload["depends_on"] == ["fetch"]
    seen = view(log)
    assert (seen.status, seen.stage_attempt, seen.depends_on, seen.group_id) == ("succeeded", 1, ["fetch"], "g2")
    assert seen.duration_ms is not None
    assert seen.duration_ms >= 0
    assert seen.started_at == started.timestamp
    assert seen.completed_at == succeeded.timestamp


def test_what_a_block_raises_is_told_and_goes_on(log: Colour) -> None:
    with pytest.raises(ValueError, match="attempt 1 went wrong"):
        perform(log, "build", fails)
    seen = view(log)
    assert (seen.status, seen.error, seen.reason) == ("failed", "ValueError: attempt 1 went wrong", None)


def test_every_try_is_an_attempt_of_its_own_with_one_start(log: Colour) -> None:
    for _ in range(2):
        with pytest.raises(ValueError, match="went wrong"):
            perform(log, "build", fails)
    perform(log, "build")
    assert story(log) == [
        *(("started", 1), ("failed", 1)),
        *(("started", 2), ("failed", 2)),
        *(("started", 3), ("succeeded", 3)),
    ]
    assert (view(log).status, view(log).stage_attempt, view(log).error) == ("succeeded", 3, None)


def test_attempts_count_for_each_stage_of_each_run_apart(log: Colour) -> None:
    perform(log, "build", run_id="r1")
    perform(log, "build", run_id="r2")
    perform(log, "Build", run_id="r1")
    perform(log, "bau ✓", run_id="r1")
    assert {event.payload["stage_attempt"] for event in log.query(kind="stage.*")} == {1}


def test_an_attempt_counts_on_from_the_number_that_anybody_told(log: Colour) -> None:
    log.append("stage.started", {"stage_attempt": 7}, run_id="r1", stage_name="build")
    perform(log, "build")
    assert story(log)[-2:] == [("started", 8), ("succeeded", 8)]


def test_an_attempt_counts_on_from_an_end_whose_start_is_gone(world: World) -> None:
    log = world.open(max_entries=120)
    log.append("stage.started", {"stage_attempt": 4}, run_id="r1", stage_name="build")
    log.append_many([{"kind": "filler", "run_id": "r1"}] * 119)
    log.append("stage.failed", {"stage_attempt": 4}, run_id="r1", stage_name="build")
    log.append_many([{"kind": "filler", "run_id": "r1"}] * 5)
    assert story(log) == [("failed", 4)]
    perform(log, "build")
    assert story(log)[-2:] == [("started", 5), ("succeeded", 5)]


def test_an_attempt_whose_every_event_was_trimmed_is_still_remembered_by_its_key(world: World) -> None:
    log = world.open(max_entries=120)
    perform(log, "build")
    log.append_many([{"kind": "filler"}] * 150)
    assert events(log) == []
    perform(log, "build")
    assert [attempt for kind, attempt in story(log)] == [2, 2]


def test_attempts_are_found_behind_more_events_than_a_page_looks_at(world: World) -> None:
    log = world.open()
    perform(log, "build")
    log.append_many([{"kind": "stage.started", "run_id": "r1", "stage_name": "other"}] * 4500)
    perform(log, "build")
    assert log.query(stage_name="build")[-1].payload["stage_attempt"] == 2


@pytest.mark.parametrize("said", [{}, {"stage_attempt": "3"}, {"stage_attempt": True}, {"stage_attempt": 10**12}])
def test_a_start_without_a_number_counts_as_one(log: Colour, said: dict[str, object]) -> None:
    log.append("stage.started", said, run_id="r1", stage_name="build")
    perform(log, "build")
    assert events(log)[-1].payload["stage_attempt"] == 2


def test_a_stage_that_was_skipped_begins_with_another_attempt(log: Colour) -> None:
    log.append_many([stage_queued("build", run_id="r1"), stage_skipped("build", run_id="r1", reason="not needed")])
    assert (view(log).status, view(log).reason) == ("skipped", "not needed")
    perform(log, "build")
    assert (view(log).status, view(log).stage_attempt) == ("succeeded", 2)


def test_a_stage_may_be_queued_first(log: Colour) -> None:
    perform(log, "build", queued=True, depends_on=["a"])
    assert [kind for kind, _ in story(log)] == ["queued", "started", "succeeded"]
    assert view(log).queued_at is not None


def test_the_handle_says_how_it_ended(log: Colour) -> None:
    perform(log, "a", lambda handle: handle.fail("flaky"))
    perform(log, "b", lambda handle: handle.skip("nothing to do"))
    perform(log, "c", lambda handle: handle.set(exit_code=0))
    perform(log, "d", lambda handle: handle.set(exit_code=3))
    seen = {each.stage_name: (each.status, each.reason, each.exit_code) for each in fold_stages(events(log))}
    assert seen == {
        "a": ("failed", "flaky", None),
        "b": ("skipped", "nothing to do", None),
        "c": ("succeeded", None, 0),
        "d": ("failed", None, 3),
    }


@pytest.mark.parametrize(
    ("code", "status", "exit_code"),
    [(0, "succeeded", 0), (None, "succeeded", 0), (4, "failed", 4), ("no such file", "failed", 1)],
)
def test_what_a_block_exits_with_is_its_exit_code(log: Colour, code: object, status: str, exit_code: int) -> None:
    with pytest.raises(SystemExit):
        perform(log, "build", exits(code))
    assert (view(log).status, view(log).exit_code) == (status, exit_code)


def test_the_exit_code_of_a_command_that_failed_is_told(log: Colour) -> None:
    def work(_: StageHandle) -> None:
        subprocess.run([sys.executable, "-c", "raise SystemExit(5)"], check=True)

    with pytest.raises(subprocess.CalledProcessError):
        perform(log, "build", work)
    assert (view(log).status, view(log).exit_code) == ("failed", 5)
    assert str(view(log).error).startswith("CalledProcessError: Command ")


@pytest.mark.parametrize("error", [KeyboardInterrupt, asyncio.CancelledError, GeneratorExit])
def test_an_interrupt_is_a_failure_by_cancellation_and_goes_on(log: Colour, error: type[BaseException]) -> None:
    def work(_: StageHandle) -> None:
        raise error

    with pytest.raises(error):
        perform(log, "build", work)
    assert (view(log).status, view(log).reason, view(log).error) == ("failed", "cancelled", error.__name__)


def test_a_block_that_is_entered_again_is_the_next_attempt(log: Colour) -> None:
    if isinstance(log, SyncColour):
        block = stage(log.log, "build", run_id="r1")
        for _ in range(3):
            with block:
                pass
    else:
        assert isinstance(log, AsyncColour)

        async def thrice(log: AsyncColour) -> None:
            block = astage(log.log, "build", run_id="r1")
            for _ in range(3):
                async with block:
                    pass

        log.wait_for(thrice(log))
    assert story(log) == [(kind, n) for n in (1, 2, 3) for kind in ("started", "succeeded")]


@pytest.mark.waits
def test_threads_that_start_one_stage_at_once_have_an_attempt_each(log: Colour) -> None:
    start = threading.Barrier(8)

    def work(_: int) -> None:
        start.wait(20)
        perform(log, "build")

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    for kind in ("started", "succeeded"):
        assert sorted(attempt or 0 for told, attempt in story(log) if told == kind) == list(range(1, 9))
    starts = [attempt for told, attempt in story(log) if told == "started"]
    assert starts == list(range(1, 9))


CHILD = """
import sys
from eventlog import create_event_log
from eventlog.runs.stages import stage

with create_event_log("redis", url=sys.argv[1], key_prefix=sys.argv[2], workspace="w") as log:
    log.info()
    print("ready", flush=True)
    sys.stdin.readline()
    with stage(log, "build", run_id="r1", source=sys.argv[3]) as handle:
        print(handle.attempt, flush=True)
        if "hang" in sys.argv:
            sys.stdin.readline()
"""


def start_child(world: RedisWorld, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", CHILD, world.url, world.key_prefix, *arguments],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def told_by(child: subprocess.Popen[str]) -> str:
    assert child.stdout is not None
    return child.stdout.readline().strip()


def tell(child: subprocess.Popen[str]) -> None:
    assert child.stdin is not None
    child.stdin.write("go\n")
    child.stdin.flush()


def test_an_attempt_counts_on_from_a_process_that_was_killed_in_it(redis_world: RedisWorld) -> None:
    log = redis_world.open()
    with start_child(redis_world, "p", "hang") as child:
        assert told_by(child) == "ready"
        tell(child)
        assert told_by(child) == "1"
        child.kill()
    assert (view(log).status, view(log).stage_attempt) == ("running", 1)
    perform(log, "build")
    assert (view(log).status, view(log).stage_attempt) == ("succeeded", 2)


def test_processes_that_start_one_stage_at_once_have_an_attempt_each(redis_world: RedisWorld) -> None:
    log = redis_world.open()
    children = [start_child(redis_world, f"p{number}") for number in range(8)]
    try:
        for child in children:
            assert told_by(child) == "ready"
        for child in children:
            tell(child)
        answers = [int(child.communicate(timeout=60)[0]) for child in children]
    finally:
        for child in children:
            child.kill()
            child.communicate()
    assert sorted(answers) == list(range(1, 9))
    starts = [event for event in events(log) if event.kind == "stage.started"]
    assert [event.payload["stage_attempt"] for event in starts] == list(range(1, 9))
    assert {(f"p{n}", attempt) for n, attempt in enumerate(answers)} == {
        (event.source, event.payload["stage_attempt"]) for event in starts
    }
    assert (view(log).status, view(log).stage_attempt) == ("succeeded", 8)


def test_stages_are_told_beside_those_whose_events_were_built_by_hand(log: Colour) -> None:
    log.append_many([stage_queued("a", run_id="r1"), stage_queued("b", run_id="r1", depends_on=["a"])])
    perform(log, "a")
    log.append("run.cancelled", run_id="r1")
    done, skipped = fold_stages(log.query(run_id="r1"))
    assert (done.stage_name, done.status) == ("a", "succeeded")
    assert (skipped.stage_name, skipped.status, skipped.reason) == ("b", "skipped", "run cancelled")


def test_a_view_from_the_log_is_the_same_after_its_events_have_travelled(log: Colour) -> None:
    perform(log, "build", lambda handle: handle.set(exit_code=1))
    travelled = [Event.from_dict(json.loads(event.to_json())) for event in events(log)]
    assert fold_stages(travelled) == fold_stages(events(log))


def test_a_body_built_by_hand_may_be_appended_with_others(log: Colour) -> None:
    log.append_many([Body.of("run.started", {}, run_id="r1"), stage_queued("a", run_id="r1", reason="no slot")])
    assert (view(log).status, view(log).reason) == ("queued", "no slot")

"""What an execution is asked to do. Pure."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from ..model.events import DEFAULT_LANE


class Task(NamedTuple):
    """What is to be done. `whole_run` is False where the caller records how the run begins and ends.

    A command that fails is started again up to `retries` times, each time under a new slot. `environ` is what it is
    started with (None: our own), beside the variables that describe its execution.
    """

    command: Sequence[str]
    action: str
    execution_id: str
    run_id: str
    stage_name: str
    group_key: str | None = None
    ends_when_lost: bool = True
    grace_s: float = 5.0
    whole_run: bool = True
    record_output: bool = True
    source: str = "exec"
    lane_id: str = DEFAULT_LANE
    stage_group: str = "g0"
    depends_on: Sequence[str] = ()
    max_concurrent: int | None = None
    retries: int = 0
    environ: Mapping[str, str] | None = None

"""Numbers out of bounds are named wherever they are given, whatever they are."""

from collections.abc import Callable
from typing import Any

import pytest

from eventlog import EventBus, EventDispatcher, EventLog, create_event_log
from eventlog.errors import InvalidInput

GIVEN: dict[str, Callable[[EventLog, Any], object]] = {
    "limit": lambda log, given: log.query(limit=given),
    "since_seq": lambda log, given: log.query(since_seq=given),
    "since_time": lambda log, given: log.query(since_time=given),
    "expected_offset": lambda log, given: log.append("a", expected_offset=given),
    "from_seq": lambda log, given: log.telemetry("r", from_seq=given),
    "max_history": lambda log, given: EventBus(max_history=given),
    "max_workers": lambda log, given: EventDispatcher(print, max_workers=given),
    "drain_timeout_s": lambda log, given: EventDispatcher(print, drain_timeout_s=given),
}


OUT: dict[str, object] = {
    "negative": -1,
    "huge": 10**5000,
    "huge and negative": -(10**5000),
    "a flag": True,
    "text": "7",
    "bytes": b"7",
    "nan": float("nan"),
    "infinite": float("inf"),
    "a list": [1],
}


@pytest.mark.parametrize("given", OUT.values(), ids=OUT)
@pytest.mark.parametrize("field", GIVEN)
def test_a_number_out_of_bounds_is_named(field: str, given: object) -> None:
    with create_event_log("memory") as log, pytest.raises(InvalidInput) as refused:
        GIVEN[field](log, given)
    assert refused.value.field == field
    assert len(str(refused.value)) < 300

"""Appends for those who must not block: gathered, sent in order, and each with an answer of its own."""

import pytest

from eventlog.bus.emitter import Emitter
from eventlog.errors import PayloadTooLarge
from eventlog.log import DirectLog
from eventlog.log.limits import LogLimits
from eventlog.log.memory import MemoryBackend
from eventlog.model import Body
from eventlog.model.retention import Retention
from eventlog.plan.threads import Flag


def test_a_batch_that_the_log_finds_too_large_is_sent_in_parts_and_costs_only_what_is_too_large_itself() -> None:
    limits = LogLimits(batch_max_events=4, batch_max_bytes=100)
    log = DirectLog(MemoryBackend(Retention.of()), workspace="w", limits=limits)
    gate = Flag()
    emitter = Emitter(log, gate)
    bodies = [Body.of("a", {"n": n, "text": "x" * 200 if n == 6 else ""}) for n in range(20)]
    futures = [emitter.submit(body) for body in bodies]
    gate.set()
    for n, future in enumerate(futures):
        if n == 6:
            with pytest.raises(PayloadTooLarge):
                future.result(20)
        else:
            assert future.result(20).payload["n"] == n
    assert [event.payload["n"] for event in log.query()] == [n for n in range(20) if n != 6]
    emitter.close()
    log.close()

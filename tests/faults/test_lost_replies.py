"""A reply that was lost, at any point and any number of times, never doubles or loses an append."""

import itertools

import pytest

from eventlog.errors import Conflict
from tests.faults.opening import open_log
from tests.faults.proxy import CUTS, ChaosProxy, Fault
from tests.support.redis_process import RedisProcess, eventually


def test_eleven_lost_replies_make_one_entry(proxy: ChaosProxy) -> None:
    with open_log(proxy.url) as log:
        proxy.plan(*[Fault.REPLY_LOST] * 11)
        assert log.append("a").offset == 1
        assert proxy.struck[Fault.REPLY_LOST] == 11
        assert [e.offset for e in log.query()] == [1]


@pytest.mark.parametrize("faults", list(itertools.product(CUTS, CUTS)), ids=lambda fs: "+".join(f.name for f in fs))
def test_any_two_faults_in_a_row_make_one_entry_each(proxy: ChaosProxy, faults: tuple[Fault, ...]) -> None:
    with open_log(proxy.url) as log:
        proxy.plan(*faults)
        assert log.append("a", run_id="r").seq == 1
        proxy.plan(*faults)
        assert [e.offset for e in log.append_many([{"kind": "b", "run_id": "r"}] * 30)] == list(range(2, 32))
        proxy.plan(*faults)
        keyed = log.append("c", idempotency_key="k", run_id="r")
        assert (keyed.offset, keyed.seq, keyed.duplicate) == (32, 32, False)
        proxy.plan(*faults)
        again = log.append("c", idempotency_key="k", run_id="r")
        assert (again.offset, again.seq, again.duplicate) == (32, 32, True)
        proxy.plan(*faults)
        assert log.append("d", expected_offset=32).offset == 33
        proxy.plan(*faults)
        with pytest.raises(Conflict) as caught:
            log.append("e", expected_offset=32)
        assert caught.value.last_offset == 33
        assert log.info().last_offset == 33
        assert log.verify().clean


def test_a_request_that_arrives_after_its_retry_is_not_carried_out_again(proxy: ChaosProxy) -> None:
    with open_log(proxy.url) as log:
        proxy.plan(Fault.HELD)
        assert log.append("a").offset == 1
        proxy.release()
        assert log.append("b").offset == 2
        assert [e.kind for e in log.query()] == ["a", "b"]


def test_a_request_that_arrives_after_later_appends_is_refused(own_server: RedisProcess, proxy: ChaosProxy) -> None:
    with open_log(proxy.url) as log, own_server.client() as redis:
        proxy.plan(Fault.HELD, Fault.HELD)
        log.append("a")
        log.append_many([{"kind": "b"}] * 10)
        calls = _script_calls(redis)
        proxy.release()
        eventually(lambda: _script_calls(redis) >= calls + 2, "the late requests were carried out")
        assert log.append("c").offset == 12
        assert log.verify().clean


def test_a_conflict_that_was_told_does_not_turn_into_an_append_later(
    own_server: RedisProcess, proxy: ChaosProxy
) -> None:
    with open_log(proxy.url) as log, open_log(own_server.url) as other, own_server.client() as redis:
        proxy.plan(Fault.HELD)
        with pytest.raises(Conflict):
            log.append("a", expected_offset=1)
        other.append("b")
        calls = _script_calls(redis)
        proxy.release()
        eventually(lambda: _script_calls(redis) > calls, "the late request was carried out")
        assert [e.kind for e in other.query()] == ["b"]


def test_a_clear_that_arrives_after_its_retry_removes_nothing_that_came_since(
    own_server: RedisProcess, proxy: ChaosProxy
) -> None:
    with open_log(proxy.url) as log, own_server.client() as redis:
        log.append_many([{"kind": "a"}] * 3)
        proxy.plan(Fault.HELD)
        assert log.clear() == 3
        assert log.append("b").offset == 4
        calls = _script_calls(redis)
        proxy.release()
        eventually(lambda: _script_calls(redis) > calls, "the late request was carried out")
        assert [e.kind for e in log.query()] == ["b"]


@pytest.mark.parametrize("fault", CUTS, ids=lambda f: f.name)
def test_a_clear_whose_reply_was_lost_says_how_many_it_removed(proxy: ChaosProxy, fault: Fault) -> None:
    with open_log(proxy.url) as log:
        log.append_many([{"kind": "a"}] * 3)
        proxy.plan(fault)
        assert log.clear() == 3
        assert log.info().length == 0
        assert log.append("b").offset == 4


def _script_calls(redis: object) -> int:
    stats = redis.info("commandstats")  # type: ignore[attr-defined]
    return sum(stats.get(f"cmdstat_{name}", {}).get("calls", 0) for name in ("eval", "evalsha"))

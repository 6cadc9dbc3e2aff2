"""The one line that tells a person what an event says."""

from typing import Any

import pytest
from eventlog_server.summary import LONGEST, summarize
from hypothesis import given
from hypothesis import strategies as st

from eventlog.model.events import Body, Event


def told(kind: str, payload: dict[str, Any] | None = None, **parts: Any) -> str:
    return summarize(Event(1_763_720_000_123, 41, Body.of(kind, payload, **parts), 1))


@pytest.mark.parametrize(
    ("event", "line"),
    [
        (("a.b", {}), "a.b"),
        (("a.b", {"x": [1, "é"]}), 'a.b {"x":[1,"é"]}'),
        (("run.started", {}, {"run_id": "r1"}), "run r1 started"),
        (("run.finished", {"duration_ms": 2500}, {"run_id": "r1"}), "run r1 finished in 2.5 s"),
        (("run.failed", {"exit_code": 2}, {"run_id": "r1"}), "run r1 failed: exit code 2"),
        (("run.cancelled", {"reason": "by hand"}), "run ? was cancelled: by hand"),
        (
            (
                "stage.failed",
                {"stage_attempt": 2, "error": "no", "duration_ms": 4},
                {"stage_name": "s", "run_id": "r"},
            ),
            "stage s of run r failed (attempt 2): no in 4 ms",
        ),
        (("stage.queued", {}, {"stage_name": "s", "run_id": "r"}), "stage s of run r is queued"),
        (
            ("stage.queued", {"depends_on": ["fetch", "build\n"], "stage_attempt": 2}, {"stage_name": "s"}),
            "stage s is queued (attempt 2), after fetch, build\\n",
        ),
        (("stage.queued", {"depends_on": "fetch"}, {"stage_name": "s"}), "stage s is queued"),
        (("stage.completed", {"duration_ms": 40}, {"stage_name": "s"}), "stage s succeeded in 40 ms"),
        (("stage.completed", {"exit_code": 3}, {"stage_name": "s"}), "stage s failed: exit code 3"),
        (("stage.completed", {"success": False}, {"stage_name": "s"}), "stage s failed"),
        (("stage.completed", {"status": "skipped"}, {"stage_name": "s"}), "stage s was skipped"),
        (("stage.completed", {}), "stage ? succeeded"),
        (("stage.skipped", {"reason": "run cancelled"}, {"stage_name": "s"}), "stage s was skipped: run cancelled"),
        (("run.queued", {}, {"run_id": "r"}), "run r is queued"),
        (("tool.invoked", {"tool": "search", "query": "x"}), "invoked search x"),
        (("tool.invoked", {"tool": "search", "arguments": {"q": 1}}), 'invoked search {"q":1}'),
        (("tool.invoked", {}), "invoked a tool"),
        (("turn.started", {"turn": 3}), "turn 3 started"),
        (("slot.queued", {"action": "build", "execution_id": "e1", "position": 2}), "e1 queues for build, position 2"),
        (
            ("slot.granted", {"action": "a", "group": "g", "execution_id": "e1", "waited_ms": 1500}),
            "e1 has a slot of a/g after 1.5 s",
        ),
        (("slot.granted", {"action": "a", "execution_id": "e1", "waited_ms": 0}), "e1 has a slot of a"),
        (
            ("slot.expired", {"action": "a", "execution_id": "e1", "held_ms": 40, "reason": "lease"}),
            "e1 was dropped from a after 40 ms: lease",
        ),
        (("slot.cleared", {"action": "a", "holders": 1, "waiters": 0}), "everybody was taken out of a"),
        (
            ("log.line", {"text": "x"}, {"run_id": "r", "stage_name": "build"}),
            'log.line stage build run r {"text":"x"}',
        ),
        (("tool.invoked", {"tool": "\x1b[31mred\n"}), "invoked \\x1b[31mred\\n"),
        (("a", {"x": "\u202eevil\u2028"}), 'a {"x":"\\u202eevil\\u2028"}'),
    ],
)
def test_an_event_is_told_in_words(event: tuple[Any, ...], line: str) -> None:
    kind, payload, *parts = event
    assert told(kind, payload, **(parts[0] if parts else {})) == line


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=200),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["a", "error"]), inner, max_size=4),
    max_leaves=8,
)  # fmt: skip
NAMES = (
    "action",
    "group",
    "execution_id",
    "waited_ms",
    "held_ms",
    "position",
    "tool",
    "name",
    "query",
    "error",
    "reason",
    "duration_ms",
    "exit_code",
    "stage_attempt",
    "turn",
    "arguments",
    "depends_on",
    "status",
    "success",
)


@given(
    st.sampled_from(
        [
            "a.b",
            "run.failed",
            "run.finished",
            "stage.failed",
            "stage.queued",
            "stage.completed",
            "tool.invoked",
            "tool.failed",
            "turn.started",
            "slot.granted",
        ]
    ),
    st.dictionaries(st.sampled_from(NAMES), ANYTHING),
)
def test_a_line_is_bounded_and_printable_whatever_the_payload(kind: str, payload: dict[str, Any]) -> None:
    line = told(kind, payload)
    assert 0 < len(line) <= LONGEST
    assert "\n" not in line
    assert not any(ord(char) < 0x20 or 0x7F <= ord(char) < 0xA0 for char in line)


def test_a_large_payload_is_cut_with_an_ellipsis() -> None:
    line = told("a", {"x": "é" * 30_000})
    assert len(line) == LONGEST
    assert line.endswith("…")

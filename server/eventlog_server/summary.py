"""One line of text for people about an event. Pure.

A line never holds control characters or terminal escapes, whatever the payload holds, and is bounded.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

import orjson

from eventlog.model.events import Event
from eventlog.runs.fold import fold_stages

LONGEST = 160
_LONGEST_VALUE = 80
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff]")


def summarize(event: Event) -> str:
    """At most `LONGEST` characters on one line, e.g. "run r1 failed: exit code 2"."""
    phrase = _PHRASES.get(event.kind)
    return _bounded(_plain(event) if phrase is None else phrase(event, event.payload), LONGEST)


def _bounded(text: str, longest: int) -> str:
    # Cut first: escaping makes text longer, and a payload may be large.
    clean = _CONTROL.sub(_escaped, text[: longest + 1])
    return clean if len(clean) <= longest else clean[: longest - 1] + "…"


def _escaped(match: re.Match[str]) -> str:
    code = ord(match[0])
    names = {0x0A: "\\n", 0x0D: "\\r", 0x09: "\\t"}
    return names.get(code) or (f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}")


def _plain(event: Event) -> str:
    where = "".join(
        f" {name} {value}" for name, value in (("stage", event.stage_name), ("run", event.run_id)) if value is not None
    )
    # A piece of the encoded payload will do; no character takes more than four bytes.
    compact = event.payload_json[: 4 * LONGEST + 4].decode(errors="ignore")
    return event.kind + where + (f" {compact}" if compact != "{}" else "")


def _shown(value: object) -> str:
    if isinstance(value, str):
        return _bounded(value, _LONGEST_VALUE)
    return _bounded(orjson.dumps(value).decode(), _LONGEST_VALUE)


def _first(payload: Mapping[str, Any], *names: str) -> str | None:
    """The first of these that the payload has a value for."""
    for name in names:
        if payload.get(name) not in (None, "", [], {}):
            return _shown(payload[name])
    return None


def _run(verb: str) -> Callable[[Event, Mapping[str, Any]], str]:
    def phrase(event: Event, payload: Mapping[str, Any]) -> str:
        return f"run {event.run_id or '?'} {verb}" + _reason(payload) + _took(payload)

    return phrase


def _stage(verb: str) -> Callable[[Event, Mapping[str, Any]], str]:
    def phrase(event: Event, payload: Mapping[str, Any]) -> str:
        attempt = payload.get("stage_attempt")
        again = f" (attempt {attempt})" if isinstance(attempt, int) and attempt > 1 else ""
        owner = f" of run {event.run_id}" if event.run_id else ""
        return f"stage {event.stage_name or '?'}{owner} {verb}{again}" + _reason(payload) + _took(payload)

    return phrase


def _stage_queued(event: Event, payload: Mapping[str, Any]) -> str:
    after = payload.get("depends_on")
    names = ", ".join(str(name) for name in after) if isinstance(after, list) else ""
    return _stage("is queued")(event, payload) + (f", after {_shown(names)}" if names else "")


def _stage_completed(event: Event, payload: Mapping[str, Any]) -> str:
    """An end as older producers report it: the payload has the status."""
    views = fold_stages([event])
    return _STAGE_ENDS[views[0].status if views else "succeeded"](event, payload)


def _reason(payload: Mapping[str, Any]) -> str:
    why = _first(payload, "error", "reason", "message")
    if why is None and isinstance(payload.get("exit_code"), int) and payload["exit_code"] != 0:
        why = f"exit code {payload['exit_code']}"
    return "" if why is None else f": {why}"


def _took(payload: Mapping[str, Any]) -> str:
    return _after(payload, "duration_ms", " in ")


def _after(payload: Mapping[str, Any], name: str, words: str) -> str:
    taken = payload.get(name)
    if isinstance(taken, bool) or not isinstance(taken, int | float) or not taken:
        return ""
    return f"{words}{taken / 1000:.1f} s" if taken >= 1000 else f"{words}{taken:.0f} ms"


def _slot(verb: str) -> Callable[[Event, Mapping[str, Any]], str]:
    def phrase(event: Event, payload: Mapping[str, Any]) -> str:
        queue = "/".join(_shown(payload[name]) for name in ("action", "group") if payload.get(name)) or "?"
        execution = _first(payload, "execution_id") or "everybody"
        place = _first(payload, "position")
        return (
            f"{execution} {verb} {queue}"
            + ("" if place is None else f", position {place}")
            + _after(payload, "waited_ms", " after ")
            + _after(payload, "held_ms", " after ")
            + _reason(payload)
        )

    return phrase


def _tool(verb: str) -> Callable[[Event, Mapping[str, Any]], str]:
    def phrase(event: Event, payload: Mapping[str, Any]) -> str:
        tool = _first(payload, "tool", "tool_name", "name") or "a tool"
        said = _first(payload, "arguments", "args", "input", "query", "command")
        return f"{verb} {tool}" + (f" {said}" if said is not None else "") + _reason(payload) + _took(payload)

    return phrase


def _turn(verb: str) -> Callable[[Event, Mapping[str, Any]], str]:
    def phrase(event: Event, payload: Mapping[str, Any]) -> str:
        number = _first(payload, "turn", "number")
        return f"turn {number} {verb}" if number is not None else f"turn {verb}"

    return phrase


_STAGE_ENDS = {"succeeded": _stage("succeeded"), "failed": _stage("failed"), "skipped": _stage("was skipped")}

_PHRASES: dict[str, Callable[[Event, Mapping[str, Any]], str]] = {
    "run.queued": _run("is queued"),
    "run.started": _run("started"),
    "run.finished": _run("finished"),
    "run.failed": _run("failed"),
    "run.error": _run("ended with an error"),
    "run.cancelled": _run("was cancelled"),
    "stage.queued": _stage_queued,
    "stage.started": _stage("started"),
    "stage.completed": _stage_completed,
    **{f"stage.{status}": phrase for status, phrase in _STAGE_ENDS.items()},
    "tool.invoked": _tool("invoked"),
    "tool.succeeded": _tool("done:"),
    "tool.completed": _tool("done:"),
    "tool.failed": _tool("failed:"),
    "slot.queued": _slot("queues for"),
    "slot.granted": _slot("has a slot of"),
    "slot.released": _slot("gave back its slot of"),
    "slot.cancelled": _slot("left the line of"),
    "slot.timed_out": _slot("waited too long for"),
    "slot.expired": _slot("was dropped from"),
    "slot.cleared": _slot("was taken out of"),
    "turn.started": _turn("started"),
    "turn.finished": _turn("finished"),
}

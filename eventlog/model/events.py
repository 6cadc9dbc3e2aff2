"""The event: what it is made of, its bounds, and its wire form. Pure.

A payload stays the JSON bytes it arrived as until somebody looks at it, so an event can travel from the
producer through Redis to a reader's socket without being parsed on the way.
"""

import math
import re
from collections.abc import Mapping
from typing import Any, NamedTuple, TypedDict

import orjson

from ..errors import InvalidInput, PayloadTooLarge
from .ids import MAX_COUNTER, EventId

TERMINAL_KINDS = frozenset({"run.finished", "run.failed", "run.error", "run.cancelled"})
STAGE_PREFIX = "stage."
VISIBILITIES = ("public", "internal", "private")
DEFAULT_LANE = "main"
DEFAULT_PAYLOAD_MAX_BYTES = 64 * 1024

KIND_PATTERN = r"[A-Za-z0-9_.:/-]{1,128}"
RUN_PATTERN = r"[A-Za-z0-9_.:-]{1,128}"
KEY_PATTERN = r"[\x21-\x7e]{1,256}"
_KIND = re.compile(KIND_PATTERN, re.ASCII)
_RUN = re.compile(RUN_PATTERN, re.ASCII)
_KEY = re.compile(KEY_PATTERN, re.ASCII)
_LABEL = re.compile(r"[^\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]{1,256}")
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}(-[\x21-\x7e]{1,64})?", re.ASCII)

_PLAIN = (None, None, None, None, "public", None, None)
_known_kinds: set[str] = set()
_KNOWN_KINDS_BOUND = 4096
_SMALL_BYTES = 400


class Body(NamedTuple):
    """All of an event but its place in a log. Immutable; built and checked by `Body.of`."""

    kind: str
    payload_json: bytes
    run_id: str | None = None
    lane_id: str | None = None
    stage_name: str | None = None
    group_id: str | None = None
    visibility: str = "public"
    source: str | None = None
    traceparent: str | None = None
    idempotency_key: str | None = None

    @classmethod
    def of(
        cls,
        kind: str,
        payload: Mapping[str, Any] | None = None,
        *,
        run_id: str | None = None,
        lane_id: str | None = None,
        stage_name: str | None = None,
        group_id: str | None = None,
        visibility: str = "public",
        source: str | None = None,
        traceparent: str | None = None,
        idempotency_key: str | None = None,
        payload_max_bytes: int = DEFAULT_PAYLOAD_MAX_BYTES,
    ) -> "Body":
        """Check the parts of an event; raises `InvalidInput` naming the field that is wrong."""
        if type(kind) is not str or kind not in _known_kinds:
            _admit_kind(kind)
        raw = b"{}" if payload is None else encode_payload(payload)
        if len(raw) > payload_max_bytes:
            raise PayloadTooLarge("payload", f"{len(raw)} bytes encoded, the limit is {payload_max_bytes}")
        if run_id is not None:
            _match("run_id", run_id, _RUN, RUN_PATTERN)
            lane_id = DEFAULT_LANE if lane_id is None else lane_id
        if lane_id is not None:
            if run_id is None:
                raise InvalidInput("lane_id", "a lane belongs to a run: give run_id too")
            _match("lane_id", lane_id, _RUN, RUN_PATTERN)
        if stage_name is not None:
            checked_label("stage_name", stage_name)
        if group_id is not None:
            checked_label("group_id", group_id)
        if visibility not in VISIBILITIES:
            raise InvalidInput("visibility", f"{visibility!r} is not one of {', '.join(VISIBILITIES)}")
        if source is not None:
            checked_label("source", source)
        if traceparent is not None:
            _match("traceparent", traceparent, _TRACEPARENT, "W3C trace context, 00-<trace>-<span>-<flags>")
        if idempotency_key is not None:
            checked_key(idempotency_key)
        # As `cls(…)`, without the constructor that NamedTuple writes, which takes longer than all the checks above.
        return tuple.__new__(
            cls, (kind, raw, run_id, lane_id, stage_name, group_id, visibility, source, traceparent, idempotency_key)
        )

    def within(self, payload_max_bytes: int) -> "Body":
        """This body as it is; raises `PayloadTooLarge` if its payload is over the limit."""
        if len(self.payload_json) > payload_max_bytes:
            raise PayloadTooLarge(
                "payload", f"{len(self.payload_json)} bytes encoded, the limit is {payload_max_bytes}"
            )
        return self

    @classmethod
    def from_mapping(cls, data: object, *, payload_max_bytes: int = DEFAULT_PAYLOAD_MAX_BYTES) -> "Body":
        """Build from a mapping with the names of `APPEND_FIELDS`; unknown names are refused."""
        if type(data) is not dict and not isinstance(data, Mapping):
            raise InvalidInput("event", f"must be an object, not {_json_type(data)}")
        if not _APPEND_FIELDS.issuperset(data):
            unknown = next(name for name in data if name not in _APPEND_FIELDS)
            raise InvalidInput(str(unknown)[:64], f"unknown field; known are {', '.join(APPEND_FIELDS)}")
        if "kind" not in data:
            raise InvalidInput("kind", "is required")
        if data.get("visibility", "public") is None:
            raise InvalidInput("visibility", f"null is not one of {', '.join(VISIBILITIES)}")
        return cls.of(**data, payload_max_bytes=payload_max_bytes)


APPEND_FIELDS = (
    "kind",
    "payload",
    "run_id",
    "lane_id",
    "stage_name",
    "group_id",
    "visibility",
    "source",
    "traceparent",
    "idempotency_key",
)
_APPEND_FIELDS = frozenset(APPEND_FIELDS)


class EventParts(TypedDict, total=False):
    """What an append may say of an event beside its kind and payload; see `Event` for the meanings."""

    run_id: str | None
    lane_id: str | None
    stage_name: str | None
    group_id: str | None
    visibility: str
    source: str | None
    traceparent: str | None
    idempotency_key: str | None


class Event:
    """One event of a log, immutable. `offset` and `timestamp` follow from `id`; absent attributes are None.

    `payload` is decoded when first asked for; `payload_json` is the encoded form. `duplicate` is True on
    the answer to an append that repeated an earlier one: the event is the first one's.
    """

    __slots__ = ("_body", "_duplicate", "_ms", "_offset", "_payload", "_seq", "_wire")

    _payload: dict[str, Any]
    _wire: bytes

    def __init__(self, ms: int, offset: int, body: Body, seq: int | None = None, duplicate: bool = False) -> None:
        self._ms = ms
        self._offset = offset
        self._body = body
        self._seq = seq
        self._duplicate = duplicate

    @property
    def position(self) -> EventId:
        """The id as a pair of integers `(ms, offset)`."""
        return EventId(self._ms, self._offset)

    @property
    def body(self) -> Body:
        """All of it but its place in a log."""
        return self._body

    @property
    def id(self) -> str:
        """`<ms>-<offset>`: the Redis stream id."""
        return f"{self._ms}-{self._offset}"

    @property
    def offset(self) -> int:
        """Dense position in the log: 1, 2, 3, …"""
        return self._offset

    @property
    def timestamp(self) -> float:
        """Seconds since the Unix epoch, by the Redis clock."""
        return self._ms / 1000

    @property
    def kind(self) -> str:
        """Dotted tag such as `tool.invoked`."""
        return self._body.kind

    @property
    def payload(self) -> dict[str, Any]:
        """The JSON object."""
        try:
            return self._payload
        except AttributeError:
            self._payload = orjson.loads(self._body.payload_json)
            return self._payload

    @property
    def payload_json(self) -> bytes:
        """The payload as UTF-8 JSON."""
        return self._body.payload_json

    @property
    def run_id(self) -> str | None:
        """The run this event belongs to."""
        return self._body.run_id

    @property
    def lane_id(self) -> str | None:
        """The lane within the run; `main` unless named."""
        return self._body.lane_id

    @property
    def seq(self) -> int | None:
        """1, 2, 3, … within (run, lane)."""
        return self._seq

    @property
    def stage_name(self) -> str | None:
        """The named step of the run."""
        return self._body.stage_name

    @property
    def group_id(self) -> str | None:
        """The group the stage belongs to."""
        return self._body.group_id

    @property
    def visibility(self) -> str:
        """`public`, `internal` or `private`."""
        return self._body.visibility

    @property
    def source(self) -> str | None:
        """Who produced it."""
        return self._body.source

    @property
    def traceparent(self) -> str | None:
        """W3C trace context."""
        return self._body.traceparent

    @property
    def duplicate(self) -> bool:
        """True where an append was recognised as a repetition of an earlier one."""
        return self._duplicate

    @property
    def is_terminal(self) -> bool:
        """True for the kinds that end a run."""
        return self._body.kind in TERMINAL_KINDS

    @property
    def is_milestone(self) -> bool:
        """True for the kinds that tell of a stage or end a run: what becomes of a run shows in these alone."""
        return is_milestone(self._body.kind)

    def as_duplicate(self) -> "Event":
        """The same event, marked as the answer to a repeated append."""
        return Event(self._ms, self._offset, self._body, self._seq, True)

    def unshared(self) -> "Event":
        """The same event with a decoded payload of its own."""
        return Event(self._ms, self._offset, self._body, self._seq, self._duplicate)

    def to_dict(self) -> dict[str, Any]:
        """The wire form: a JSON-ready dict without absent attributes."""
        return {**self._head(), "payload": self.payload, **self._tail()}

    def to_json(self) -> bytes:
        """The wire form as ASCII JSON on one line, made once, without decoding the payload."""
        try:
            return self._wire
        except AttributeError:
            self._wire = self._encode()
            return self._wire

    def _encode(self) -> bytes:
        body = self._body
        if body[2:9] == _PLAIN and not self._duplicate and body.kind in _known_kinds:
            # Nothing here needs escaping: a known kind matches KIND_PATTERN.
            ms, offset = self._ms, self._offset
            start = f'{{"id":"{ms}-{offset}","offset":{offset},"timestamp":{ms / 1000},"kind":"{body.kind}","payload":'
            return ascii_json(b'%b%b,"visibility":"public"}' % (start.encode(), body.payload_json))
        head = orjson.dumps(self._head())
        tail = orjson.dumps(self._tail())
        rest = b"}" if tail == b"{}" else b"," + tail[1:]
        return ascii_json(b"".join((head[:-1], b',"payload":', self._body.payload_json, rest)))

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "Event":
        """Read the wire form; raises `InvalidInput` naming the field that is wrong."""
        if not isinstance(data.get("id"), str):
            raise InvalidInput("id", "is required")
        event_id = EventId.parse(data["id"])
        for derived, value in (("offset", event_id.offset), ("timestamp", event_id.ms / 1000)):
            if data.get(derived, value) != value:
                raise InvalidInput(derived, f"{data[derived]!r} does not follow from id {event_id}")
        seq = data.get("seq")
        if seq is not None and (isinstance(seq, bool) or not isinstance(seq, int) or seq < 1):
            raise InvalidInput("seq", f"{seq!r} is not a positive integer")
        # The payload limit is the log's: an event that a log once took is readable whatever its size.
        body = Body.from_mapping(
            {name: data[name] for name in APPEND_FIELDS if name in data}, payload_max_bytes=MAX_COUNTER
        )
        return cls(*event_id, body, seq, duplicate=bool(data.get("duplicate", False)))

    def _head(self) -> dict[str, Any]:
        return {
            "id": f"{self._ms}-{self._offset}",
            "offset": self._offset,
            "timestamp": self._ms / 1000,
            "kind": self._body.kind,
        }

    def _tail(self) -> dict[str, Any]:
        body = self._body
        tail: dict[str, Any] = {}
        if body.run_id is not None:
            tail["run_id"] = body.run_id
            tail["lane_id"] = body.lane_id
            if self._seq is not None:
                tail["seq"] = self._seq
        if body.stage_name is not None:
            tail["stage_name"] = body.stage_name
        if body.group_id is not None:
            tail["group_id"] = body.group_id
        tail["visibility"] = body.visibility
        if body.source is not None:
            tail["source"] = body.source
        if body.traceparent is not None:
            tail["traceparent"] = body.traceparent
        if self._duplicate:
            tail["duplicate"] = True
        return tail

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Event):
            return NotImplemented
        mine, theirs = self._body, other._body
        return (
            self.position == other.position
            and self._seq == other._seq
            and mine[0] == theirs[0]
            and mine[2:9] == theirs[2:9]
            and (mine.payload_json == theirs.payload_json or self.payload == other.payload)
        )

    def __hash__(self) -> int:
        return hash((self._ms, self._offset))

    def __repr__(self) -> str:
        run = f" run_id={self.run_id!r} lane_id={self.lane_id!r} seq={self.seq}" if self.run_id else ""
        return f"<Event {self.id} {self.kind}{run}>"


def is_milestone(kind: str) -> bool:
    """True for a kind that tells of a stage or ends a run."""
    return kind.startswith(STAGE_PREFIX) or kind in TERMINAL_KINDS


def encode_payload(payload: object) -> bytes:
    """Encode a payload as compact JSON; raises `InvalidInput` for what JSON cannot hold.

    Datetimes, UUIDs, enums and dataclasses inside it are written as orjson writes them.
    """
    if type(payload) is not dict and not isinstance(payload, Mapping):
        raise InvalidInput("payload", f"must be an object, not {_json_type(payload)}")
    try:
        raw = orjson.dumps(payload if type(payload) is dict else dict(payload))
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidInput("payload", f"cannot be written as JSON: {error}") from error
    # orjson writes NaN and the infinities as null, so only a payload with a null needs the slow look.
    if b"null" in raw and _has_non_finite(payload):
        raise InvalidInput("payload", "NaN and infinities are not JSON")
    # orjson cuts its answer out of a buffer of 1 KiB. Hundreds of those kept make the C heap grow and shrink all the
    # time, which costs ten times the encoding; a copy of a small answer lives in Python's own memory.
    return b"%b" % raw if len(raw) <= _SMALL_BYTES else raw


def checked_key(key: str) -> str:
    """An idempotency key as it is; raises `InvalidInput` if it is not one."""
    _match("idempotency_key", key, _KEY, "1 to 256 printable ASCII characters")
    return key


def ascii_json(raw: bytes) -> bytes:
    r"""The same JSON with every non-ASCII character as `\uXXXX`: some stream readers split at U+2028."""
    if raw.isascii():
        return raw
    return "".join(c if c < "\x80" else _escape(c) for c in raw.decode()).encode("ascii")


def _escape(char: str) -> str:
    code = ord(char)
    if code < 0x10000:
        return f"\\u{code:04x}"
    code -= 0x10000
    return f"\\u{0xD800 + (code >> 10):04x}\\u{0xDC00 + (code & 0x3FF):04x}"


def _has_non_finite(value: object) -> bool:
    if isinstance(value, float):
        return not math.isfinite(value)
    if isinstance(value, Mapping):
        return any(_has_non_finite(item) for item in value.values())
    if isinstance(value, list | tuple):
        return any(_has_non_finite(item) for item in value)
    return False


def _admit_kind(kind: object) -> None:
    _match("kind", kind, _KIND, KIND_PATTERN)
    if len(_known_kinds) >= _KNOWN_KINDS_BOUND:
        _known_kinds.clear()
    _known_kinds.add(str(kind))


def _match(field: str, value: object, pattern: re.Pattern[str], wanted: str) -> None:
    if not isinstance(value, str):
        raise InvalidInput(field, f"must be a string, not {_json_type(value)}")
    if pattern.fullmatch(value) is None:
        shown = value if len(value) <= 60 else value[:60] + "…"
        raise InvalidInput(field, f"{shown!r} does not match {wanted}")


def checked_label(field: str, value: object) -> str:
    """A name such as that of a stage or a source as it is; raises `InvalidInput` if it is not one."""
    _match(field, value, _LABEL, "1 to 256 characters without control characters")
    return str(value)


def _json_type(value: object) -> str:
    names = {dict: "object", list: "array", str: "string", bool: "boolean", type(None): "null"}
    return names.get(type(value), "number" if isinstance(value, int | float) else type(value).__name__)


EventInput = Mapping[str, Any] | Body
"""What `append_many` takes: a mapping with the names of `append`, or a checked `Body`."""

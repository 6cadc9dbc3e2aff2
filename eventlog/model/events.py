"""The event: what it is made of, its bounds, and its wire form. Pure.

A payload stays the JSON bytes it arrived as until somebody looks at it, so an event can travel from the
producer through Redis to a reader's socket without being parsed on the way.

A new field of events is a line each in `EventParts`, `FIELDS`, `Body` and `Event`; a test holds them to each other.
Its check, its place in Redis, its wire form, its name in CloudEvents and its documentation follow.
"""

from collections.abc import Iterable, Mapping
from operator import attrgetter
from typing import Any, Final, NamedTuple, TypedDict, Unpack

import orjson

from ..errors import InvalidInput, PayloadTooLarge
from .ids import MAX_COUNTER, EventId
from .payloads import encode_payload
from .texts import Text, json_type

TERMINAL_KINDS = frozenset({"run.finished", "run.failed", "run.error", "run.cancelled"})
STAGE_PREFIX = "stage."
VISIBILITIES = ("public", "internal", "private")
DEFAULT_LANE = "main"
DEFAULT_PAYLOAD_MAX_BYTES = 64 * 1024

KIND_PATTERN = r"[A-Za-z0-9_.:/-]{1,128}"
RUN_PATTERN = r"[A-Za-z0-9_.:-]{1,128}"
KIND = Text(KIND_PATTERN)
RUN_NAME = Text(RUN_PATTERN)
KEY_PATTERN = r"[\x21-\x7e]{1,256}"
KEY = Text(KEY_PATTERN, "does not match 1 to 256 printable ASCII characters", recurs=False)
LABEL = Text(
    r"[^\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]{1,256}",
    "does not match 1 to 256 characters without control characters",
    {"minLength": 1, "maxLength": 256},
)
VISIBILITY = Text("|".join(VISIBILITIES), f"is not one of {', '.join(VISIBILITIES)}", {"enum": list(VISIBILITIES)})
TRACEPARENT = Text(
    r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}(-[\x21-\x7e]{1,64})?",
    "does not match W3C trace context, 00-<trace>-<span>-<flags>",
    recurs=False,
)


class EventParts(TypedDict, total=False):
    """What an append may give beside kind and payload; see `FIELDS` for the meanings."""

    run_id: str | None
    lane_id: str | None
    stage_name: str | None
    group_id: str | None
    visibility: str
    source: str | None
    traceparent: str | None
    idempotency_key: str | None


class EventField(NamedTuple):
    """A field that an event may have beside kind and payload.

    Its name is the same in `append`, in JSON and in Redis; CloudEvents have it without underscores.
    """

    name: str
    text: Text
    help: str


FIELDS = (
    EventField("run_id", RUN_NAME, "The run it belongs to."),
    EventField("lane_id", RUN_NAME, "The lane within the run; main unless given."),
    EventField("stage_name", LABEL, "The named step of the run."),
    EventField("group_id", LABEL, "The group the stage belongs to."),
    EventField("visibility", VISIBILITY, "public, internal or private; public unless given."),
    EventField("source", LABEL, "What produced it."),
    EventField("traceparent", TRACEPARENT, "W3C trace context."),
    # The last one, for it alone is no part of the event: the log forgets it after a while.
    EventField("idempotency_key", KEY, "Repeated with the same key, an append appends nothing."),
)


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
        payload_max_bytes: int = DEFAULT_PAYLOAD_MAX_BYTES,
        **parts: Unpack[EventParts],
    ) -> "Body":
        """Check the parts of an event; raises `InvalidInput` naming the field that is wrong."""
        if type(kind) is not str or kind not in KIND.known:
            kind = KIND.check("kind", kind)
        raw = b"{}" if payload is None else encode_payload(payload)
        if len(raw) > payload_max_bytes:
            raise PayloadTooLarge("payload", f"{len(raw)} bytes encoded, the limit is {payload_max_bytes}")
        values = _checked(parts) if parts else DEFAULTS
        # As `cls(…)`, without the constructor that NamedTuple writes, which takes longer than all the checks above.
        return tuple.__new__(cls, (kind, raw, *values))

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
            raise InvalidInput("event", f"must be an object, not {json_type(data)}")
        if not _APPEND_FIELDS.issuperset(data):
            unknown = next(name for name in data if name not in _APPEND_FIELDS)
            raise InvalidInput(str(unknown)[:64], f"unknown field; known are {', '.join(APPEND_FIELDS)}")
        if "kind" not in data:
            raise InvalidInput("kind", "is required")
        return cls.of(**data, payload_max_bytes=payload_max_bytes)


_NAMES = tuple(field.name for field in FIELDS)
_TEXTS = {field.name: field.text for field in FIELDS}
DEFAULTS: tuple[Any, ...] = tuple(Body._field_defaults[name] for name in _NAMES)
"""What an event has that says nothing but kind and payload, in the order of `FIELDS`."""

APPEND_FIELDS = ("kind", "payload", *_NAMES)
_APPEND_FIELDS = frozenset(APPEND_FIELDS)

# The fields that an event shows, `body[2:-1]`: without the idempotency key.
_SHOWN = tuple(enumerate(_NAMES[:-1], 2))
_SHOWN_DEFAULTS = DEFAULTS[:-1]


def _checked(parts: EventParts) -> Iterable[Any]:
    """The values in the order of `FIELDS`."""
    for name, value in parts.items():
        text = _TEXTS.get(name)
        if text is None:
            raise TypeError(f"events have no field {name!r}; they have {', '.join(_NAMES)}")
        if (type(value) is not str or value not in text.known) and (value is not None or name == "visibility"):
            parts[name] = text.check(name, value)  # type: ignore[literal-required]
    lane_id = parts.get("lane_id")
    if parts.get("run_id") is None:
        if lane_id is not None:
            raise InvalidInput("lane_id", "a lane belongs to a run: give run_id too")
    elif lane_id is None:
        parts["lane_id"] = DEFAULT_LANE
    return map(parts.get, _NAMES, DEFAULTS)


def _body_field(name: str) -> Any:
    """A read-only attribute that is the body's. Unlike a property of Python code it costs no call."""
    texts = {field.name: field.help for field in FIELDS}
    return property(attrgetter(f"_body.{name}"), doc=texts.get(name))


class Event:
    """One event of a log, immutable. `offset` and `timestamp` follow from `id`; absent attributes are None.

    `payload` is decoded when first asked for; `payload_json` is the encoded form. `duplicate` is True on
    the answer to an append that repeated an earlier one: the event is the first one's.
    """

    __slots__ = ("_body", "_duplicate", "_ms", "_offset", "_payload", "_seq", "_wire")

    kind: Final[str] = _body_field("kind")
    payload_json: Final[bytes] = _body_field("payload_json")
    run_id: Final[str | None] = _body_field("run_id")
    lane_id: Final[str | None] = _body_field("lane_id")
    stage_name: Final[str | None] = _body_field("stage_name")
    group_id: Final[str | None] = _body_field("group_id")
    visibility: Final[str] = _body_field("visibility")
    source: Final[str | None] = _body_field("source")
    traceparent: Final[str | None] = _body_field("traceparent")

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
    def payload(self) -> dict[str, Any]:
        """The JSON object."""
        try:
            return self._payload
        except AttributeError:
            self._payload = orjson.loads(self._body.payload_json)
            return self._payload

    @property
    def seq(self) -> int | None:
        """1, 2, 3, … within (run, lane)."""
        return self._seq

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
        """True for events of a stage and for those that end a run."""
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
        if body[2:-1] == _SHOWN_DEFAULTS and not self._duplicate and body.kind in KIND.known:
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
        tail: dict[str, Any] = {} if self._seq is None else {"seq": self._seq}
        body = self._body
        for place, name in _SHOWN:
            value = body[place]
            if value is not None:
                tail[name] = value
        if self._duplicate:
            tail["duplicate"] = True
        return tail

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._ms, self._offset, self._body, self._seq, self._duplicate)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Event):
            return NotImplemented
        mine, theirs = self._body, other._body
        return (
            self.position == other.position
            and self._seq == other._seq
            and mine[0] == theirs[0]
            and mine[2:-1] == theirs[2:-1]
            and (mine.payload_json == theirs.payload_json or self.payload == other.payload)
        )

    def __hash__(self) -> int:
        return hash((self._ms, self._offset))

    def __repr__(self) -> str:
        run = f" run_id={self.run_id!r} lane_id={self.lane_id!r} seq={self.seq}" if self.run_id else ""
        return f"<Event {self.id} {self.kind}{run}>"


def is_milestone(kind: str) -> bool:
    """True for a kind of a stage's event or of one that ends a run."""
    return kind.startswith(STAGE_PREFIX) or kind in TERMINAL_KINDS


def checked_key(key: object) -> str:
    """An idempotency key, by value; raises `InvalidInput` if it is not one."""
    return KEY.check("idempotency_key", key)


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


def checked_label(field: str, value: object) -> str:
    """A name such as that of a stage or a source, by value; raises `InvalidInput` if it is not one."""
    return LABEL.check(field, value)


EventInput = Mapping[str, Any] | Body
"""What `append_many` takes: a mapping with the names of `append`, or a checked `Body`."""

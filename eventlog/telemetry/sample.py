"""Samples: what is posted, what is kept, what is read, and the wire form. Pure.

A sample's content stays the JSON bytes that it was checked as until it is read; Redis never looks inside.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import orjson

from ..errors import InvalidInput, PayloadTooLarge
from ..model.events import checked_label
from ..model.ids import MAX_COUNTER
from ..model.payloads import encode_payload

HOST_FIELDS = ("rss_bytes", "cpu_percent", "io_read_bytes", "io_write_bytes")
SAMPLE_FIELDS = ("stage_name", "source", "host", "guest", "age_ms")
SAMPLE_MAX_BYTES = 8 * 1024
MOST_PUSHED = 500
OLDEST_MS = 24 * 3600 * 1000


class Posted(NamedTuple):
    """A checked sample on its way into a ring. `data` is a JSON object with all but the stage."""

    stage_name: str | None
    age_ms: int
    data: bytes


class Kept(NamedTuple):
    """A sample of a ring. `ms` is when it was taken, by the Redis clock. `data` is `{}` of what the ring has let go."""

    seq: int
    ms: int
    stage_name: str | None
    data: bytes


@dataclass(frozen=True, slots=True)
class Sample:
    """One sample of a run. `seq` is its place in the run's ring: 1, 2, 3, …

    `timestamp` is when it was taken, in seconds since the Unix epoch by the Redis clock. `host` has `rss_bytes`,
    `cpu_percent` (100 is one core), `io_read_bytes` and `io_write_bytes`, as far as they are known; `guest` is whatever
    another runtime says of itself. What is absent is None. `duplicate` is True on the answer to a push that was made
    before under its key; what the ring has let go since has neither host nor guest there, and the time of that push.
    """

    seq: int
    timestamp: float
    stage_name: str | None = None
    source: str | None = None
    host: dict[str, int | float] | None = None
    guest: dict[str, Any] | None = None
    duplicate: bool = field(default=False, compare=False)

    @classmethod
    def of(cls, kept: Kept, *, duplicate: bool = False) -> "Sample":
        """Read what a ring keeps."""
        return cls(kept.seq, kept.ms / 1000, kept.stage_name, **orjson.loads(kept.data), duplicate=duplicate)

    def to_dict(self) -> dict[str, Any]:
        """The wire form: absent attributes are left out."""
        named = {name: getattr(self, name) for name in self.__slots__}
        return {name: value for name, value in named.items() if value is not None and value is not False}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "Sample":
        """Read the wire form; raises `InvalidInput` naming the field that is wrong."""
        seq, timestamp = data.get("seq"), data.get("timestamp")
        if isinstance(seq, bool) or not isinstance(seq, int) or seq < 1:
            raise InvalidInput("seq", f"{seq!r} is not a positive integer")
        if isinstance(timestamp, bool) or not isinstance(timestamp, int | float):
            raise InvalidInput("timestamp", f"{timestamp!r} is not a number of seconds")
        rest = {name: data[name] for name in SAMPLE_FIELDS if name in data}
        duplicate = data.get("duplicate") is True
        if duplicate and not rest:
            return cls(seq, float(timestamp), duplicate=True)
        posted = checked_sample(rest)
        return cls(seq, float(timestamp), posted.stage_name, **orjson.loads(posted.data), duplicate=duplicate)


@dataclass(frozen=True, slots=True)
class TelemetryPage:
    """Samples of a run, oldest first. Pass `next_seq` as `from_seq` to go on: it moves past what a filter left out.

    `missed` samples after `from_seq` are gone, of whatever stage. `capacity` is how many the ring keeps.
    """

    run_id: str
    samples: list[Sample]
    next_seq: int
    missed: int
    capacity: int

    def to_dict(self) -> dict[str, Any]:
        """The wire form."""
        return {
            "run_id": self.run_id,
            "samples": [sample.to_dict() for sample in self.samples],
            "next_seq": self.next_seq,
            "missed": self.missed,
            "capacity": self.capacity,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "TelemetryPage":
        """Read the wire form."""
        samples = [Sample.from_dict(sample) for sample in data["samples"]]
        return cls(data["run_id"], samples, data["next_seq"], data["missed"], data["capacity"])


def placed(samples: Sequence[Posted], first: int, at_ms: int) -> list[Kept]:
    """Samples as they are kept by a push that gave seqs from `first` on; their ages count back from `at_ms`."""
    return [Kept(seq, max(at_ms - one.age_ms, 0), one.stage_name, one.data) for seq, one in enumerate(samples, first)]


def let_go(first: int, count: int, at_ms: int, left: Iterable[Kept]) -> list[Kept]:
    """The samples of an earlier push at `at_ms`: those that are left, and of the others what is known."""
    found = {one.seq: one for one in left}
    return [found.get(seq) or Kept(seq, at_ms, None, b"{}") for seq in range(first, first + count)]


def checked_samples(samples: object) -> list[Posted]:
    """What is to be pushed, checked; raises `InvalidInput` with a field such as `samples[3].host.rss_bytes`."""
    if not isinstance(samples, Iterable) or isinstance(samples, str | bytes | Mapping):
        raise InvalidInput("samples", f"must be a list of samples, not a {type(samples).__name__}")
    posted: list[Posted] = []
    for index, sample in enumerate(samples):
        if index >= MOST_PUSHED:
            raise PayloadTooLarge("samples", f"more than {MOST_PUSHED} samples in a push")
        try:
            posted.append(checked_sample(sample))
        except InvalidInput as error:
            place = f"samples[{index}]"
            raise type(error)(f"{place}.{error.field}" if error.field else place, error.problem) from None
    return posted


def checked_sample(sample: object) -> Posted:
    """One sample, checked; raises `InvalidInput`, its field empty if the sample as a whole is wrong."""
    if not isinstance(sample, Mapping):
        raise InvalidInput("", f"must be an object, not a {type(sample).__name__}")
    _known(sample, SAMPLE_FIELDS, "")
    stage_name, source, host, guest = (sample.get(name) for name in SAMPLE_FIELDS[:4])
    if host is None and guest is None:
        raise InvalidInput("", "has neither host nor guest")
    given = {"source": source, "host": host, "guest": guest}
    if source is not None:
        checked_label("source", source)
    if host is not None:
        _check_host(host)
    if guest is not None and not isinstance(guest, Mapping):
        raise InvalidInput("guest", f"must be an object, not a {type(guest).__name__}")
    try:
        data = encode_payload({name: value for name, value in given.items() if value is not None})
    except InvalidInput as error:
        # The rest is known to be JSON.
        raise InvalidInput(error.field.removeprefix("payload."), error.problem) from error
    if len(data) > SAMPLE_MAX_BYTES:
        raise PayloadTooLarge("", f"{len(data)} bytes encoded, the limit is {SAMPLE_MAX_BYTES}")
    stage = None if stage_name is None else checked_label("stage_name", stage_name)
    return Posted(stage, _checked_age(sample.get("age_ms", 0)), data)


def _check_host(host: object) -> None:
    if not isinstance(host, Mapping):
        raise InvalidInput("host", f"must be an object, not a {type(host).__name__}")
    _known(host, HOST_FIELDS, "host.")
    for name, value in host.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= MAX_COUNTER:
            raise InvalidInput(f"host.{name}", f"is not a number from 0 to {MAX_COUNTER}")


def _checked_age(age_ms: object) -> int:
    if isinstance(age_ms, bool) or not isinstance(age_ms, int | float) or not 0 <= age_ms <= OLDEST_MS:
        raise InvalidInput("age_ms", f"is not a number of milliseconds from 0 to {OLDEST_MS}")
    return round(age_ms)


def _known(given: Mapping[Any, Any], known: Sequence[str], place: str) -> None:
    for name in given:
        if name not in known:
            shown = name[:64] if isinstance(name, str) else repr(name)[:64]
            raise InvalidInput(f"{place}{shown}", f"unknown field; known are {', '.join(known)}")

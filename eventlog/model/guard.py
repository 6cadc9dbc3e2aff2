"""The content guard: what must not get into a log is refused, or taken out, before anything is appended.

Hidden chain-of-thought is refused, by the names of the fields that carry it. Secrets are redacted, by field name and
by pattern, where that was asked for. Everything that is appended passes here once: `LogCore` and `EventBus` call
`ContentGuard.screen`. What the guard finds is named by its path; the content itself goes into no error and no log.
"""

import logging
import re
import threading
import time
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

import orjson

from ..errors import InvalidInput, RejectedContent
from .events import Body
from .payloads import LONGEST_STEP, encode_payload, shortened, step

_log = logging.getLogger("eventlog")

_HIDDEN = ("hidden", "raw", "private", "internal", "secret", "unfiltered")
_THINKING = ("chain_of_thought", "cot", "scratchpad", "reasoning", "thoughts", "thought", "thinking", "monologue")

DEFAULT_REFUSED_FIELDS: Final = (
    "chain_of_thought",
    "chain_of_thoughts",
    "cot",
    "scratchpad",
    "scratch_pad",
    "inner_monologue",
    "inner_thoughts",
    "inner_thought",
    "inner_reasoning",
    "reasoning_trace",
    "reasoning_traces",
    "reasoning_content",
    "thought_process",
    "thinking_trace",
    *(f"{hidden}_{thinking}" for hidden in _HIDDEN for thinking in _THINKING),
)
"""Fields that carry hidden chain-of-thought."""

DEFAULT_REDACT_FIELDS: Final = (
    "*password",
    "*passwd",
    "*passphrase",
    "*secret",
    "*secret_key",
    "*secret_access_key",
    "*private_key",
    "*api_key",
    "*api_token",
    "*access_token",
    "*refresh_token",
    "*auth_token",
    "*id_token",
    "*bearer_token",
    "*session_token",
    "*authorization",
    "credentials",
    "cookie",
    "set_cookie",
)
"""Fields whose values are secrets."""

DEFAULT_REDACT_PATTERNS: Final = (
    # A lookbehind stands behind the literal that it looks at: `re` hurries only to patterns that begin with a literal.
    r"sk-(?<![A-Za-z0-9]sk-)[A-Za-z0-9_-]{20,}",
    r"[rs]k_(?:live|test)_[A-Za-z0-9]{10,}",
    r"gh[oprsu]_[A-Za-z0-9]{20,}",
    r"github_pat_[A-Za-z0-9_]{20,}",
    r"glpat-[A-Za-z0-9_-]{20,}",
    r"A(?:KIA|SIA)[A-Z0-9]{16}(?![A-Za-z0-9])",
    r"AIza[A-Za-z0-9_-]{35}",
    r"xox[abeoprs]-[A-Za-z0-9-]{10,}",
    r"[Bb]earer[ \t]{1,4}(?P<secret>[A-Za-z0-9._~+/-]{16,}=*)",
    r"eyJ(?<![A-Za-z0-9_-]eyJ)[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*",
    r"-----BEGIN [A-Z ]{0,40}PRIVATE KEY(?: BLOCK)?-----[\s\S]*?"
    r"(?:-----END [A-Z ]{0,40}PRIVATE KEY(?: BLOCK)?-----|\Z)",
    r"://[^\s/:@]{0,100}:(?P<secret>[^\s/@]{1,200})@",
    r"(?i:password|passwd|secret|api_?key|token)=(?P<secret>[^\s&\"';,=]{6,})",
)
"""What secrets look like inside of text, in time that grows no faster than the text. Of a match with a group `secret`,
only that is replaced."""

# One of these is in every JSON document in which one of the patterns above finds something.
_MARKS = (
    *(b"sk-", b"k_live_", b"k_test_", b"gho_", b"ghp_", b"ghr_", b"ghs_", b"ghu_", b"github_pat_", b"glpat-"),
    *(b"AKIA", b"ASIA", b"AIza", b"xox", b"earer", b"eyJ", b"-----BEGIN ", b"://", b"="),
)

REDACTED: Final = "[redacted]"
SAFE_ALTERNATIVE: Final = "reasoning.summary"


_ODD = ord("\\")  # as a number it is looked for four times as fast as in bytes
# What is left of a JSON document for a first look: letters in lower case, digits, the ends of strings, and `_ODD` for
# whatever may be a letter in disguise: an escape, or a character beyond ASCII.
_LEFT = bytes(byte if byte < 128 else _ODD for byte in range(256)).lower()
_DROPPED = bytes(byte for byte in range(128) if not chr(byte).isalnum() and chr(byte) not in '"\\')
_REDACTED_ALREADY = re.compile(r"(\[redacted(?: \d{1,6})?\])")
_WARN_EVERY_S = 10.0
_WARNED_BOUND = 256


class ContentGuard:
    """Refuses hidden chain-of-thought, and redacts secrets if `redact` says so. Immutable and safe under threads.

    `refused_fields` and `redact_fields` are names; in comparing them only letters and digits count, in any case: the
    name `chain_of_thought` is `chainOfThought` and `Chain-of-Thought` too. A `*` at either end stands for anything.
    `redact_patterns` are regular expressions. Raises `InvalidInput` for a name without a letter or digit, and for a
    pattern that does not compile or matches the empty text.
    """

    __slots__ = ("_find", "_marks", "_notices", "_only_names", "_patterns", "_redact", "_refused", "_secret")

    def __init__(
        self,
        *,
        refused_fields: Iterable[str] = DEFAULT_REFUSED_FIELDS,
        redact: bool = False,
        redact_fields: Iterable[str] = DEFAULT_REDACT_FIELDS,
        redact_patterns: Iterable[str] = DEFAULT_REDACT_PATTERNS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._refused = _Names("refused_fields", refused_fields)
        self._secret = _Names("redact_fields", redact_fields)
        self._patterns = compiled_patterns(redact_patterns)
        self._redact = redact
        self._only_names = not redact
        self._find = _finder((self._refused, self._secret) if redact else (self._refused,))
        known = {pattern.pattern for pattern in self._patterns} <= set(DEFAULT_REDACT_PATTERNS)
        self._marks = _MARKS if known else None
        self._notices = _Notices(clock)

    def screen(self, body: Body) -> Body:
        """The body as it may be appended: the same object unless something was redacted. Raises `RejectedContent`."""
        raw = body.payload_json
        # As `screen_json` begins, without the call: nearly everything that is appended is through here.
        left = raw.translate(_LEFT, _DROPPED)
        found = self._find(left) is not None
        if not found and self._only_names and _ODD not in left:
            return body
        screened = self._look_closer(raw, left, found, "payload")
        return body if screened is raw else body._replace(payload_json=screened)

    def passes(self, documents: Iterable[bytes]) -> bool:
        """True if `screen` would leave each of these payloads as it is; False if each is to be screened.

        One look at all of them takes about half the time of one at each.
        """
        raw = b"".join(documents)
        left = raw.translate(_LEFT, _DROPPED)
        return self._find(left) is None and _ODD not in left and (self._only_names or not self._marked(raw))

    def screen_json(self, raw: bytes, field: str = "payload") -> bytes:
        """As `screen`, for an object as `encode_payload` writes it. The path in an error begins with `field`."""
        left = raw.translate(_LEFT, _DROPPED)
        return self._look_closer(raw, left, self._find(left) is not None, field)

    def _look_closer(self, raw: bytes, left: bytes, found: bool, field: str) -> bytes:
        marked = self._redact and self._marked(raw)
        if not found and not marked and _ODD not in left:
            return raw
        document = orjson.loads(raw)
        odd = [] if found else _odd_keys(document)
        if found or any(map(self._refused.has, odd)):
            self._refuse(document, field)
        if self._redact and (found or marked or any(map(self._secret.has, odd))) and self._take_out(document):
            return encode_payload(document)
        return raw

    def _marked(self, raw: bytes) -> bool:
        return self._marks is None or any(mark in raw for mark in self._marks)

    def _refuse(self, document: Any, field: str) -> None:
        holding = _holding(_containers(document), str)
        for path, key, value in _fields(document, field):
            if self._refused.has(key) and (id(value) in holding or _is(value, str)):
                where = shortened(path)
                self._notices.warn(folded(key)[:LONGEST_STEP], where)
                raise RejectedContent(
                    where, f"hidden chain-of-thought is not taken; send a summary of it as {SAFE_ALTERNATIVE} instead"
                )

    def _take_out(self, document: Any) -> bool:
        """Redact the document in place; True if there was anything."""
        changed = False
        containers = _containers(document)
        holding = _holding(containers, (str, int, float))
        for node in containers:
            if type(node) is dict:
                changed = self._take_out_of_keys(node) or changed
            for place, value in list(node.items() if type(node) is dict else enumerate(node)):
                redacted = self._redacted(place, value, holding)
                if redacted is not value:
                    node[place] = redacted
                    changed = True
        return changed

    def _take_out_of_keys(self, node: dict[str, Any]) -> bool:
        keys = [self._without_secrets(key) for key in node]
        if keys == list(node):
            return False
        items = list(node.items())
        # Keys that stay keep their names; of those that become equal, all but the first are numbered from 2 on.
        taken = {key for key, (before, _) in zip(keys, items, strict=True) if key == before}
        numbers: dict[str, int] = {}
        node.clear()
        for key, (before, value) in zip(keys, items, strict=True):
            free = key
            if key != before:
                number = numbers.get(key, 1)
                while free in taken:
                    number += 1
                    free = key.replace(REDACTED, f"{REDACTED[:-1]} {number}]", 1)
                numbers[key] = number
                taken.add(free)
            node[free] = value
        return True

    def _redacted(self, place: str | int, value: Any, holding: set[int]) -> Any:
        held = id(value) in holding or _is(value, (str, int, float))
        if held and type(place) is str and value != REDACTED and self._secret.has(place):
            return REDACTED
        if type(value) is str:
            redacted = self._without_secrets(value)
            return value if redacted == value else redacted
        return value

    def _without_secrets(self, text: str) -> str:
        for pattern in self._patterns:
            if pattern.search(text) is not None:
                # What is redacted already is left alone, whatever the pattern: screening twice is screening once.
                parts = _REDACTED_ALREADY.split(text)
                parts[::2] = [pattern.sub(_replaced, part) for part in parts[::2]]
                text = "".join(parts)
        return text


class _Names:
    """Names of fields as they are compared."""

    def __init__(self, setting: str, names: Iterable[str]) -> None:
        known = {(name.startswith("*"), name.endswith("*"), folded(name)) for name in checked_names(setting, names)}
        self._wholes = frozenset(name for before, after, name in known if not before and not after)
        self._starts = tuple(name for before, after, name in known if not before and after)
        self._ends = tuple(name for before, after, name in known if before and not after)
        self._parts = tuple(name for before, after, name in known if before and after)

    def has(self, key: str) -> bool:
        """True if a field of this name is meant."""
        name = folded(key)
        return (
            name in self._wholes
            or name.startswith(self._starts)
            or name.endswith(self._ends)
            or any(part in name for part in self._parts)
        )

    def choices(self) -> Iterator[str]:
        """Patterns that find the names in what is left of a JSON document."""
        for before, names, after in (
            ('"', self._wholes, '"'),
            ('"', self._starts, ""),
            ("", self._ends, '"'),
            ("", self._parts, ""),
        ):
            plain = [name for name in names if name.isascii()]
            if plain:
                yield before + _choice(plain) + after


class _Notices:
    """Warns of what was refused, for each field at most so often."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._lock = threading.RLock()  # a signal handler may be refused something too
        self._warned: dict[str, tuple[float, int]] = {}

    def warn(self, name: str, path: str) -> None:
        now = self._clock()
        with self._lock:
            last, more = self._warned.get(name, (-_WARN_EVERY_S, 0))
            silent = now - last < _WARN_EVERY_S
            if len(self._warned) >= _WARNED_BOUND and name not in self._warned:
                self._warned.clear()
            self._warned[name] = (last, more + 1) if silent else (now, 0)
        if silent:
            return
        _log.warning(
            "refused: %s carries hidden chain-of-thought; send a summary of it as %s instead%s",
            path,
            SAFE_ALTERNATIVE,
            f" ({more} more were refused since the last such warning)" if more else "",
        )


def folded(name: str) -> str:
    """A name as it is compared: letters and digits alone, without case, and full-width ones as plain ones."""
    if name.isascii():
        return name.lower().encode().translate(None, _SEPARATORS).decode()
    plain = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())
    return "".join(filter(str.isalnum, plain))


def checked_names(setting: str, names: Iterable[str]) -> tuple[str, ...]:
    """The names as they are; raises `InvalidInput` naming the setting if one has neither letter nor digit."""
    if isinstance(names, str):
        raise InvalidInput(setting, "must be a list of names, not a string")
    names = tuple(names)
    for name in names:
        if not isinstance(name, str) or not folded(name):
            raise InvalidInput(setting, f"{name!r} is no name of a field: it has neither a letter nor a digit")
    return names


def compiled_patterns(patterns: Iterable[str]) -> tuple[re.Pattern[str], ...]:
    """The patterns, compiled; raises `InvalidInput` for one that does not compile or that matches the empty text."""
    if isinstance(patterns, str):
        raise InvalidInput("redact_patterns", "must be a list of patterns, not a string")
    return tuple(_compiled(pattern) for pattern in patterns)


def _compiled(pattern: object) -> re.Pattern[str]:
    try:
        compiled: re.Pattern[str] = re.compile(pattern)  # type: ignore[call-overload]
        empty = compiled.search("") is not None
    except (re.error, TypeError, RecursionError, OverflowError) as error:
        raise InvalidInput("redact_patterns", f"{pattern!r} is no regular expression: {error}") from error
    if empty:
        raise InvalidInput("redact_patterns", f"{pattern!r} matches the empty text")
    return compiled


_SEPARATORS = bytes(b for b in range(128) if not chr(b).isalnum())


def _finder(several: Iterable[_Names]) -> Callable[[bytes], object | None]:
    """Searches what is left of a JSON document: a name that it does not find is not there, but for odd keys."""
    choices = [choice for names in several for choice in names.choices()]
    return re.compile("|".join(choices).encode()).search if choices else _nothing


def _nothing(_: bytes) -> None:
    return None


def _replaced(match: re.Match[str]) -> str:
    if "secret" not in match.re.groupindex:
        return REDACTED
    (start, end), begin = match.span("secret"), match.start()
    return match[0] if start < 0 else f"{match[0][: start - begin]}{REDACTED}{match[0][end - begin :]}"


def _choice(names: Iterable[str]) -> str:
    """A pattern for any of the names, as a tree of their letters: one that is none is left at its first letters."""
    by_letter: dict[str, list[str]] = {}
    for name in names:
        by_letter.setdefault(name[:1], []).append(name[1:])
    complete = by_letter.pop("", None) is not None
    branches = [letter + _choice(rest) for letter, rest in sorted(by_letter.items())]
    if not branches:
        return ""
    choice = branches[0] if len(branches) == 1 and not complete else f"(?:{'|'.join(branches)})"
    return choice + "?" if complete else choice


def _containers(document: Any) -> list[Any]:
    """The document and every object and array in it, outer ones first."""
    found = [document]
    for node in found:
        values = node.values() if type(node) is dict else node
        found += [value for value in values if type(value) is dict or type(value) is list]
    return found


def _odd_keys(document: Any) -> list[str]:
    """The keys that a first look does not find: those with characters that are escaped, or beyond ASCII."""
    keys = [key for node in _containers(document) if type(node) is dict for key in node]
    return [key for key in keys if _is_odd(key)] if _is_odd("".join(keys)) else []


def _is_odd(text: str) -> bool:
    return not text.isascii() or not text.isprintable() or "\\" in text or '"' in text


def _fields(document: Any, path: str) -> Iterator[tuple[str, str, Any]]:
    """Every field with its path, in the order of the document."""
    pending: list[tuple[str, str | None, Any]] = [(path, None, document)]
    while pending:
        path, key, value = pending.pop()
        if key is not None:
            yield path, key, value
        if type(value) is dict:
            pending += [(path + step(name), name, inner) for name, inner in reversed(value.items())]
        elif type(value) is list:
            pending += [(f"{path}[{index}]", None, value[index]) for index in reversed(range(len(value)))]


def _holding(containers: list[Any], wanted: type | tuple[type, ...]) -> set[int]:
    """Which of them, by identity, have a value of a wanted type somewhere within. Outer ones come first in the list."""
    found: set[int] = set()
    for node in reversed(containers):
        for value in node.values() if type(node) is dict else node:
            if id(value) in found or _is(value, wanted):
                found.add(id(node))
                break
    return found


def _is(value: Any, wanted: type | tuple[type, ...]) -> bool:
    return (
        isinstance(value, wanted)
        and not isinstance(value, bool)
        and (not isinstance(value, str) or bool(value.strip()))
    )

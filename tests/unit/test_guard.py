"""The content guard: what is refused, what is redacted, and that all else is left as it is."""

# ruff: noqa: RUF001  (letters in disguise are what some of these tests are about)

import functools
import json
import logging
import string
import time
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventlog.errors import InvalidInput, RejectedContent
from eventlog.model.events import Body
from eventlog.model.guard import (
    DEFAULT_REDACT_FIELDS,
    DEFAULT_REDACT_PATTERNS,
    DEFAULT_REFUSED_FIELDS,
    REDACTED,
    ContentGuard,
    folded,
)
from eventlog.model.payloads import encode_payload

GUARD = ContentGuard()
REDACTING = ContentGuard(redact=True)
SECRETS = {
    "OpenAI": "sk-proj-4f9a8b7c6d5e4f3a2b1c0d9e",
    "Anthropic": "sk-ant-api03-AbCdEfGhIjKlMnOpQrStUv_wx-yz",
    "Stripe": "sk_live_51H8abcdefGHIJKL",
    "GitHub": "ghp_16C7e42F292c6912E7710c838347Ae178B4a",
    "GitHub, fine-grained": "github_pat_11ABCDEFG0abcdefghijkl_mnopqrstuv",
    "GitLab": "glpat-20charactersAtLeastXy",
    "AWS": "AKIAIOSFODNN7EXAMPLE",
    "AWS, temporary": "ASIAIOSFODNN7EXAMPLE",
    "Google": "AIzaSyA-1234567890abcdefghijklmnopqrstu",
    "Slack": "xoxb-123456789012-abcdefghij",
    "JWT": "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9P",
    "PEM": "-----BEGIN RSA PRIVATE KEY-----\nMIIEpAIBAAKCAQEA\nabc=\n-----END RSA PRIVATE KEY-----",
    "PGP": "-----BEGIN PGP PRIVATE KEY BLOCK-----\n\nlQOYBF\n-----END PGP PRIVATE KEY BLOCK-----",
    "PEM, cut off": "-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBg",
}
LABELLED = {
    "Authorization: Bearer abcdef0123456789abcdef": f"Authorization: Bearer {REDACTED}",
    "see redis://user:hunter2@10.0.0.1:6379/0 for it": f"see redis://user:{REDACTED}@10.0.0.1:6379/0 for it",
    "postgres://:hunter2@db/app": f"postgres://:{REDACTED}@db/app",
    "GET /x?access_token=abcdef123456&page=2": f"GET /x?access_token={REDACTED}&page=2",
    "run --password=hunter2hunter2 now": f"run --password={REDACTED} now",
    "OPENAI_API_KEY=abcdefghijkl": f"OPENAI_API_KEY={REDACTED}",
}
INNOCENT = (
    "task-with-a-rather-long-hyphenated-name-2026",
    "a bearer of good news, https://example.com:8080/path?page=2&sort=asc, user@example.com",
    "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----",
    "AKIA is a prefix; so are sk- and ghp_",
    "token = 5; max_tokens=4096; x == y",
    "eyJ alone, and eyJhbGciOiJIUzI1NiJ9",
    "12:30:45 @noon http://host:80",
)


def screened(payload: dict[str, Any], guard: ContentGuard = GUARD) -> Body:
    body = Body.of("k", payload)
    clean = guard.screen(body)
    assert guard.screen(clean) is clean, "screening twice is screening once"
    if clean.payload_json == body.payload_json:
        assert clean is body
    assert clean._replace(payload_json=b"") == body._replace(payload_json=b"")
    assert guard.screen_json(body.payload_json) == clean.payload_json
    return clean


def taken(payload: dict[str, Any], guard: ContentGuard = GUARD) -> bool:
    try:
        screened(payload, guard)
    except RejectedContent:
        return False
    return True


def refused(payload: dict[str, Any], guard: ContentGuard = GUARD) -> str:
    with pytest.raises(RejectedContent) as caught:
        guard.screen(Body.of("k", payload))
    return caught.value.field


# Refusal


@pytest.mark.parametrize(
    "name",
    [
        "chain_of_thought",
        "chainOfThought",
        "ChainOfThought",
        "CHAIN_OF_THOUGHT",
        "chain-of-thought",
        "chain of thought",
        "chain.of/thought",
        "__chain__of__thought__",
        "chainofthought",
        "cot",
        "CoT",
        "scratchpad",
        "scratchPad",
        "hidden_reasoning",
        "raw_reasoning",
        "rawReasoning",
        "private_thoughts",
        "internal_monologue",
        "inner_monologue",
        "reasoning_trace",
        "unfiltered-thinking",
    ],
)
def test_hidden_chain_of_thought_is_refused_however_it_is_spelled(name: str) -> None:
    assert not taken({name: "First I think …"})


@pytest.mark.parametrize(
    "name",
    [
        "ｃｏｔ",
        "ＣＨＡＩＮ_ＯＦ_ＴＨＯＵＧＨＴ",
        "ſcratchpad",
        "c\u200bo\u200dt",
        "chain\u00a0of\u2013thought",
        "chain\tof\nthought",
        'chain"of"thought',
        "chain\\of\\thought",
        "c\x7fo\x00t",
        "𝐜𝐨𝐭",
        "raw ⅽot",
    ],
)
def test_a_name_in_disguise_is_the_same_name(name: str) -> None:
    assert not taken({"é": "—", "steps": [{name: "First I think …"}]})


@pytest.mark.parametrize(
    "payload",
    [
        {},
        {"reasoning": {"summary": "It is a sum."}},
        {"reasoning.summary": "It is a sum.", "reasoning_summary": "So is this.", "reasoningSummary": "And this."},
        {"reasoning": "visible", "thinking": "visible", "thought": "visible", "thoughts": ["visible"]},
        {"text": "my chain_of_thought: cot", "kind": "cot", "scratchpads": "plural", "cots": "beds", "écot": "x"},
        {"apricot": "fruit", "cotangent": "text", "cot_enabled": "yes", "cót": "x", "ćhain_of_thought": "x"},
        {"arguments": '{"chain_of_thought": "text is text"}'},
    ],
)
def test_visible_text_and_other_names_are_taken(payload: dict[str, Any]) -> None:
    assert screened(payload).payload_json == encode_payload(payload)


@pytest.mark.parametrize("value", [None, True, False, 0, 1.2, "", " \n", [], {}, [1, None, {"a": [False, ""]}]])
def test_a_field_that_holds_no_text_is_taken(value: Any) -> None:
    assert taken({"cot": value, "more": [{"chainOfThought": value}]})


@pytest.mark.parametrize("value", ["x", ["x"], {"a": "x"}, [1, [{"a": {"b": [None, "x"]}}]], {"cot": {"cot": "x"}}])
def test_a_field_that_holds_text_anywhere_is_refused(value: Any) -> None:
    assert refused({"a": 1, "cot": value}) == "payload.cot"


@pytest.mark.parametrize(
    ("payload", "path"),
    [
        ({"steps": [{}, {"chainOfThought": "x"}]}, "payload.steps[1].chainOfThought"),
        ({"a": {"b-c": [[1], [{"cot": "x"}]]}}, "payload.a.b-c[1][0].cot"),
        ({"chain of thought": "x"}, 'payload["chain of thought"]'),
        ({"": {"a\n": {"cot": "x"}}}, 'payload[""]["a\\n"].cot'),
        ({"ключ": {"cot": "x"}}, r'payload["\u043a\u043b\u044e\u0447"].cot'),
        ({"cot": 1, "z": {"cot": "first"}, "a": {"cot": "second"}}, "payload.z.cot"),
        ({"k" * 100: {"cot": "x"}}, 'payload["' + "k" * 60 + '\\u2026"].cot'),
    ],
)
def test_the_error_names_the_path(payload: dict[str, Any], path: str) -> None:
    assert refused(payload) == path


def test_a_path_that_is_very_long_is_cut_in_its_middle() -> None:
    payload: dict[str, Any] = {"cot": "x"}
    for _ in range(200):
        payload = {"inner": payload}
    path = refused(payload)
    assert path.startswith("payload.inner.inner")
    assert path.endswith(".inner.cot")
    assert len(path) < 210


def test_the_error_names_the_safe_alternative_and_never_the_content() -> None:
    with pytest.raises(RejectedContent, match=r"payload\.cot: .*reasoning\.summary") as caught:
        GUARD.screen(Body.of("k", {"cot": "hush-hush"}))
    assert "hush" not in str(caught.value)
    assert isinstance(caught.value, InvalidInput)
    assert str(caught.value.at(3)).startswith("events[3].payload.cot: ")
    assert type(caught.value.at(3)) is RejectedContent


def test_another_root_of_the_path_can_be_named() -> None:
    with pytest.raises(RejectedContent) as caught:
        GUARD.screen_json(b'{"cot":"x"}', "samples[0].guest")
    assert caught.value.field == "samples[0].guest.cot"


def test_a_refusal_is_warned_about_without_its_content(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "eventlog"):
        refused({"cot": "hush-hush"}, ContentGuard())
    (record,) = caplog.records
    assert (record.name, record.levelname) == ("eventlog", "WARNING")
    assert "payload.cot" in record.getMessage()
    assert "reasoning.summary" in record.getMessage()
    assert "hush" not in record.getMessage()


def test_a_chatty_producer_does_not_flood_the_log(caplog: pytest.LogCaptureFixture) -> None:
    now = 1000.0
    guard = ContentGuard(clock=lambda: now)
    with caplog.at_level(logging.WARNING, "eventlog"):
        for _ in range(500):
            refused({"cot": "x"}, guard)
        refused({"scratchpad": "x"}, guard)
        now += 60
        refused({"cot": "x"}, guard)
        refused({"cot": "x"}, guard)
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == 3, "one for each field, and one for what was held back"
    assert "499 more" in told[2]


def test_a_warning_is_one_line_whatever_the_names_are(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "eventlog"):
        refused({"a\n\x1b[2J": {"cot": "x"}}, ContentGuard())
    assert caplog.records[0].getMessage().isprintable()


def test_the_names_can_be_chosen() -> None:
    guard = ContentGuard(refused_fields=("Inner Voice", "draft*", "*_notes", "*secret*", "мысли"))
    for name in ("innerVoice", "DRAFT_1", "draft", "my-notes", "notes", "top_secret_plan", "Мысли", "МЫ_СЛИ"):
        assert not taken({"a": [{name: "x"}]}, guard), name
    for name in ("cot", "voice", "overdraft", "notes_of_mine", "мысль"):
        assert taken({"a": [{name: "x"}]}, guard), name


def test_no_names_refuse_nothing() -> None:
    assert taken({"chain_of_thought": "x", "é": "\n"}, ContentGuard(refused_fields=()))


@pytest.mark.parametrize("names", [["_"], [""], ["*"], [5], "cot", ["\u200b"]])
def test_a_name_that_is_none_is_refused(names: Any) -> None:
    for setting in ("refused_fields", "redact_fields"):
        with pytest.raises(InvalidInput) as caught:
            ContentGuard(**{setting: names})
        assert caught.value.field == setting


# Redaction


def test_nothing_is_redacted_unless_that_was_asked_for() -> None:
    payload = {"password": "hunter2", "text": list(SECRETS.values())}
    assert screened(payload).payload_json == encode_payload(payload)


@pytest.mark.parametrize("name", SECRETS)
def test_a_secret_is_taken_out_of_any_text(name: str) -> None:
    secret = SECRETS[name]
    end = "" if "cut off" in name else " and so on"
    payload = {"a": [1, {"b": f"it is {secret}{end}"}, secret], "c": "x", f"by {secret}": {"n": 1}}
    assert screened(payload, REDACTING).payload_json == encode_payload(
        {"a": [1, {"b": f"it is {REDACTED}{end}"}, REDACTED], "c": "x", f"by {REDACTED}": {"n": 1}}
    )


@pytest.mark.parametrize("text", LABELLED)
def test_of_a_secret_with_a_label_the_label_stays(text: str) -> None:
    assert screened({"x": text}, REDACTING).payload_json == encode_payload({"x": LABELLED[text]})


@pytest.mark.parametrize("text", INNOCENT)
def test_what_only_looks_a_little_like_a_secret_stays(text: str) -> None:
    payload = {"x": text, text: 1}
    assert screened(payload, REDACTING).payload_json == encode_payload(payload)


@pytest.mark.parametrize(
    "name",
    ["password", "db_password", "PGPASSWORD", "clientSecret", "OPENAI_API_KEY", "x-api-key", "AWS_SECRET_ACCESS_KEY",
     "Authorization", "proxy-authorization", "private_key", "Set-Cookie", "ｐassword", "pass\tword"],
)  # fmt: skip
def test_what_has_the_name_of_a_secret_is_redacted(name: str) -> None:
    for value in ("hunter2", 12345, 1.5, ["x"], {"user": "u", "value": "v"}):
        payload = {"env": [{name: value, "other": "stays"}]}
        assert screened(payload, REDACTING).payload_json == encode_payload(
            {"env": [{name: REDACTED, "other": "stays"}]}
        )


@pytest.mark.parametrize("value", [None, True, False, "", " ", [], {}, {"a": [None]}])
def test_a_secret_that_is_not_there_is_not_redacted(value: Any) -> None:
    payload = {"password": value, "secret": value}
    assert screened(payload, REDACTING).payload_json == encode_payload(payload)


@pytest.mark.parametrize("name", ["max_tokens", "token", "fencing_token", "passwordless", "secretary", "keys", "auth"])
def test_names_that_only_resemble_a_secret_are_left(name: str) -> None:
    payload = {name: "value"}
    assert screened(payload, REDACTING).payload_json == encode_payload(payload)


def test_keys_that_become_the_same_are_kept_apart() -> None:
    payload = {SECRETS["AWS"]: 1, "x": 0, SECRETS["GitHub"]: 2}
    assert screened(payload, REDACTING).payload_json == encode_payload({REDACTED: 1, "x": 0, "[redacted 2]": 2})


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        (("password=first1", "password=second2", "password=[redacted 2]"), (REDACTED, "[redacted 3]", "[redacted 2]")),
        (("password=[redacted]", "password=first1"), (REDACTED, "[redacted 2]")),
        (("password=[redacted 2]", "password=first1", "password=second2"), ("[redacted 2]", REDACTED, "[redacted 3]")),
    ],
)
def test_a_key_that_looks_redacted_already_keeps_its_name(keys: tuple[str, ...], expected: tuple[str, ...]) -> None:
    screened_once = screened(dict.fromkeys(keys, 1), REDACTING)
    assert list(orjson.loads(screened_once.payload_json)) == [f"password={name}" for name in expected]
    assert REDACTING.screen(screened_once) is screened_once


def test_what_is_hidden_is_refused_before_anything_is_redacted() -> None:
    assert refused({"password": "hunter2", "x": {"cot": SECRETS["AWS"]}}, REDACTING) == "payload.x.cot"


def test_fields_and_patterns_can_be_chosen() -> None:
    guard = ContentGuard(redact=True, redact_fields=("pin",), redact_patterns=(r"\d{4}-\d{4}", r"^x+$", r"\w+!"))
    payload = {"PIN": "1", "a": "card 1234-5678", "b": "xxx", "c": "yes! no", "password": "stays", "d": SECRETS["AWS"]}
    assert screened(payload, guard).payload_json == encode_payload(
        {**payload, "PIN": REDACTED, "a": f"card {REDACTED}", "b": REDACTED, "c": f"{REDACTED} no"}
    )


def test_a_part_of_the_patterns_that_are_built_in_can_be_chosen() -> None:
    guard = ContentGuard(redact=True, redact_fields=(), redact_patterns=DEFAULT_REDACT_PATTERNS[3:4])
    payload = {"a": SECRETS["GitHub, fine-grained"], "b": SECRETS["AWS"], "password": "stays"}
    assert screened(payload, guard).payload_json == encode_payload({**payload, "a": REDACTED})


@pytest.mark.parametrize("pattern", ["(", "a*", "", b"x", 5, "(?P<a>x)(?P<a>y)"])
def test_a_pattern_that_cannot_be_used_is_refused(pattern: Any) -> None:
    with pytest.raises(InvalidInput) as caught:
        ContentGuard(redact_patterns=(pattern,))
    assert caught.value.field == "redact_patterns"
    with pytest.raises(InvalidInput):
        ContentGuard(redact_patterns="a")


@pytest.mark.parametrize(
    "unit",
    ["eyJ", "eyJabcdefgh.", "sk-", "sk-a ", "ghp_", "://", "://a:", "://a:b", "a:b@", "Bearer ", "-----BEGIN ",
     "-----BEGIN A PRIVATE KEY", "-----BEGIN PRIVATE KEY-----", "-----END ", "token=", "AKIA", "xoxb-", "A", " ", "="],
)  # fmt: skip
def test_the_built_in_patterns_take_time_that_grows_with_the_text_alone(unit: str) -> None:
    def taken_s(size: int) -> float:
        raw = encode_payload({"x": (unit * size)[:size]})
        began = time.perf_counter()
        REDACTING.screen_json(raw)
        return time.perf_counter() - began

    # Whatever is quadratic takes minutes for a mebibyte; linear ones take a few hundredths of a second.
    assert taken_s(1_000_000) < 10


def nested(key: str, content: Any) -> dict[str, Any]:
    return functools.reduce(lambda inner, _: {key: inner}, range(250), content)


@pytest.mark.parametrize(
    "payload",
    [
        {f"password=secret{n}": n for n in range(40_000)},
        nested("cot", [None] * 400_000),
    ],
    ids=["keys that become equal", "hidden in hidden"],
)
def test_looking_takes_time_that_grows_with_the_payload_alone(payload: dict[str, Any]) -> None:
    began = time.perf_counter()
    REDACTING.screen_json(encode_payload(payload))
    # Whatever is quadratic takes minutes.
    assert time.perf_counter() - began < 10


# Whatever the payload

PLAIN = st.text(st.sampled_from('bdeghij kl{}[]:,"\\\n\té–思я'), max_size=8)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | PLAIN,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(PLAIN, inner, max_size=4),
    max_leaves=20,
)
SEPARATORS = st.text(st.sampled_from('_-. /\t\n"\\:–\u200b'), max_size=2)


@st.composite
def spelled(draw: st.DrawFn, names: tuple[str, ...]) -> str:
    """One of the names, in any case and with anything between its letters."""
    name = folded(draw(st.sampled_from(names)))
    return draw(SEPARATORS) + "".join(draw(st.sampled_from([c, c.upper()])) + draw(SEPARATORS) for c in name)


def step(key: str) -> str:
    """How a key is written in a path, said a second time."""
    plain = string.ascii_letters + string.digits + "_-"
    if len(key) <= 60 and key[0] not in string.digits + "-" and all(c in plain for c in key):
        return f".{key}"
    return f"[{json.dumps(key if len(key) <= 60 else key[:60] + '…')}]"


@st.composite
def planted(draw: st.DrawFn, content: Any) -> tuple[dict[str, Any], str]:
    """A payload that holds `content`, a pair of key and value, somewhere; and the path to it."""
    key, value = draw(content) if isinstance(content, st.SearchStrategy) else content
    node: Any = {key: value}
    path = step(key)
    for _ in range(draw(st.integers(0, 4))):
        before, after = draw(st.lists(VALUES, max_size=2)), draw(st.lists(VALUES, max_size=2))
        if draw(st.booleans()):
            node, path = [*before, node, *after], f"[{len(before)}]{path}"
        else:
            name = "in" + draw(PLAIN)
            others = {f"o{n}": other for n, other in enumerate(before)}
            node, path = {**others, name: node, "z": after}, step(name) + path
    return ({"list": node}, f"payload.list{path}") if isinstance(node, list) else (node, f"payload{path}")


@given(VALUES.filter(lambda value: isinstance(value, dict)))
def test_what_has_no_forbidden_name_is_returned_as_the_same_object(payload: dict[str, Any]) -> None:
    body = Body.of("k", payload)
    assert GUARD.screen(body) is body
    assert REDACTING.screen(body) is body


@given(planted(st.tuples(spelled(DEFAULT_REFUSED_FIELDS), st.just("a thought"))))
def test_what_has_a_forbidden_name_anywhere_is_refused_by_its_path(case: tuple[dict[str, Any], str]) -> None:
    payload, path = case
    for guard in (GUARD, REDACTING):
        found = refused(payload, guard)
        assert found == path or (len(path) > 200 and path.startswith(found[:90]) and path.endswith(found[-90:]))


@given(planted(st.tuples(spelled(tuple(name.strip("*") for name in DEFAULT_REDACT_FIELDS)), st.just("hunter2"))))
def test_a_field_with_a_secret_anywhere_is_redacted_and_nothing_else(case: tuple[dict[str, Any], str]) -> None:
    payload, _ = case
    expected = encode_payload(payload).replace(b'"hunter2"', b'"[redacted]"')
    assert screened(payload, REDACTING).payload_json == expected


@given(planted(st.sampled_from([("here", secret) for secret in SECRETS.values()])))
def test_a_secret_in_a_text_anywhere_is_redacted_and_nothing_else(case: tuple[dict[str, Any], str]) -> None:
    payload, _ = case
    expected = encode_payload(payload)
    for secret in SECRETS.values():
        expected = expected.replace(encode_payload({"": secret})[4:-1], b'"[redacted]"')
    assert screened(payload, REDACTING).payload_json == expected


@given(VALUES.filter(lambda value: isinstance(value, dict)), st.lists(st.sampled_from([*SECRETS.values(), *LABELLED])))
def test_redaction_with_patterns_of_ones_own_is_idempotent(payload: dict[str, Any], texts: list[str]) -> None:
    guard = ContentGuard(redact=True, redact_patterns=(r"\w+", "d", r"\[", *DEFAULT_REDACT_PATTERNS))
    screened({**payload, "texts": texts}, guard)


def test_many_pass_together_if_each_of_them_does() -> None:
    plain = [Body.of("k", {"text": f"a chain of thought {n}", "n": n}).payload_json for n in range(300)]
    hidden = Body.of("k", {"cot": "x"}).payload_json
    disguised = Body.of("k", {"ｃｏｔ": "x"}).payload_json
    secret = Body.of("k", {"text": "sk-" + "a" * 40}).payload_json
    guard, redacting = ContentGuard(), ContentGuard(redact=True)
    assert guard.passes(plain)
    assert guard.passes([])
    assert guard.passes([*plain, secret])
    assert not guard.passes([*plain, hidden])
    assert not guard.passes([disguised, *plain])
    assert not redacting.passes([*plain, secret])
    assert redacting.passes(plain)

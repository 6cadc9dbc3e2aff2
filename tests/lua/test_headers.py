"""A script's header says what the script takes and answers, a part's what it takes and gives: no more and no less."""

import re
from pathlib import Path

import pytest

import eventlog

PACKAGE = Path(eventlog.__file__).parent
FILES = {path.name if path.parent.name == "lua" else path.stem: path for path in PACKAGE.glob("*/lua/**/*.lua")}
SCRIPTS = sorted(name for name in FILES if name.endswith(".lua"))
PARTS = sorted(FILES.keys() - set(SCRIPTS))
INCLUDE = re.compile(r"^-- include \w+/(\w+)$", re.MULTILINE)


def source(name: str) -> str:
    """The text of a script (`x.lua`) or of a part (`x`), without what it includes."""
    return FILES[name].read_text("utf-8")


def parts(name: str) -> tuple[dict[str, str], str]:
    """The header's sections by their first word, and the code without comments, that of included parts too."""
    text = source(name)
    lines = text.splitlines()
    length = next(i for i, line in enumerate(lines) if not line.startswith("--"))
    sections: dict[str, str] = {}
    current = "purpose"
    for line in lines[:length]:
        said = line.removeprefix("--")
        word = re.match(r" (KEYS|ARGV|Returns|Takes|Gives)\b", said)
        if word:
            current = word[1]
        elif not said.strip():
            current = "rest"
        sections[current] = sections.get(current, "") + said + "\n"
    return sections, code_of("\n".join(lines[length:]))


def code_of(text: str) -> str:
    """The code in `text` without comments, each included part in its place."""
    whole = INCLUDE.sub(lambda found: parts(found[1])[1], text)
    return "\n".join(re.sub(r"--.*", "", line) for line in whole.splitlines())


def names_in(code: str) -> set[str]:
    """The variables that code speaks of: no fields, keys of tables, words of Lua, or text."""
    bare = re.sub(r"'[^'\n]*'", "''", code)
    bare = re.sub(r"([{,]\s*)\w+\s*=(?!=)", r"\1", bare)
    return set(re.findall(r"(?<![\w.:])[A-Za-z_]\w*", bare)) - LUA_WORDS


def made_in(code: str, *, outside_only: bool = False) -> set[str]:
    """The variables that code makes, those of functions and blocks too unless `outside_only`."""
    start = r"^" if outside_only else r"\b"
    made = re.findall(start + r"local (?!function)([\w, ]+)", code, re.MULTILINE)
    made += re.findall(start + r"local function (\w+)", code, re.MULTILINE)
    if not outside_only:
        made += re.findall(r"function[ \w]*\(([\w, .]*)\)", code) + re.findall(r"\bfor ([\w, ]+?) (?:in|=)", code)
        made += re.findall(r"\bfor (\w+) ?=", code)
    return {name.strip() for names in made for name in names.split(",")}


LUA_WORDS = set(
    re.findall(
        r"\w+",
        """and break do else elseif end false for function if in local nil not or repeat return then true until while
        redis string table math tonumber ipairs pairs unpack next KEYS ARGV""",
    )
)


def named(section: str) -> set[int]:
    """The numbers that a section of the header explains."""
    return {
        int(number)
        for number in re.findall(r"(?:^|\s{2,})(\d+) (?=\S)", section.replace("KEYS", "").replace("ARGV", ""))
    }


@pytest.mark.parametrize("name", SCRIPTS)
def test_the_header_opens_with_the_purpose(name: str) -> None:
    sections, _ = parts(name)
    purpose = sections["purpose"].strip()
    assert purpose[0].isupper()
    assert purpose.endswith(".")
    assert "Returns" in sections


@pytest.mark.parametrize("name", SCRIPTS)
@pytest.mark.parametrize("table", ["KEYS", "ARGV"])
def test_the_inputs_in_the_header_are_those_in_the_body(name: str, table: str) -> None:
    sections, code = parts(name)
    used = {int(number) for number in re.findall(rf"\b{table}\[(\d+)\]", code)}
    explained = named(sections.get(table, ""))
    assert bool(explained) == bool(used)
    assert explained == {number for number in used if number <= max(explained, default=0)}
    # What comes after the numbered arguments is read in a loop, and described in words.
    beyond = used - explained
    assert not beyond or "then" in sections[table], f"{table}{sorted(beyond)} are not in the header"


@pytest.mark.parametrize("name", SCRIPTS)
def test_the_words_a_script_returns_are_in_its_header(name: str) -> None:
    sections, code = parts(name)
    words = set(re.findall(r"(?:return |[,{] ?)\{'([a-z]+)'[,}]", code))
    assert words == set(re.findall(r"\{\"([a-z]+)\"", sections["Returns"]))


@pytest.mark.parametrize("name", SCRIPTS)
def test_no_script_looks_into_payloads_or_makes_globals(name: str) -> None:
    _, code = parts(name)
    for forbidden in ("cjson", "cmsgpack", "redis.pcall", "math.random", "tostring("):
        assert forbidden not in code
    functions = re.findall(r"^(\s*)(local )?function \w+", code, re.MULTILINE)
    assert all(local for _, local in functions)


@pytest.mark.parametrize("name", PARTS)
def test_a_part_opens_with_its_purpose_and_takes_and_gives(name: str) -> None:
    sections, code = parts(name)
    purpose = sections["purpose"].strip()
    assert purpose[0].isupper()
    assert purpose.endswith(".")
    assert "Takes" in sections
    assert "KEYS" not in sections
    assert not re.findall(r"^(?:return|answers = )", code, re.MULTILINE), "a part does not end a script"


@pytest.mark.parametrize("name", PARTS)
def test_a_part_takes_what_its_header_says(name: str) -> None:
    sections, code = parts(name)
    said = set(re.findall(r"\w+", sections["Takes"]))
    given = {each for other in said & set(PARTS) for each in made_in(parts(other)[1], outside_only=True)}
    taken = names_in(code) - made_in(code)
    assert taken <= said | given, "the header is silent about some"
    named_plainly = set(
        re.findall(r"(?:^|[,;]|\band) *(\w+)(?= *(?:\(|,|;|$))", sections["Takes"].split("Takes")[1], re.M)
    )
    assert named_plainly - set(PARTS) <= names_in(code), "the header speaks of some that are not taken"


@pytest.mark.parametrize("name", SCRIPTS)
def test_what_is_used_of_a_part_is_in_its_header_and_comes_from_somewhere(name: str) -> None:
    text = source(name)
    _, whole = parts(name)
    pieces = INCLUDE.split(text)
    made: set[str] = set()
    for i in range(1, len(pieces), 2):
        made |= made_in(code_of(pieces[i - 1]))
        sections, code = parts(pieces[i])
        assert names_in(code) <= made | made_in(code), f"{pieces[i]} takes what nobody made before"
        gives = set(re.findall(r"\w+", sections.get("Gives", "")))
        after = names_in("\n".join(code_of(f"-- include {p}" if j % 2 else p) for j, p in enumerate(pieces) if j > i))
        used = made_in(code, outside_only=True) & (after - made_in(code_of(pieces[i + 1])))
        assert used <= gives, f"{pieces[i]} gives more than it says"
        made |= made_in(code, outside_only=True)
    assert names_in(whole) <= made_in(whole), "globals"


def test_every_part_is_included_and_every_include_is_a_part() -> None:
    assert {part for name in SCRIPTS for part in INCLUDE.findall(source(name))} == set(PARTS)


def test_every_script_is_used() -> None:
    package = Path(eventlog.__file__).parent
    called = {
        name for file in package.rglob("*.py") for name in re.findall(r'script\("\w+/(\w+)"\)', file.read_text("utf-8"))
    }
    assert {f"{name}.lua" for name in called} == set(SCRIPTS)


def test_the_probe_tries_every_command_of_an_append() -> None:
    def commands(name: str) -> set[str]:
        return set(re.findall(r"redis\.p?call\('(\w+)'", parts(name)[1]))

    assert commands("log_append.lua") <= commands("log_probe.lua")

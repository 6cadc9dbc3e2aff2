"""Every script's header says what the script takes and answers, no more and no less."""

import re
from importlib.resources import files
from pathlib import Path

import pytest

import eventlog

SCRIPTS = sorted(path.name for path in files("eventlog.store").joinpath("lua").iterdir() if path.name.endswith(".lua"))


def parts(name: str) -> tuple[dict[str, str], str]:
    """The header's sections by their first word, and the code without comments."""
    text = files("eventlog.store").joinpath("lua", name).read_text("utf-8")
    lines = text.splitlines()
    length = next(i for i, line in enumerate(lines) if not line.startswith("--"))
    sections: dict[str, str] = {}
    current = "purpose"
    for line in lines[:length]:
        said = line.removeprefix("--")
        word = re.match(r" (KEYS|ARGV|Returns)\b", said)
        if word:
            current = word[1]
        elif not said.strip():
            current = "rest"
        sections[current] = sections.get(current, "") + said + "\n"
    code = "\n".join(re.sub(r"--.*", "", line) for line in lines[length:])
    return sections, code


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
    words = set(re.findall(r"return \{'([a-z]+)'", code))
    assert words == set(re.findall(r"\{\"([a-z]+)\"", sections["Returns"]))


@pytest.mark.parametrize("name", SCRIPTS)
def test_no_script_looks_into_payloads_or_makes_globals(name: str) -> None:
    _, code = parts(name)
    for forbidden in ("cjson", "cmsgpack", "redis.pcall", "math.random", "tostring("):
        assert forbidden not in code
    functions = re.findall(r"^(\s*)(local )?function \w+", code, re.MULTILINE)
    assert all(local for _, local in functions)


def test_every_script_is_used() -> None:
    package = Path(eventlog.__file__).parent
    called = {
        name for file in package.rglob("*.py") for name in re.findall(r'script\("(\w+)"\)', file.read_text("utf-8"))
    }
    assert {f"{name}.lua" for name in called} == set(SCRIPTS)

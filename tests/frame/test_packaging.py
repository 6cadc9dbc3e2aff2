"""What is installed, shipped and committed: pins, the wheel's contents, no package index by name."""

import importlib.metadata
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("eventlog", "server/eventlog_server")

# In two halves, so that this file is not its own first finding.
INDEX_HOSTS = [
    "pypi" + ".org",
    "python" + "hosted.org",
    "pypi" + ".python.org",
    "registry" + ".npmjs.org",
    "npmjs" + ".com",
    "deb" + ".debian.org",
    "archive" + ".ubuntu.com",
    "proxy" + ".golang.org",
    "crates" + ".io",
]
INDEX_OPTIONS = ["--index" + "-url", "--extra-index" + "-url", "--find" + "-links", "--trusted" + "-host"]


@cache
def project() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


@cache
def constraint_lines() -> list[str]:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def pinned_names() -> set[str]:
    return {canonicalize_name(Requirement(line).name) for line in constraint_lines()}


def is_our_own(requirement: Requirement) -> bool:
    """True where an extra only names other extras."""
    return requirement.name == project()["name"]


def direct_requirements() -> list[Requirement]:
    extras = project()["optional-dependencies"].values()
    texts = [*project()["dependencies"], *(text for extra in extras for text in extra)]
    return [requirement for requirement in map(Requirement, texts) if not is_our_own(requirement)]


def is_to_be_installed_here(requirement: Requirement) -> bool:
    """False for another platform's, and for a rival of the benchmarks that they have not installed yet."""
    if requirement.marker is not None and not requirement.marker.evaluate():
        return False
    installed = {canonicalize_name(each.name) for each in importlib.metadata.distributions()}
    rivals = project()["optional-dependencies"]["bench"]
    return str(requirement) not in rivals or canonicalize_name(requirement.name) in installed


def brought_along(requirement: Requirement) -> Iterator[str]:
    """The names that installing `requirement` here installs too, by the metadata of what is installed."""
    waiting, seen = [(requirement.name, frozenset(requirement.extras))], set()
    while waiting:
        name, extras = waiting.pop()
        if (name, extras) in seen:
            continue
        seen.add((name, extras))
        yield canonicalize_name(name)
        for text in importlib.metadata.requires(name) or []:
            needed = Requirement(text)
            if needed.marker is None or any(needed.marker.evaluate({"extra": e}) for e in {"", *extras}):
                waiting.append((needed.name, frozenset(needed.extras)))


def project_files() -> list[Path]:
    """Every file that is committed or could be: tracked or new, not ignored; without git, all but hidden."""
    command = ["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    try:
        listing = subprocess.run(command, capture_output=True, check=True).stdout.decode()
        paths = [ROOT / name for name in listing.split("\0") if name]
    except (FileNotFoundError, subprocess.CalledProcessError):
        paths = [
            path
            for path in ROOT.rglob("*")
            if not any(part.startswith(".") and part != ".ci" for part in path.relative_to(ROOT).parts)
        ]
    return [path for path in paths if path.is_file()]


def test_a_constraint_is_a_name_and_an_exact_version() -> None:
    assert constraint_lines()
    for line in constraint_lines():
        requirement = Requirement(line)
        assert requirement.url is None, line
        assert not requirement.extras, line
        assert [spec.operator for spec in requirement.specifier] == ["=="], line
        assert re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][0-9A-Za-z.!+]*(; [^@]+)?", line), line


def test_every_constraint_stands_once() -> None:
    names = [canonicalize_name(Requirement(line).name) for line in constraint_lines()]
    assert sorted(names) == sorted(set(names))


def test_a_dependency_and_all_that_it_brings_are_pinned() -> None:
    pinned = pinned_names()
    for requirement in direct_requirements():
        if is_to_be_installed_here(requirement):
            assert set(brought_along(requirement)) <= pinned, requirement
        else:
            assert canonicalize_name(requirement.name) in pinned, requirement


def test_the_pinned_version_is_one_that_the_project_accepts() -> None:
    pins = {canonicalize_name(pin.name): pin for pin in map(Requirement, constraint_lines())}
    for requirement in direct_requirements():
        (version,) = (spec.version for spec in pins[canonicalize_name(requirement.name)].specifier)
        assert requirement.specifier.contains(version), requirement
        assert any(spec.operator == ">=" for spec in requirement.specifier), f"{requirement} names no oldest"


def test_the_library_alone_is_light() -> None:
    core = {canonicalize_name(Requirement(text).name) for text in project()["dependencies"]}
    assert core == {"orjson", "platformdirs", "redis"}


def test_only_what_is_leant_on_beyond_its_public_names_has_an_upper_bound() -> None:
    bounded = {
        requirement.name
        for requirement in direct_requirements()
        if any(spec.operator == "<" for spec in requirement.specifier)
    }
    assert bounded == {"redis", "uvicorn", "httpx", "pytest"}


def test_all_is_every_part_that_runs() -> None:
    parts = set(project()["optional-dependencies"]) - {"all", "bench", "dev"}
    (everything,) = map(Requirement, project()["optional-dependencies"]["all"])
    assert is_our_own(everything)
    assert everything.extras == parts


def test_the_readme_is_part_of_the_metadata_once_there_is_one() -> None:
    assert project().get("readme") == ("README.md" if (ROOT / "README.md").exists() else None)


def is_leftover(name: str) -> bool:
    return name == "__pycache__" or name.startswith(".")


def test_the_wheel_carries_every_file_of_the_packages(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(tmp_path)],
        cwd=ROOT,
        check=True,
        capture_output=True,
        timeout=60,
    )
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if ".dist-info/" not in name}
        (entry_points,) = (n for n in archive.namelist() if n.endswith(".dist-info/entry_points.txt"))
        assert "eventlog = eventlog.cli:main" in archive.read(entry_points).decode()
    assert {name.partition("/")[0] for name in packed} == {"eventlog", "eventlog_server"}
    assert {"eventlog/py.typed", "eventlog_server/py.typed"} <= packed
    present = {
        path.relative_to(ROOT).as_posix().removeprefix("server/")
        for package in PACKAGES
        for path in (ROOT / package).rglob("*")
        if path.is_file() and not any(is_leftover(part) for part in path.relative_to(ROOT).parts)
    }
    assert packed == present


@pytest.mark.parametrize("package", PACKAGES)
def test_every_folder_of_modules_is_a_package(package: str) -> None:
    folders = {path.parent for path in (ROOT / package).rglob("*.py")}
    assert [str(each) for each in sorted(folders) if not (each / "__init__.py").exists()] == []


def findings(text: str, needles: list[str]) -> list[str]:
    lowered = text.lower()
    return [needle for needle in needles if needle in lowered]


def test_a_named_package_index_would_be_found() -> None:
    assert findings(f"see https://{INDEX_HOSTS[0].upper()}/simple", INDEX_HOSTS) == [INDEX_HOSTS[0]]
    assert findings(f"pip install {INDEX_OPTIONS[0]}=x", INDEX_OPTIONS) == [INDEX_OPTIONS[0]]


def test_no_file_names_a_package_index() -> None:
    files = project_files()
    assert ROOT / "pyproject.toml" in files
    found = {
        f"{path.relative_to(ROOT)}: {needle}"
        for path in files
        for needle in findings(path.read_text(encoding="utf-8", errors="ignore"), INDEX_HOSTS + INDEX_OPTIONS)
    }
    assert found == set()


def test_ci_is_executable_and_runs_the_checks_and_the_tests_on_both_engines() -> None:
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    text = script.read_text(encoding="utf-8")
    assert text.startswith("#!/usr/bin/env bash\n")
    assert "\nset -euo pipefail\n" in text
    calls = re.findall(r"(?m)^((?:\w+=\S+ )?)make +(\w+)", text)
    full, other = "EVENTLOG_TEST_FULL=1 ", "EVENTLOG_TEST_REDIS=$redis "
    assert calls == [("", "check"), ("", "generators"), (full, "test"), (other, "test")]
    subprocess.run(["bash", "-n", str(script)], check=True)


def test_the_makefile_knows_every_goal_that_the_docs_name() -> None:
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    goals = set(re.findall(r"(?m)^([a-z]+):", text))
    (phony,) = re.findall(r"(?m)^\.PHONY: (.+)$", text)
    assert {"setup", "demo", "test", "check", "serve", "bench", "clean"} <= goals
    assert goals <= set(phony.split())


@pytest.mark.xdist_group("together")
def test_what_is_marked_as_a_group_runs_in_one_process(request: pytest.FixtureRequest) -> None:
    # Each worker else starts the demo, the benchmarks and the servers that are to be started once.
    if getattr(request.config.option, "loadgroup", False):
        assert request.node.nodeid.endswith("@together")

"""A setting, script, key or error without docs is a defect."""

import re
from pathlib import Path

import pytest

from eventlog import EventLogConfig
from eventlog.store.keys import WorkspaceKeys

ROOT = Path(__file__).parents[2]


def _page(name: str) -> str:
    return (ROOT / "docs" / name).read_text("utf-8")


@pytest.mark.parametrize("name", sorted(EventLogConfig.model_fields))
def test_every_setting_of_the_log_is_documented_with_its_variable(name: str) -> None:
    assert f"`EVENTLOG_{name.upper()}` `{name}`" in _page("configuration.md")


@pytest.mark.parametrize("script", sorted(path.stem for path in (ROOT / "eventlog/store/lua").glob("*.lua")))
def test_every_script_is_documented(script: str) -> None:
    assert f"`{script}`" in _page("redis-layout.md")


@pytest.mark.parametrize("key", WorkspaceKeys.of("w"))
def test_every_key_is_documented(key: str) -> None:
    assert re.search(re.escape("`" + key) + r"(<\w+>)?`", _page("redis-layout.md"))


def test_the_architecture_names_every_room() -> None:
    page = _page("architecture.md")
    package = ROOT / "eventlog"
    rooms = [path.name + "/" for path in package.iterdir() if (path / "__init__.py").exists()]
    modules = [path.stem for path in package.glob("*.py") if not path.stem.startswith("__")]
    assert [room for room in rooms if room not in page] == []
    assert [module for module in modules if not re.search(rf"\b{module}\b", page)] == []

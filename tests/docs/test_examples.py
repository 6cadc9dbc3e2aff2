"""What the docs show is run: Python blocks as they stand, a page in one process, each block on a log of its own.

Those of the README run on the embedded server, as for somebody who has set nothing up; others on the tests' Redis.
"""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.redis_process import RedisProcess

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
# Run by the child: blocks come as JSON on standard input; a traceback names the line of the page.
RUN_EACH = """
import json, os, sys
prefix = os.environ["EVENTLOG_KEY_PREFIX"]
for number, (page, lines_above, source) in enumerate(json.load(sys.stdin)):
    os.environ["EVENTLOG_KEY_PREFIX"] = f"{prefix}.{number}"
    exec(compile("\\n" * lines_above + source, page, "exec"), {"__name__": "__main__"})
"""


def examples(page: Path) -> list[tuple[str, int, str]]:
    """The Python blocks of a page: its name, how many lines are above the block, and the block."""
    text = page.read_text("utf-8")
    return [
        (page.name, text.count("\n", 0, match.start(1)), match[1])
        for match in re.finditer(r"^```python\n(.*?)^```", text, re.M | re.S)
    ]


@pytest.mark.parametrize("page", [page for page in PAGES if examples(page)], ids=lambda page: page.name)
def test_the_python_examples_of_a_page_run_as_they_stand(
    page: Path, redis_server: RedisProcess, key_prefix: str, tmp_path: Path
) -> None:
    environ = {name: value for name, value in os.environ.items() if not name.startswith("EVENTLOG_")}
    environ |= {"PYTHONPATH": str(ROOT), "EVENTLOG_KEY_PREFIX": key_prefix}
    if page.name == "README.md":
        environ["EVENTLOG_DATA_DIR"] = str(tmp_path / "data")
    else:
        environ["EVENTLOG_REDIS_URL"] = redis_server.url
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", RUN_EACH],
        cwd=tmp_path,
        env=environ,
        input=json.dumps(examples(page)),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_there_are_examples_to_run() -> None:
    assert examples(ROOT / "README.md")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_relative_link_leads_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\((?!https?://|#)([^)#]+)", page.read_text("utf-8"))
    missing = [target for target in targets if not (page.parent / target).exists()]
    assert missing == []


def _anchors(page: Path) -> set[str]:
    """What GitHub makes of the headings: small letters, blanks as hyphens, and of signs only `-` and `_`."""
    text = re.sub(r"^```.*?^```", "", page.read_text("utf-8"), flags=re.M | re.S)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in re.findall(r"^#+ (.+)$", text, re.M)}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_to_a_heading_finds_it(page: Path) -> None:
    links = re.findall(r"\]\(((?!https?://)[^)#]*)#([^)]+)\)", page.read_text("utf-8"))
    pages = ((page.parent / target if target else page, anchor) for target, anchor in links)
    assert [anchor for target, anchor in pages if anchor not in _anchors(target)] == []

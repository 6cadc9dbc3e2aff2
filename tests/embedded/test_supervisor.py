"""The supervisor stays small, and needs nothing but the standard library."""

import subprocess
import sys
from pathlib import Path

from eventlog.embedded import EmbeddedRedis, supervisor
from tests.embedded.processes import supervisor_pid


def test_it_needs_the_standard_library_alone() -> None:
    script = f"import runpy, sys; runpy.run_path({supervisor.__file__!r}); print(*sys.modules)"
    ended = subprocess.run([sys.executable, "-I", "-S", "-c", script], capture_output=True, text=True, check=True)
    loaded = {name.partition(".")[0] for name in ended.stdout.split()}
    assert loaded <= sys.stdlib_module_names | {"__main__"}


def test_it_does_not_hold_files_or_descriptors_of_the_process_that_started_it(data_dir: Path) -> None:
    with open(data_dir.parent / "of the starter", "w") as file, EmbeddedRedis.start(data_dir) as server:
        proc = Path(f"/proc/{supervisor_pid(server)}/fd")
        if proc.is_dir():
            assert str(file.name) not in {str(fd.readlink()) for fd in proc.iterdir() if fd.is_symlink()}

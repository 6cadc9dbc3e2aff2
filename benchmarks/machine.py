"""What the figures were measured on and with."""

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

_PACKAGES = (
    "shared-eventlog",
    "redis",
    "hiredis",
    "orjson",
    "fastapi",
    "pydantic",
    "uvicorn",
    "uvloop",
    "httptools",
    "steindamm",
    "python-redis-lock",
)


def describe(redis_version: str) -> dict[str, Any]:
    """Processor, cores, load, and versions; null for a package that is not installed."""
    return {
        "cpu": _processor(),
        "cores": os.cpu_count(),
        "load_average_1min": round(os.getloadavg()[0], 2),
        "system": f"{platform.system()} {platform.release()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "server": f"{redis_version}, append-only file, fsync every second, unix socket",
        "packages": {name: _version(name) for name in _PACKAGES},
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor() or platform.machine())


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None

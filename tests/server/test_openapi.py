"""The documentation of the routes, and a machine that tries whatever it allows and forbids."""

from typing import Any

import pytest
import schemathesis
from eventlog_server import ServerSettings, create_app
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from eventlog.config import EventLogConfig
from tests.server.api import Api
from tests.support.extent import examples

DOCUMENT = create_app(ServerSettings(log=EventLogConfig(backend="memory"))).openapi()
ROUTES = {
    ("POST", "/v1/workspaces/{workspace}/events"),
    ("GET", "/v1/workspaces/{workspace}/events"),
    ("DELETE", "/v1/workspaces/{workspace}/events"),
    ("GET", "/v1/workspaces/{workspace}/events/{event_id}"),
    ("GET", "/v1/workspaces/{workspace}/events/stream"),
    ("GET", "/v1/workspaces/{workspace}/activity"),
    ("GET", "/v1/workspaces/{workspace}/log"),
    ("GET", "/v1/workspaces/{workspace}/runs"),
    ("GET", "/v1/workspaces/{workspace}/runs/{run_id}"),
    ("GET", "/v1/workspaces/{workspace}/runs/{run_id}/events"),
    ("GET", "/v1/workspaces/{workspace}/runs/{run_id}/stages"),
    ("GET", "/v1/workspaces/{workspace}/runs/{run_id}/telemetry"),
    ("POST", "/v1/workspaces/{workspace}/runs/{run_id}/telemetry"),
    ("POST", "/v1/workspaces/{workspace}/actions/{ref}/slots"),
    ("GET", "/v1/workspaces/{workspace}/actions/{ref}/slots/{execution_id}"),
    ("PUT", "/v1/workspaces/{workspace}/actions/{ref}/slots/{execution_id}/lease"),
    ("DELETE", "/v1/workspaces/{workspace}/actions/{ref}/slots/{execution_id}"),
    ("GET", "/v1/workspaces/{workspace}/actions"),
    ("DELETE", "/v1/workspaces/{workspace}/actions"),
    ("GET", "/v1/workspaces/{workspace}/actions/{ref}/queue-stats"),
    ("DELETE", "/v1/workspaces/{workspace}/actions/{ref}/queue"),
    ("PUT", "/v1/workspaces/{workspace}/actions/{ref}/limit"),
    ("DELETE", "/v1/workspaces/{workspace}/actions/{ref}/limit"),
    ("GET", "/v1/workspaces/{workspace}/policies"),
    *(
        (method, f"/v1/workspaces/{{workspace}}/policies/{scope}")
        for method in ("GET", "PUT", "DELETE")
        for scope in ("global", "{kind}/{name}")
    ),
    ("GET", "/v1/workspaces"),
    ("GET", "/healthz"),
    ("GET", "/readyz"),
}
OPERATIONS = {
    (method.upper(), path): operation
    for path, methods in DOCUMENT["paths"].items()
    for method, operation in methods.items()
}


def test_every_route_is_documented_with_its_problems() -> None:
    assert set(OPERATIONS) >= ROUTES
    for route, operation in OPERATIONS.items():
        assert operation["summary"], route
        assert operation["description"], route
        for status, answer in operation["responses"].items():
            assert answer["description"], (route, status)
            if int(status) >= 400:
                assert list(answer["content"]) == ["application/problem+json"], (route, status)


def test_routes_that_refuse_content_say_so() -> None:
    refusing = {route for route, operation in OPERATIONS.items() if "422" in operation["responses"]}
    assert refusing == {
        ("POST", "/v1/workspaces/{workspace}/events"),
        ("POST", "/v1/workspaces/{workspace}/runs/{run_id}/telemetry"),
    }


def test_every_reference_of_the_document_leads_somewhere() -> None:
    def references(node: Any) -> set[str]:
        if isinstance(node, dict):
            own = {node["$ref"]} if isinstance(node.get("$ref"), str) else set()
            return own.union(*(references(value) for value in node.values()))
        return set().union(*(references(value) for value in node)) if isinstance(node, list) else set()

    known = {f"#/components/schemas/{name}" for name in DOCUMENT["components"]["schemas"]}
    assert references(DOCUMENT) - known == set()
    assert "HTTPValidationError" not in DOCUMENT["components"]["schemas"]


CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
WITH_INPUT = sorted(route for route in ROUTES if "{" in route[1] and not route[1].endswith("/stream"))
WITHOUT_INPUT = sorted(route for route in ROUTES if "{" not in route[1])
ALLOWED, FORBIDDEN = GenerationMode.POSITIVE, GenerationMode.NEGATIVE
TRIED = settings(
    max_examples=examples(40),
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)


@pytest.mark.parametrize(
    ("route", "mode"),
    [(route, mode) for route in WITH_INPUT for mode in (ALLOWED, FORBIDDEN)] + [(r, ALLOWED) for r in WITHOUT_INPUT],
)
def test_no_request_that_can_be_made_up_breaks_a_route(
    server_url: str, api: Api, route: tuple[str, str], mode: GenerationMode
) -> None:
    """A stream has no end to be checked; its parameters have tests of their own."""
    api.fill(3, run_id="r")
    api.post({"kind": "stage.failed", "run_id": "r", "stage_name": "s", "payload": {"exit_code": 1, "duration_ms": 4}})
    api.client.post(f"{api.base}/actions/0/slots", json={"execution_id": "0"})
    api.client.post(f"{api.base}/runs/r/telemetry", json={"samples": [{"host": {"rss_bytes": 1}}, {"guest": {}}]})
    api.client.put(f"{api.base}/policies/action/0", json={"max_concurrent": 1})
    schema = schemathesis.openapi.from_url(server_url + "/openapi.json")
    operation = schema[route[1]][route[0]]

    def attempt(case: Any) -> None:
        if mode is ALLOWED and "workspace" in case.path_parameters:
            case.path_parameters["workspace"] = api.workspace
        if mode is ALLOWED and "run_id" in case.path_parameters:
            case.path_parameters["run_id"] = "r"
        if isinstance(case.body, dict) and type(case.body.get("wait_seconds")) in (int, float):
            case.body["wait_seconds"] = min(case.body["wait_seconds"], 0.01)  # as long as it may is too long here
        case.call_and_validate(base_url=server_url, checks=CHECKS)

    TRIED(given(case=operation.as_strategy(generation_mode=mode))(attempt))()

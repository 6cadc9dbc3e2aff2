"""The documentation of the routes, and a machine that tries whatever it allows and forbids."""

import re
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
    ("POST", "/v1/workspaces/{workspace}/events/batch"),
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
        ("POST", "/v1/workspaces/{workspace}/events/batch"),
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


def test_methods_of_generated_clients_have_short_names_and_arguments_in_the_order_of_the_path() -> None:
    names = [operation["operationId"] for operation in OPERATIONS.values()]
    assert len(set(names)) == len(names)
    assert all(re.fullmatch("[a-z_]{3,24}", name) for name in names)
    for (_, path), operation in OPERATIONS.items():
        wanted = re.findall(r"{(\w+)}", path)
        assert [one["name"] for one in operation.get("parameters", [])][: len(wanted)] == wanted


def test_no_field_has_a_default_that_a_generated_client_would_make_up_or_ask_for() -> None:
    fields = [
        (name, field, schema)
        for name, model in DOCUMENT["components"]["schemas"].items()
        for field, schema in model.get("properties", {}).items()
    ]
    assert len(fields) > 100
    assert [(name, field) for name, field, schema in fields if "default" in schema or "const" in schema] == []
    assert DOCUMENT["components"]["schemas"]["SlotOut"]["required"] == ["state", "max_concurrent", "time"]


def test_bodies_and_answers_have_one_form_each() -> None:
    def forms(content: dict[str, Any]) -> list[dict[str, Any]]:
        return [one["schema"] for one in content.values()]

    for route, operation in OPERATIONS.items():
        bodies = forms(operation.get("requestBody", {}).get("content", {}))
        answers = [form for answer in operation["responses"].values() for form in forms(answer.get("content", {}))]
        assert not [form for form in bodies + answers if "oneOf" in form or "anyOf" in form], route
        assert len(bodies) <= 1, route


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
        if route == ("POST", "/v1/workspaces/{workspace}/events") and isinstance(case.body, list):
            return  # a batch, which is documented in words: see /events/batch
        if isinstance(case.body, dict) and type(case.body.get("wait_seconds")) in (int, float):
            case.body["wait_seconds"] = min(case.body["wait_seconds"], 0.01)  # as long as it may is too long here
        case.call_and_validate(base_url=server_url, checks=CHECKS)

    TRIED(given(case=operation.as_strategy(generation_mode=mode))(attempt))()

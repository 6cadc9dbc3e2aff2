"""Policies: what limits the queues of all, of a pack, of an action. The most specific word on each limit wins."""

from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Depends, Request, Response

from eventlog.errors import InvalidInput, NotFound
from eventlog.slots.policy import NAME_PATTERN, Policy, StoredPolicy

from .. import schemas
from ..bodies import receive_object
from ..deps import Json, Workspace, logs_of
from ..parsing import no_query
from ..slot_requests import POLICY_KEYS, VERSION_PARAMETERS, expected_version

router = APIRouter(prefix="/v1/workspaces/{workspace}/policies", tags=["policies"])

_KINDS = ("pack", "action")


def _scope(request: Request) -> str:
    """The scope that the path names."""
    kind = request.path_params.get("kind")
    if kind is None:
        return "global"
    if kind not in _KINDS:
        raise InvalidInput("kind", f"{kind[:40]!r} is neither pack nor action")
    return f"{kind}/{request.path_params['name']}"


Scope = Annotated[str, Depends(_scope)]

_IF_MATCH = {"If-Match": 'As `expected_version`, as an ETag: `"3"`.'}
_NAMED = [
    {"name": "kind", "in": "path", "required": True, "schema": {"type": "string", "enum": list(_KINDS)}},
    {"name": "name", "in": "path", "required": True, "schema": {"type": "string", "pattern": f"^{NAME_PATTERN}$"}},
]


def _documented(*, named: bool, versioned: bool = False, requested: bool = False) -> dict[str, Any]:
    parameters = _NAMED if named else []
    if versioned:
        parameters = [*parameters, *schemas.parameters(*VERSION_PARAMETERS, headers=_IF_MATCH)]
    return {"parameters": parameters, **({"requestBody": schemas.body(schemas.PolicyIn)} if requested else {})}


def _answer(scope: str, stored: StoredPolicy) -> Response:
    document = orjson.dumps(_wire(scope, stored))
    return Json(document, headers={"ETag": f'"{stored.version}"'})


def _wire(scope: str, stored: StoredPolicy) -> dict[str, Any]:
    return {"scope": scope, "version": stored.version, **stored.policy.to_dict()}


@router.get(
    "",
    summary="All policies",
    response_class=Response,
    responses={200: schemas.answer("The policies.", schemas.PoliciesOut), **schemas.problems(400, 503)},
)
async def policies(request: Request, workspace: Workspace) -> Response:
    """All that are set, the queues' own limits among them."""
    no_query(request.scope["query_string"])
    logs = logs_of(request)
    found = await logs.bounded(logs.slots(workspace).policies(), writes=False)
    return Json(orjson.dumps({"policies": [_wire(str(scope), stored) for scope, stored in found.items()]}))


_READ: dict[str, Any] = {
    "summary": "One policy",
    "response_class": Response,
    "responses": {200: schemas.answer("The policy.", schemas.PolicyOut), **schemas.problems(400, 404, 503)},
}


@router.get("/global", **_READ)
@router.get("/{kind}/{name}", **_READ, openapi_extra=_documented(named=True))
async def read(request: Request, workspace: Workspace, scope: Scope) -> Response:
    """The limits of one scope, null for those that it leaves open; 404 if it is not set."""
    no_query(request.scope["query_string"])
    logs = logs_of(request)
    stored = await logs.bounded(logs.slots(workspace).get_policy(scope), writes=False)
    if stored is None:
        raise NotFound(f"no policy is set for {scope}")
    return _answer(scope, stored)


_WRITE: dict[str, Any] = {
    "summary": "Set a policy",
    "response_class": Response,
    "responses": {200: schemas.answer("Set.", schemas.PolicyOut), **schemas.problems(400, 408, 409, 413, 415, 503)},
}


@router.put("/global", **_WRITE, openapi_extra=_documented(named=False, versioned=True, requested=True))
@router.put("/{kind}/{name}", **_WRITE, openapi_extra=_documented(named=True, versioned=True, requested=True))
async def write(request: Request, workspace: Workspace, scope: Scope) -> Response:
    """Replace the policy of a scope; it takes effect at once. 409 `CONFLICT` if it has not the expected version."""
    expected = expected_version(request.scope)
    logs = logs_of(request)
    policy = Policy.of(**await receive_object(logs, request.scope, request.receive, POLICY_KEYS))
    put = logs.slots(workspace).put_policy(scope, policy, expected_version=expected)
    return _answer(scope, StoredPolicy(await logs.bounded(put), policy))


_REMOVE: dict[str, Any] = {
    "summary": "Remove a policy",
    "response_class": Response,
    "responses": {200: schemas.answer("Removed.", schemas.PolicyDeleted), **schemas.problems(400, 409, 503)},
}


@router.delete("/global", **_REMOVE, openapi_extra=_documented(named=False, versioned=True))
@router.delete("/{kind}/{name}", **_REMOVE, openapi_extra=_documented(named=True, versioned=True))
async def remove(request: Request, workspace: Workspace, scope: Scope) -> Response:
    """The scope's limits are left to the others from now on. Idempotent."""
    expected = expected_version(request.scope)
    logs = logs_of(request)
    version = await logs.bounded(logs.slots(workspace).delete_policy(scope, expected_version=expected))
    return Json(orjson.dumps({"scope": scope, "version": version}))

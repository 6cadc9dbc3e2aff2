"""Policies: what limits the queues of all, of a pack, of an action. The most specific word on each limit wins."""

from typing import Annotated, Any

from fastapi import Depends, Header, Query, Request, Response

from eventlog.errors import InvalidInput, NotFound
from eventlog.slots.policy import Policy, StoredPolicy

from ..answers import Json
from ..route import Slots, problems, routes
from ..schemas.base import NAME, Absent
from ..schemas.slots import PoliciesOut, PolicyDeleted, PolicyIn, PolicyOut, VersionQuery

router = routes("/{workspace}/policies", "policies")

_KINDS = ("pack", "action")
_NAMED: dict[str, Any] = {
    "openapi_extra": {
        "parameters": [
            {"name": "kind", "in": "path", "required": True, "schema": {"type": "string", "enum": list(_KINDS)}},
            {"name": "name", "in": "path", "required": True, "schema": {"type": "string", "pattern": NAME}},
        ]
    }
}


async def _scope(request: Request) -> str:
    """The scope that the path names."""
    kind = request.path_params.get("kind")
    if kind is None:
        return "global"
    if kind not in _KINDS:
        raise InvalidInput("kind", f"{kind[:40]!r} is neither pack nor action")
    return f"{kind}/{request.path_params['name']}"


async def _version(
    query: Annotated[VersionQuery, Query()],
    tag: Annotated[
        str | Absent,
        Header(alias="If-Match", pattern='^"[0-9]{1,15}"$', description='As `expected_version`, as an ETag: `"3"`.'),
    ] = None,
) -> int | None:
    """The version that a policy must have now."""
    if tag is None:
        return query.expected_version
    if query.expected_version is not None:
        raise InvalidInput("expected_version", "give it, or the header If-Match, not both")
    return int(tag.strip('"'))


Scope = Annotated[str, Depends(_scope)]
Version = Annotated[int | None, Depends(_version)]


def _wire(scope: str, stored: StoredPolicy) -> dict[str, Any]:
    return {"scope": scope, "version": stored.version, **stored.policy.to_dict()}


def _answer(scope: str, stored: StoredPolicy) -> Response:
    return Json(_wire(scope, stored), headers=[(b"etag", b'"%d"' % stored.version)])


@router.get("", summary="All policies", response_model=PoliciesOut)
async def list_policies(slots: Slots) -> Response:
    """All that are set, the queues' own limits among them."""
    found = await slots.policies()
    return Json({"policies": [_wire(str(scope), stored) for scope, stored in found.items()]})


_READ: dict[str, Any] = {
    "summary": "One policy",
    "response_model": PolicyOut,
    "responses": problems(404),
}


@router.get("/global", name="get_global_policy", **_READ)
@router.get("/{kind}/{name}", **_READ, **_NAMED)
async def get_policy(slots: Slots, scope: Scope) -> Response:
    """The limits of one scope, null for those that it leaves open; 404 if it is not set."""
    stored = await slots.get_policy(scope)
    if stored is None:
        raise NotFound(f"no policy is set for {scope}")
    return _answer(scope, stored)


_WRITE: dict[str, Any] = {
    "summary": "Set a policy",
    "response_model": PolicyOut,
    "responses": problems(408, 409, 413, 415),
}


@router.put("/global", name="set_global_policy", **_WRITE)
@router.put("/{kind}/{name}", **_WRITE, **_NAMED)
async def set_policy(slots: Slots, scope: Scope, expected: Version, asked: PolicyIn) -> Response:
    """Replace the policy of a scope; it takes effect at once. 409 `CONFLICT` if it has not the expected version."""
    policy = Policy.of(**asked.given())
    version = await slots.put_policy(scope, policy, expected_version=expected)
    return _answer(scope, StoredPolicy(version, policy))


_REMOVE: dict[str, Any] = {
    "summary": "Remove a policy",
    "response_model": PolicyDeleted,
    "responses": problems(409),
}


@router.delete("/global", name="delete_global_policy", **_REMOVE)
@router.delete("/{kind}/{name}", **_REMOVE, **_NAMED)
async def delete_policy(slots: Slots, scope: Scope, expected: Version) -> Response:
    """The scope's limits are left to the others from now on. Idempotent."""
    version = await slots.delete_policy(scope, expected_version=expected)
    return Json({"scope": scope, "version": version})

"""Activity: the newest events, told in words."""

from fastapi import APIRouter, Request, Response

from eventlog.log.reading import read_page

from .. import schemas
from ..deps import Json, Workspace, logs_of
from ..pages import encode_activity
from ..parsing import ACTIVITY_PARAMETERS, activity_request

router = APIRouter(prefix="/v1/workspaces/{workspace}", tags=["activity"])


@router.get(
    "/activity",
    summary="Latest activity",
    response_class=Response,
    responses={200: schemas.answer("The newest events.", schemas.ActivityOut), **schemas.problems(400, 503)},
    openapi_extra={"parameters": schemas.parameters(*ACTIVITY_PARAMETERS)},
)
async def activity(request: Request, workspace: Workspace) -> Response:
    """Newest first, 50 unless `limit` says otherwise, each with a one-line `summary`.

    Pass `cursor` as `until` to go further back.
    """
    wanted = activity_request(request.scope["query_string"])
    page = await logs_of(request).run(workspace, lambda log: read_page(log.core.backend, wanted))
    return Json(encode_activity(page))

"""The FastAPI route that everyone writes: a pydantic model, `await redis.xadd`, a dict as the answer."""

import socket
from multiprocessing.connection import Connection
from typing import Any

import orjson
import redis.asyncio
import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel

from .arena import MAX_ENTRIES


class NewEvent(BaseModel):
    """The body of a request."""

    kind: str
    payload: dict[str, Any]


def create_app(redis_url: str) -> FastAPI:
    """One route on one shared client."""
    app = FastAPI()
    client = redis.asyncio.Redis.from_url(redis_url)

    @app.post("/v1/workspaces/{workspace}/events", status_code=201)
    async def append(workspace: str, event: NewEvent) -> dict[str, str]:
        fields: dict[Any, Any] = {"kind": event.kind, "payload": orjson.dumps(event.payload)}
        event_id: Any = await client.xadd(f"events:{workspace}", fields, maxlen=MAX_ENTRIES, approximate=True)
        return {"id": event_id.decode()}

    return app


def serve(connection: Connection, redis_url: str) -> None:
    """Run it on a free loopback port, which is told through `connection`."""
    config = uvicorn.Config(
        create_app(redis_url), loop="uvloop", http="httptools", ws="none", access_log=False, log_level="warning"
    )
    with socket.create_server(("127.0.0.1", 0), backlog=128) as listener:
        connection.send("started")
        connection.send(listener.getsockname()[1])
        uvicorn.Server(config).run(sockets=[listener])

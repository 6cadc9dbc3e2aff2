"""Uses `made`, a client that was generated from the document, on the server and the workspace that are named."""

import importlib
import sys
from typing import Any

URL, WORKSPACE = sys.argv[1:]
models, client = importlib.import_module("made.models"), importlib.import_module("made").Client(URL)


def call(name: str, *path: str, **arguments: Any) -> Any:
    return importlib.import_module(f"made.api.{name}").sync(WORKSPACE, *path, client=client, **arguments)


event = call("events.append_event", body=models.EventIn(kind="a"))
batch = call("events.append_batch", body=[models.EventIn(kind="b"), models.EventIn(kind="c")])
assert [event.offset, *(one.offset for one in batch.events)] == [1, 2, 3]
assert "duplicate" not in event.to_dict()
assert [one.kind for one in call("events.read_events", since="0", kind=["b"]).events] == ["b"]

asked = [models.SlotIn(execution_id=name, max_concurrent=1) for name in ("e1", "e2")]
granted, queued = (call("slots.acquire_slot", "build", body=body) for body in asked)
assert (granted.state, queued.state, queued.position) == ("granted", "queued", 1)
assert "fencing_token" not in queued.to_dict()
assert call("slots.release_slot", "build", "e1").result == "released"
assert call("slots.get_slot", "build", "e2").state == "granted"
assert call("slots.get_slot", "build", "nobody").code == "NOT_FOUND"

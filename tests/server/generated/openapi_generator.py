"""Uses `made`, a client that was generated from the document, on the server and the workspace that are named."""

import importlib
import json
import sys
from typing import Any

URL, WORKSPACE = sys.argv[1:]
made: Any = importlib.import_module("made")

with made.ApiClient(made.Configuration(host=URL)) as client:
    events, slots = made.EventsApi(client), made.SlotsApi(client)
    event = events.append_event(WORKSPACE, made.EventIn(kind="a"))
    batch = events.append_batch(WORKSPACE, [made.EventIn(kind="b"), made.EventIn(kind="c", payload={"n": 1})])
    assert [event.offset, *(one.offset for one in batch.events)] == [1, 2, 3]
    assert event.duplicate is None
    assert [one.kind for one in events.read_events(WORKSPACE, since="0", kind=["b"]).events] == ["b"]

    asked = [made.SlotIn(execution_id=name, max_concurrent=1) for name in ("e1", "e2")]
    granted, queued = (slots.acquire_slot(WORKSPACE, "build", slot) for slot in asked)
    assert (granted.state, queued.state, queued.position) == ("granted", "queued", 1)
    assert queued.fencing_token is None
    assert slots.release_slot(WORKSPACE, "build", "e1").result == "released"
    assert slots.get_slot(WORKSPACE, "build", "e2").state == "granted"
    nobody = slots.get_slot_without_preload_content(WORKSPACE, "build", "nobody")
    assert json.loads(nobody.data)["code"] == "NOT_FOUND"

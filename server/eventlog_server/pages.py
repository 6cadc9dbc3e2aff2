"""Pages of events as bytes, spliced from the events' own JSON: nothing that is stored is decoded and encoded again."""

import orjson

from eventlog.model.cloudevents import to_cloudevent_json
from eventlog.model.events import ascii_json
from eventlog.model.pages import Page
from eventlog.runs.records import ReplayPage

from .problems import Headers
from .summary import summarize


def encode_page(page: Page) -> bytes:
    """The wire form of a page."""
    return _around([event.to_json() for event in page.events], page)


def encode_activity(page: Page) -> bytes:
    """A page whose events have a `summary`."""
    return _around(
        [
            b'%s,"summary":%s}' % (event.to_json()[:-1], ascii_json(orjson.dumps(summarize(event))))
            for event in page.events
        ],
        page,
    )


def encode_cloudevents(page: Page, workspace: str) -> bytes:
    """The events of a page as a batch of CloudEvents."""
    return b"[%s]" % b",".join([to_cloudevent_json(event, workspace) for event in page.events])


def encode_replay(page: ReplayPage) -> bytes:
    """The wire form of a page of a run's events."""
    rest = orjson.dumps(
        {
            "run_id": page.run_id,
            "cursor": page.cursor,
            "at_end": page.at_end,
            "missed": page.missed,
            "gap": None if page.gap is None else page.gap.to_dict(),
        }
    )
    return b'{"events":[%s],%s' % (b",".join([event.to_json() for event in page.events]), rest[1:])


def page_headers(page: Page) -> Headers:
    """What a page says beside its events, for answers that have no room for it."""
    headers = [
        (b"eventlog-cursor", page.cursor.encode()),
        (b"eventlog-at-end", b"true" if page.at_end else b"false"),
        (b"eventlog-epoch", page.epoch.encode()),
    ]
    if page.gap is not None:
        headers.append((b"eventlog-gap", orjson.dumps(page.gap.to_dict())))
    return headers


def _around(events: list[bytes], page: Page) -> bytes:
    rest = orjson.dumps(
        {
            "cursor": page.cursor,
            "gap": None if page.gap is None else page.gap.to_dict(),
            "at_end": page.at_end,
            "epoch": page.epoch,
        }
    )
    return b'{"events":[%s],%s' % (b",".join(events), rest[1:])

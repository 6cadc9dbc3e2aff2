"""How an execution is taken out of a queue by its name, whatever the colour: steps as in `waiting.py`.

It is looked for first, and then meant by the number of its acquisition: a copy of the call that arrives late takes
nothing from an acquisition that came since.
"""

from collections.abc import Generator
from typing import Any

from .acts import ANY, TOMB_MS, Cancel, Cancelled, Granted, Queued, Release, Released, Touch, others_key
from .operations import Left
from .request import Acquisition
from .waiting import Ask


def _find(acquisition: Acquisition) -> Generator[Ask, Any, str | None]:
    """Where the execution stands: `granted`, `queued` or None. The acquisition is its own from now on."""
    standing = yield Ask(Touch(acquisition.queue, acquisition.execution_id, ANY))
    if not isinstance(standing, Granted | Queued):
        return None
    acquisition.nonce, acquisition.doubtful = standing.nonce, False
    return "granted" if isinstance(standing, Granted) else "queued"


def leave(acquisition: Acquisition, key: str, not_after_ms: int | None) -> Generator[Ask, Any, Left]:
    """Give a slot back, or leave the line, with a `key` of the caller's or `ANY`. Says which it was."""
    stood: str | None = "granted"
    if key == ANY:
        stood = yield from _find(acquisition)
        if stood is None:
            return "none"
        key = others_key(acquisition.nonce)
    release = Release(acquisition.queue, acquisition.execution_id, key, TOMB_MS, not_after_ms)
    answer = yield Ask(release)
    if isinstance(answer, Released):
        return "released"
    if isinstance(answer, Cancelled):
        return "cancelled"
    if acquisition.doubtful and not_after_ms is None:
        # The reply was lost, not the call.
        return "released" if stood == "granted" else "cancelled"
    return "none"


def cancel(acquisition: Acquisition) -> Generator[Ask, Any, bool]:
    """Leave the line. True if it waited; a slot is kept."""
    if (yield from _find(acquisition)) != "queued":
        return False
    key = others_key(acquisition.nonce)
    answer = yield Ask(Cancel(acquisition.queue, acquisition.execution_id, key, TOMB_MS))
    return isinstance(answer, Cancelled) or (acquisition.doubtful and not isinstance(answer, Granted))

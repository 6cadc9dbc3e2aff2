"""What the tests of slots and policies over HTTP share."""

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import httpx

from tests.server.api import Api
from tests.support.redis_process import eventually


class Slots:
    """The slots of one action, as a client asks for them."""

    def __init__(self, api: Api, action: str = "build") -> None:
        self.api = api
        self.client = api.client
        self.path = f"{api.base}/actions/{action}"

    def take(self, execution: str, **asked: Any) -> httpx.Response:
        """Ask for a slot."""
        return self.client.post(f"{self.path}/slots", json={"execution_id": execution, **asked})

    def hold(self, execution: str, max_concurrent: int = 1, **asked: Any) -> int:
        """Get a slot at once; returns its fencing token."""
        answer = self.take(execution, max_concurrent=max_concurrent, **asked)
        assert (answer.status_code, answer.json()["state"]) == (200, "granted"), answer.text
        return int(answer.json()["fencing_token"])

    def queue(self, execution: str, max_concurrent: int = 1, **asked: Any) -> int:
        """Get a place; returns the position."""
        answer = self.take(execution, max_concurrent=max_concurrent, **asked)
        assert (answer.status_code, answer.json()["state"]) == (202, "queued"), answer.text
        return int(answer.json()["position"])

    def look(self, execution: str, query: str = "") -> httpx.Response:
        """See where an execution stands."""
        return self.client.get(f"{self.path}/slots/{execution}{query}")

    def state(self, execution: str, query: str = "") -> str:
        """`granted`, `queued`, or `none` for 404."""
        answer = self.look(execution, query)
        return "none" if answer.status_code == 404 else str(answer.json()["state"])

    def renew(self, execution: str, query: str = "", **asked: Any) -> httpx.Response:
        """Renew a lease."""
        return self.client.put(f"{self.path}/slots/{execution}/lease{query}", json=asked)

    def leave(self, execution: str, query: str = "") -> str:
        """Release or cancel; returns what was done."""
        answer = self.client.delete(f"{self.path}/slots/{execution}{query}")
        assert answer.status_code == 200, answer.text
        return str(answer.json()["result"])

    def stats(self, query: str = "") -> dict[str, Any]:
        """The queue as operators see it."""
        answer = self.client.get(f"{self.path}/queue-stats{query}")
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def waits(self, execution: str) -> None:
        """Wait until an execution is in the line."""
        eventually(
            lambda: execution in [waiter["execution_id"] for waiter in self.stats()["waiters"]], f"{execution} waits"
        )


@contextmanager
def meanwhile(call: Any, *args: Any, **more: Any) -> Iterator["Future[httpx.Response]"]:
    """A call that is under way in a thread while the block runs."""
    with ThreadPoolExecutor(1) as pool:
        yield pool.submit(call, *args, **more)

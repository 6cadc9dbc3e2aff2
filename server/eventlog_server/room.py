"""What the requests of a server hold until they are answered: counted in bytes, and bounded for the process."""

from starlette.types import Scope

from eventlog.errors import Overloaded

EVENT_BYTES = 1024
"""What an event holds beside its bytes in the request."""

_HELD = "eventlog.held"


class Room:
    """At most `most` bytes are held together; one that is larger has a place if it is alone."""

    def __init__(self, most: int) -> None:
        self._most = most
        self.held = 0

    def change(self, more: int) -> None:
        """Hold so much more, or less; raises `Overloaded` where there is no room for more."""
        if more > 0 and self.held and self.held + more > self._most:
            raise Overloaded(f"requests hold {self.held} bytes already")
        self.held += more

    def hold(self, scope: Scope, more: int) -> None:
        """The request of `scope` holds so much more, or less; raises `Overloaded`."""
        self.change(more)
        scope[_HELD] = scope.get(_HELD, 0) + more

    def leave(self, scope: Scope) -> None:
        """The request is answered."""
        self.held -= scope.pop(_HELD, 0)

"""No telemetry: nothing is kept, and every look finds nothing."""

from ..plan import at_once
from .base import Look, Push, Refusal, Stretch
from .sample import Kept


class DisabledTelemetry:
    """Beside a log that keeps nothing: no run is missing, and none has samples."""

    name = "disabled"
    capacity = 0

    @at_once
    def push(self, push: Push) -> list[Kept] | Refusal:
        """Nothing is kept."""
        return "disabled"

    @at_once
    def look(self, look: Look) -> Stretch | None:
        """There is nothing."""
        return Stretch([], look.from_seq, 0, 0, True)

"""No telemetry: nothing is kept, and every look finds nothing."""

from ..plan.effects import at_once
from .protocol import Added, Look, Push, Refusal, Stretch


class DisabledTelemetry:
    """Beside a log that keeps nothing: no run is missing, and none has samples."""

    name = "disabled"
    capacity = 0

    @at_once
    def push(self, push: Push) -> Added | Refusal:
        """Nothing is kept."""
        return "disabled"

    @at_once
    def look(self, look: Look) -> Stretch | None:
        """There is nothing."""
        return Stretch([], look.from_seq, 0, 0, True)

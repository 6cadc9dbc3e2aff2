"""The event bus: publish and subscribe within a process, or over a shared log. `bus.py` has what users call."""

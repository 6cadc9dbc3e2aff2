"""Telemetry: samples of what a run uses, in a bounded ring a run; and what takes them."""

"""Runs: what is known of one, its lanes in order, its stages, its replay. The log itself is elsewhere."""

"""Benchmarks against what a user would write without us. `python -m benchmarks`, or `make bench`.

Each contest is run in rounds, ours then theirs in every round, so that a machine that is slower for a while is slower
for both. A ratio is the median of the rounds' ratios. Nothing here is part of the installed package.
"""

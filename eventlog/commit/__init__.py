"""Group commit: appends made while a script call is in flight are collected and sent as one.

`threads.py` serves threads, `tasks.py` one event loop; `batch.py` holds what both decide alike.
"""

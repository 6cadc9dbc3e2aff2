"""`eventlog demo`: the server and a small fleet of real processes that share one log.

`show` starts and stops everything, `fleet` keeps the processes, `tether` runs inside each of them and ends it when the
demo is gone, `view` shows the log as it grows. The processes are modules of their own: `agent`, `builder`, `counter`.
"""

"""Running a real command under a slot: what `eventlog exec` does once it knows what is asked.

`performance` is the flow; `outcome` says what an end is called (pure). `group` starts the command in a process group
that `guardian` leads, and ends should we be gone; `terminal` lends it the terminal. `pump` passes its output through,
`lines` cuts that into lines (pure), `record` appends them in batches, bounded. `wakeups` is what the main thread waits
for. `slot` is all that is asked of a slot. Nothing here knows of Redis, of the command line's options, or of queues.
"""

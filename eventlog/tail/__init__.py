"""Live fan-out: one reader of Redis for all followers of all workspaces in a process."""

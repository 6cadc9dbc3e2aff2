"""All that knows Redis: scripts, keys, arguments and replies, connections, deadlines and retries."""

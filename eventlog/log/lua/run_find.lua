-- Look up one run.
--
-- KEYS    1 meta   2 the run
-- ARGV    1 retention, "ttl_ms max_entries", for a log that does not know it yet
-- Returns {now, the run's fields and values in turn}, none where no event of it is visible any more

local meta, run = KEYS[1], KEYS[2]
local retention = ARGV[1]

-- include log/run_visible

local visible = is_visible(redis.call('HGET', run, 'last'))
return {int(now), visible and redis.call('HGETALL', run) or {}}

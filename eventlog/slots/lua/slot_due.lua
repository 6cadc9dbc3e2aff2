-- Find the slot queues that somebody should look at: something has expired, or executions wait.
--
-- KEYS    1 queues   2 slots:, a prefix of keys
-- ARGV    1 how many queues to pass over   2 how many to look at
-- Returns how many were looked at, then the names of those, the most lately used first

local queues, prefix, from, number = KEYS[1], KEYS[2], tonumber(ARGV[1]), tonumber(ARGV[2])

local clock = redis.call('TIME')
local now = tonumber(clock[1]) * 1000 + math.floor(tonumber(clock[2]) / 1000)
local names = redis.call('ZREVRANGE', queues, from, from + number - 1)
local found = {#names}
for _, name in ipairs(names) do
  local due_at = redis.call('HGET', prefix .. name .. ':state', 'next')
  if (due_at and tonumber(due_at) <= now) or redis.call('EXISTS', prefix .. name .. ':line') == 1 then
    found[#found + 1] = name
  end
end
return found

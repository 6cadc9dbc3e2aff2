-- Acknowledge what is done, and remove consumers of a group that have nothing pending: one that leaves, and those that
-- were not heard of for long.
--
-- KEYS    1 log
-- ARGV    1 group   2 the consumer that leaves, or ""   3 idle_ms: the others, after so long
--         then the ids to acknowledge
-- Returns how many consumers were removed

local log = KEYS[1]
local group, leaving, idle_ms = ARGV[1], ARGV[2], tonumber(ARGV[3])

local found = false
if redis.call('EXISTS', log) == 1 then
  for _, fields in ipairs(redis.call('XINFO', 'GROUPS', log)) do
    for i = 1, #fields, 2 do found = found or (fields[i] == 'name' and fields[i + 1] == group) end
  end
end
if not found then return 0 end

for first = 4, #ARGV, 1000 do
  redis.call('XACK', log, group, unpack(ARGV, first, math.min(first + 999, #ARGV)))
end
local removed = 0
for _, fields in ipairs(redis.call('XINFO', 'CONSUMERS', log, group)) do
  local named = {}
  for i = 1, #fields, 2 do named[fields[i]] = fields[i + 1] end
  if named.pending == 0 and (named.name == leaving or named.idle > idle_ms) then
    redis.call('XGROUP', 'DELCONSUMER', log, group, named.name)
    removed = removed + 1
  end
end
return removed

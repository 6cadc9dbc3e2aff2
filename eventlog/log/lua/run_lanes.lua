-- The first event of each lane in a bounded stretch of a run's index.
--
-- KEYS    1 index of the run
-- ARGV    1 id to begin at   2 how many entries to look at
-- Returns {id of the last entry looked at, or "" where no more follow, then for each lane its name and the seq}

local index = KEYS[1]
local from, count = ARGV[1], tonumber(ARGV[2])

local entries = redis.call('XRANGE', index, from, '+', 'COUNT', count)
local found, seen = {#entries == count and entries[count][1] or ''}, {}
for _, entry in ipairs(entries) do
  local lane, seq = entry[2][1], entry[2][2]
  if not seen[lane] then
    seen[lane] = true
    found[#found + 1], found[#found + 2] = lane, seq
  end
end
return found

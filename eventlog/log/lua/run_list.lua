-- A bounded stretch of a workspace's runs, the one with the newest event first.
--
-- KEYS    1 meta   2 runs   3 run:, a prefix of keys
-- ARGV    1 below, an exclusive bound of the last event's offset, or "+inf"   2 how many to look at
--         3 how they may have ended: "" however, else kinds between blanks, " - " for not yet
--         4 retention, "ttl_ms max_entries", for a log that does not know it yet
-- Returns {now, offset of the last run looked at, or "" where no more follow, then for each run found its id and its
--         fields and values in turn}

local meta, runs, run_prefix = KEYS[1], KEYS[2], KEYS[3]
local below, count, endings, retention = ARGV[1], tonumber(ARGV[2]), ARGV[3], ARGV[4]

-- include log/run_visible

local max_score = below == '+inf' and below or '(' .. below
local listed = redis.call('ZREVRANGEBYSCORE', runs, max_score, '-inf', 'WITHSCORES', 'LIMIT', 0, count)
local found = {int(now), #listed == 2 * count and listed[#listed] or ''}
for i = 1, #listed, 2 do
  local key = run_prefix .. listed[i]
  local h = redis.call('HMGET', key, 'last', 'ended')
  if is_visible(h[1]) then
    if endings == '' or string.find(endings, ' ' .. (h[2] or '-') .. ' ', 1, true) then
      found[#found + 1], found[#found + 2] = listed[i], redis.call('HGETALL', key)
    end
  elseif h[1] then
    -- Offsets and times fall together: what follows is not visible either.
    found[2] = ''
    break
  end
end
return found

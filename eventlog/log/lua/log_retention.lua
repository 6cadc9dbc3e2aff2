-- Change how much a log keeps. What it keeps no more is out of sight at once; what it keeps longer expires later.
--
-- KEYS    1 log   2 meta   3 runs   4 run:   5 index:      (4 and 5 are prefixes of keys)
-- ARGV    1 ttl in ms or ""   2 max_entries or ""   ("" leaves it as it is)
--         3 retention, "ttl_ms max_entries", for a log that does not know it yet
--         4 an exclusive bound of the last offset of the runs to look at, or "+inf": a thousand a call
-- Returns the bound to go on with, or "" where no more runs follow

local log, meta, runs, run_prefix, index_prefix = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local ttl, max, retention, below = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local IDLE_MS, RUNS = 34560000000, 1000

local function int(n) return string.format('%.0f', n) end

local clock = redis.call('TIME')
local now = tonumber(clock[1]) * 1000 + math.floor(tonumber(clock[2]) / 1000)
local m = redis.call('HMGET', meta, 'epoch', 'ms', 'retention')
local own_ttl, own_max = string.match(m[3] or retention, '^(%d+) (%d+)$')
if ttl == '' then ttl = own_ttl end
if max == '' then max = own_max end
-- Upkeep is due with the next append.
redis.call('HSET', meta, 'retention', ttl .. ' ' .. max, 'upkeep', '0')
local last_ms = tonumber(m[2] or int(now))
redis.call('PEXPIREAT', meta, int(last_ms + ttl + IDLE_MS))
if not m[1] then return '' end

local expires = int(last_ms + ttl + math.min(math.floor(ttl / 16) + 1, 60000))
redis.call('XTRIM', log, 'MINID', '~', int(now - ttl + 1))
redis.call('XTRIM', log, 'MAXLEN', '~', max)
redis.call('PEXPIREAT', log, expires)
redis.call('PEXPIREAT', runs, expires)
local bound = below == '+inf' and below or '(' .. below
local listed = redis.call('ZREVRANGEBYSCORE', runs, bound, '-inf', 'WITHSCORES', 'LIMIT', 0, RUNS)
for i = 1, #listed, 2 do
  redis.call('PEXPIREAT', run_prefix .. listed[i], expires)
  redis.call('PEXPIREAT', index_prefix .. listed[i], expires)
end
return #listed == 2 * RUNS and listed[#listed] or ''

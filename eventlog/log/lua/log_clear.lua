-- Empty a log and keep its counters, so that offsets go on and readers know what they missed.
--
-- KEYS    1 log   2 meta   3 runs   4 run:   5 index:      (4 and 5 are prefixes of keys)   6 call
-- ARGV    1 call_ms, how long the call is remembered: repeated, it removes nothing that was appended since
-- Returns the number of visible events removed

local log, meta, runs, run_prefix, index_prefix, call = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]
local call_ms = ARGV[1]

local recorded = redis.call('GET', call)
if recorded then return tonumber(recorded) end

local clock = redis.call('TIME')
local now = tonumber(clock[1]) * 1000 + math.floor(tonumber(clock[2]) / 1000)
local m = redis.call('HMGET', meta, 'offset', 'cleared', 'retention')
if not m[1] then return 0 end
local offset = tonumber(m[1])
local ttl, max = string.match(m[3], '^(%d+) (%d+)$')
local floor = math.max(offset - max, tonumber(m[2] or '0'))
local from = string.format('%.0f', now - ttl + 1)

local removed = 0
local first = redis.call('XRANGE', log, from, '+', 'COUNT', 1)[1]
if first then
  removed = offset - math.max(tonumber(string.match(first[1], '-(%d+)$')) - 1, floor)
end
-- First what frees memory: Redis allows a script that has begun to write the rest, even where memory is short.
redis.call('UNLINK', log)
-- The stream's key will be a new one, without an expiry: upkeep is due with the next append.
redis.call('HSET', meta, 'cleared', m[1], 'upkeep', '0')
-- A bounded number at once; what is left has an expiry of its own and is below the cleared offset.
for _, run_id in ipairs(redis.call('ZREVRANGE', runs, 0, 999)) do
  local run = run_prefix .. run_id
  redis.call('UNLINK', run, index_prefix .. run_id, run .. '/ring', run .. '/samples')
end
redis.call('UNLINK', runs)
redis.call('SET', call, string.format('%.0f', removed), 'PX', call_ms)
return removed

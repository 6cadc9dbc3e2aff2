-- What of a log is visible now, so that a run is not confused with the remains of an evicted one.
--
-- Takes   meta (key), retention ("ttl_ms max_entries", for a log that does not know it yet)
-- Gives   now (ms of the Redis clock); is_visible(last) is true for a run whose last event's id is `last`; int(n);
--         ttl (ms), cleared (offset up to which the log was cleared), log_offset (the last one given)

local function int(n) return string.format('%.0f', n) end

local clock = redis.call('TIME')
local now = tonumber(clock[1]) * 1000 + math.floor(tonumber(clock[2]) / 1000)
local log_state = redis.call('HMGET', meta, 'offset', 'cleared', 'retention')
local ttl, max = string.match(log_state[3] or retention, '^(%d+) (%d+)$')
ttl = tonumber(ttl)
local cleared = tonumber(log_state[2] or '0')
local oldest_ms = now - ttl
local log_offset = tonumber(log_state[1] or '0')
local floor = math.max(log_offset - tonumber(max), cleared)

local function is_visible(last)
  local last_ms, last_offset = string.match(last or '', '^(%d+)-(%d+)$')
  return last_ms and tonumber(last_ms) > oldest_ms and tonumber(last_offset) > floor
end

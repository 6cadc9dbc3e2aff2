-- The beginning of every script that appends to a log: the clock, and where the log's counters stand.
--
-- Takes   log, meta (keys), retention ("ttl_ms max_entries", of the writer, for a log that is new)
-- Gives   now (ms of the Redis clock), clock; ms, offset, cleared, upkeep, retention of the log;
--         m[1] is its epoch, false if it is new; before, ms_text, first_text, id_prefix: an event is added under
--         id_prefix .. int(offset) after offset went up by one; int(n) writes a number in full

-- Lua writes 10^14 and above as 1e+14.
local function int(n) return string.format('%.0f', n) end

local clock = redis.call('TIME')
local now = tonumber(clock[1]) * 1000 + math.floor(tonumber(clock[2]) / 1000)
local m = redis.call('HMGET', meta, 'epoch', 'ms', 'offset', 'cleared', 'retention', 'upkeep')
local ms, offset, cleared, upkeep
retention = m[5] or retention
if m[1] then
  ms, offset, cleared, upkeep = tonumber(m[2]), tonumber(m[3]), tonumber(m[4] or '0'), tonumber(m[6])
else
  ms, offset, cleared, upkeep = 0, 0, 0, 0
  local last = redis.call('XREVRANGE', log, '+', '-', 'COUNT', 1)[1]
  if last then
    -- Only the counters were lost: what is resident goes on.
    local last_ms, last_offset = string.match(last[1], '^(%d+)-(%d+)$')
    ms, offset = tonumber(last_ms), tonumber(last_offset)
  else
    -- A new log is born a millisecond ahead of the clock, so every id of an earlier incarnation is older.
    ms = now + 1
  end
end
if now > ms then ms = now end
local before, ms_text, first_text = offset, int(ms), int(offset + 1)
local id_prefix = ms_text .. '-'

-- Empty slot queues at once, holders and waiters: an emergency. Counters, limits and fences go on.
--
-- KEYS    1 log   2 meta   3 "runs run: index:", a key and two prefixes   4 call   5 bell:
--         then six a queue: held, line, waits, book, state, rate
-- ARGV    1 "ttl_ms max_entries", should the log be new   2 a name for it then
--         3 call_ms, how long the call is remembered: repeated, it takes out no execution that came since
--         4 number of queues, then a name each
-- Returns {"cleared", holders, waiters}: how many were removed. Their leases are lost, and they find no way back.

local log, meta, run_keys, call, bells = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local retention, incarnation, call_ms, number_of_queues = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])

local recorded = redis.call('GET', call)
if recorded then
  local holders, waiters = string.match(recorded, '^(%d+) (%d+)$')
  return {'cleared', tonumber(holders), tonumber(waiters)}
end

-- include log/log_begin

local BELL_MS = 60000
local micros = int(tonumber(clock[1]) * 1000000 + tonumber(clock[2]))
local all_holders, all_waiters = 0, 0

-- The waiter at a bell looks again, and finds that its place is gone; a grant that lies there unread is taken back.
local function tell_waiters(book)
  for _, record in ipairs(redis.call('HVALS', book)) do
    local state, nonce, granted, bell, claim_end, fence =
      string.match(record, '^(%u) (%S+) %S+ (%S+) %S+ (%S+) (%S+) %S+ ?(%S*)$')
    if state == 'C' and bell ~= '-' then
      redis.call('LREM', bells .. bell, 0, nonce .. ' ' .. fence .. ' ' .. int(tonumber(claim_end) - tonumber(granted)))
    end
    if state ~= 'H' and bell ~= '-' then
      redis.call('RPUSH', bells .. bell, nonce .. ' 0 0')
      redis.call('PEXPIRE', bells .. bell, BELL_MS)
    end
  end
end

for number = 1, number_of_queues do
  local held, line, waits, book, state = unpack(KEYS, 6 * number, 6 * number + 4)
  local holders, waiters = redis.call('ZCARD', held), redis.call('ZCARD', waits)
  if holders + waiters > 0 then
    -- First what frees memory: Redis allows a script that has begun to write the rest, even where memory is short.
    redis.call('UNLINK', held, line, waits)
    tell_waiters(book)
    redis.call('UNLINK', book)
    redis.call('HSET', state, 'reset', micros)
    redis.call('HDEL', state, 'hold')
    local action, group = string.match(ARGV[4 + number], '^([^/]+)/?(.*)$')
    offset = offset + 1
    redis.call('XADD', log, id_prefix .. int(offset), 'kind', 'slot.cleared',
      'payload', '{"action":"' .. action .. (group ~= '' and '","group":"' .. group or '') .. '","holders":' .. int(holders)
        .. ',"waiters":' .. int(waiters) .. '}', 'visibility', 'internal')
    all_holders, all_waiters = all_holders + holders, all_waiters + waiters
  end
end
redis.call('SET', call, int(all_holders) .. ' ' .. int(all_waiters), 'PX', call_ms)
local touched   -- no event of ours belongs to a run
-- include log/log_end
return {'cleared', all_holders, all_waiters}
